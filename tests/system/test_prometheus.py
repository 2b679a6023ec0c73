"""The dashboard's and the alerts' queries against a real Prometheus that scrapes a real server while
it runs a job. (`promtool test rules`, in test_deploy.py, tells when an alert fires.)"""
import contextlib
import json
import math
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml

from harness import LIMIT, ROOT, Client, Server, submit, wait_for

ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/attnprune.json").read_text())
# What Grafana puts in place of its variables, with a step that suits a scrape every 200 ms.
GRAFANA = {"$__rate_interval": "10s", "$instance": ".*"}
# Series that begin with the first such event, which a healthy server never has. In their place the
# same metric's ordinary events show that the query is right.
EVENTS = {'code=~"INTERNAL|UNKNOWN|DATA_LOSS"': 'code="OK"',
          'outcome="numerical_error"': 'outcome="completed"'}


class Prometheus:
    """Scrapes one server as job "attnprune" every 200 ms, evaluates the alerts as often."""

    def __init__(self, folder, target):
        self.folder, self.url = folder, None
        folder.mkdir()
        (folder / "prometheus.yaml").write_text(json.dumps({
            "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "attnprune",
                                "static_configs": [{"targets": [target]}]}]}))

    def __enter__(self):
        log = self.folder / "log"
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.folder / 'prometheus.yaml'}",
                 f"--storage.tsdb.path={self.folder / 'data'}", "--web.listen-address=127.0.0.1:0"],
                stdout=out, stderr=subprocess.STDOUT)

        def address():
            assert self.process.poll() is None, log.read_text()
            return re.search(r'msg="Listening on" address=(\S+)', log.read_text())
        self.url = f"http://{wait_for(address, 'Prometheus listens').group(1)}/api/v1/"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def get(self, path, **arguments):
        url = f"{self.url}{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=LIMIT) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # still starting
                return None
            raise AssertionError(f"{arguments}: {error.read().decode()}") from error

    def has_data(self, expression):
        """A number at the least; NaN is what a rate of nothing divided by itself gives."""
        data = self.get("query", query=expression)
        return data and any(not math.isnan(float(sample["value"][1])) for sample in data["result"])

    def rules(self):
        data = self.get("rules") or {"groups": []}
        return {rule["name"]: rule for group in data["groups"] for rule in group["rules"]}


@pytest.fixture(scope="module", name="server")
def server_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prometheus")
    http_port = folder / "http-port"
    with Server(folder / "data", "--http-listen=127.0.0.1:0", f"--http-port-file={http_port}",
                "--checkpoint-interval=200ms") as server:
        server.http_port = int(http_port.read_text())
        yield server


@pytest.fixture(scope="module", name="prometheus")
def prometheus_fixture(server, tmp_path_factory):
    """It has seen two jobs end, after its first look at the server, and a third one runs on."""
    folder = tmp_path_factory.mktemp("prometheus") / "server"
    with Prometheus(folder, f"127.0.0.1:{server.http_port}") as running, \
            Client(server.address) as client:
        for scrape in range(2):  # a rate of what begins with its first event needs a second one
            wait_for(lambda: running.has_data(f"attnprune_jobs_created_total == {scrape}"),
                     "Prometheus has seen all jobs")
            client.finish(submit(client, methods=(("gd", {"steps": 50}),)).name)
        job = submit(client, methods=(("gd", {"steps": 1_000_000}),), evaluate_every=10).name
        client.wait_for_step(job, 10)
        running.traffic = lambda: client.get(job)
        yield running


def expect_data(prometheus, expressions):
    """Each has a number within the limit."""
    missing = list(expressions)

    def none_is_missing():
        prometheus.traffic()  # calls for the rates of the last seconds
        missing[:] = [expression for expression in missing if not prometheus.has_data(expression)]
        return not missing
    with contextlib.suppress(AssertionError):
        wait_for(none_is_missing, "every query has data")
    assert missing == []


def dashboard_queries():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for variable, value in GRAFANA.items():
                expression = expression.replace(variable, value)
            assert "$" not in expression, expression
            yield expression


def alert_rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def without_thresholds(expression):
    """`x > 5` gives nothing unless it holds; `x > bool 5` gives 0 or 1 wherever x has a number."""
    for absent, present in EVENTS.items():
        expression = expression.replace(absent, present)
    compared = re.sub(r"(==|[<>]=?)\s+(?=[\d.])", r"\1 bool ", expression)
    assert compared != expression, expression
    return compared


def test_every_query_of_the_dashboard_has_data_during_a_job(prometheus):
    queries = list(dashboard_queries())
    assert len(queries) > 50
    expect_data(prometheus, queries)


def test_the_dashboard_finds_the_servers_to_choose_from(prometheus, server):
    variable = next(v for v in DASHBOARD["templating"]["list"] if v["name"] == "instance")
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
    wait_for(lambda: prometheus.get(f"label/{label}/values", **{"match[]": metric}) ==
             [f"127.0.0.1:{server.http_port}"], "the server is among the choices")


def test_every_alert_looks_at_data_that_there_is(prometheus):
    expect_data(prometheus, [without_thresholds(rule["expr"]) for rule in alert_rules()])


def test_prometheus_evaluates_every_alert_and_a_healthy_server_raises_none(prometheus):
    names = {rule["alert"] for rule in alert_rules()}
    wait_for(lambda: {name for name, rule in prometheus.rules().items() if rule["health"] == "ok"}
             == names, "every rule is evaluated")
    assert [name for name, rule in prometheus.rules().items() if rule["state"] == "firing"] == []


def test_a_killed_server_is_noticed(prometheus, server):  # the last one: it kills the server
    server.kill()
    wait_for(lambda: prometheus.rules()["AttnpruneDown"]["state"] == "pending", "the alert is raised")
