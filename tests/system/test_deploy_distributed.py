"""What deploy/ holds for several servers: by validators, and HAProxy's configuration in front of real ones."""
import os
import re
import socket
import subprocess
import urllib.parse

import grpc
import pytest
import yaml

from harness import BIN, LIMIT, Client, cli, submit, wait_for
from postgres import Postgres
from replica_set import Replicas, new_dice
from s3 import SmallS3
from test_deploy import COMPOSE, DEPLOY, UNIT, drain_default, kustomized, problems, run, succeeded, unknown_flags

FOLDER = DEPLOY / "distributed"
TEMPLATE = DEPLOY / "systemd/attnprune@.service"
ADAPTER = DEPLOY / "kubernetes/monitoring/prometheus-adapter.yaml"


# --- compose ---

def compose_config(file, **passwords):
    return run("docker-compose", "-f", file, "--profile", "job", "config", env={**os.environ, **passwords})


@pytest.fixture(scope="module", name="compose")
def compose_fixture():
    ended = compose_config(FOLDER / "compose.yaml", DATABASE_PASSWORD="opensesame", BUCKET_PASSWORD="openbarley")
    assert ended.returncode == 0, ended.stderr
    return yaml.safe_load(ended.stdout)


def test_compose_without_passwords_says_how_they_are_made():
    ended = compose_config(FOLDER / "compose.yaml")
    assert ended.returncode != 0 and "make .env, as the head of compose.yaml says" in ended.stderr
    made = re.search(r"printf .*?\.env", (FOLDER / "compose.yaml").read_text().replace("\n#", ""), re.S).group()
    assert {"DATABASE_PASSWORD", "BUCKET_PASSWORD"} <= set(re.findall(r"\w+_PASSWORD", made))


def test_two_servers_share_a_database_and_a_bucket_and_only_the_proxy_has_their_ports(compose):
    services = compose["services"]
    server = services["server"]
    assert server["deploy"]["replicas"] == 2
    assert unknown_flags(server["command"]) == set()
    store, blobs = (urllib.parse.urlparse(server["environment"][name]) for name in ("ATTNPRUNE_STORE", "ATTNPRUNE_BLOBS"))
    assert (store.hostname, store.password) == ("database", services["database"]["environment"]["POSTGRES_PASSWORD"])
    endpoint = urllib.parse.parse_qs(blobs.query)["endpoint"][0]
    assert urllib.parse.urlparse(endpoint).hostname == "objects"
    assert server["environment"]["AWS_SECRET_ACCESS_KEY"] == services["objects"]["environment"]["MINIO_ROOT_PASSWORD"]
    assert services["bucket"]["command"][-1] == f"place/{blobs.netloc}"
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(ports) == {"proxy", "prometheus", "grafana"}
    assert all(str(port).startswith("127.0.0.1:") for of_one in ports.values() for port in of_one)


def test_compose_gives_no_container_more_than_it_needs(compose):
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    server = compose["services"]["server"]
    assert server["read_only"] is True
    assert int(server["stop_grace_period"].rstrip("s")) >= 2 * drain_default()


def test_the_job_of_compose_is_that_of_the_other_form_through_the_proxy(compose):
    other = yaml.safe_load(COMPOSE.read_text())["services"]["job"]["command"]
    assert [argument.replace("=proxy:", "=server:") for argument in compose["services"]["job"]["command"]] == other


# --- the proxy ---

def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Proxy:
    """HAProxy by our configuration, whose names of containers are the servers' addresses."""

    def __init__(self, folder, servers, http_ports):
        self.port, self.http_port = free_port(), free_port()
        text = (FOLDER / "haproxy.cfg").read_text()

        def lines(template, address):
            options = template.group(2).replace("8080", "{http}")
            return "\n".join(f"  server s{i} {address.format(grpc=server.port, http=http)} "
                             f"{options.format(http=http)}" for i, (server, http) in enumerate(zip(servers, http_ports)))
        text, grpc_lines = re.subn(r"  server-template (server- 10 server:50051) (.*)",
                                   lambda found: lines(found, "127.0.0.1:{grpc}"), text)
        text, http_lines = re.subn(r"  server-template (server- 10 server:8080)(.*)",
                                   lambda found: lines(found, "127.0.0.1:{http}"), text)
        assert (grpc_lines, http_lines) == (1, 1)
        text = text.replace("bind :50051", f"bind 127.0.0.1:{self.port}")
        text = text.replace("bind :8080", f"bind 127.0.0.1:{self.http_port}").replace(" init-addr none", "")
        self.file, self.log = folder / "haproxy.cfg", folder / "haproxy.log"
        self.file.write_text(text)
        self.process = None

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["haproxy", "-db", "-f", self.file], stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def test_the_proxys_configuration_is_valid():
    succeeded("haproxy", "-q", "-c", "-f", FOLDER / "haproxy.cfg")


def test_one_port_leads_to_all_servers_and_to_none_that_drains(tmp_path, monkeypatch):
    with Postgres() as database, SmallS3() as bucket:
        for name, value in bucket.keys.items():
            monkeypatch.setenv(name, value)
        flags = ("--store", database.url, "--blobs", bucket.url, "--http-listen", "127.0.0.1:0")
        several = Replicas(tmp_path, 2, flags, new_dice())
        files = [tmp_path / f"http{number}" for number in range(2)]
        for server, file in zip(several.servers, files):
            server.flags = (*server.flags, "--http-port-file", file)
        with several:
            http_ports = [file.read_text().strip() for file in files]
            for server, port in zip(several.servers, http_ports):  # which they keep
                server.flags = (*flags[:-1], f"127.0.0.1:{port}")
            with Proxy(tmp_path, several.servers, http_ports) as proxy:
                follow_a_job(several, f"127.0.0.1:{proxy.port}")
                page = succeeded("curl", "-sf", "--retry", "20", "--retry-delay", "1",
                                 f"http://127.0.0.1:{proxy.http_port}/api/v1/jobs")
                assert '"jobs/' in page


def answers(client, name):
    try:
        return client.get(name).name == name
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return False


def cancels(client, name):
    return answers(client, name) and client.cancel(name).cancel_requested


def follow_a_job(several, address):
    """Through the proxy, while each server in turn drains and comes back."""
    wait_for(lambda: cli("health", "--server", address).returncode == 0, "a server is ready", pause=0.1)
    with Client(address) as client:
        name = submit(client, methods=(("gd", {"steps": 1000000}),)).name
        watch = subprocess.Popen([BIN / "attnprune", "watch", name, "--server", address], stdout=subprocess.DEVNULL)
        try:
            for server in several.servers:
                # The other one alone answers all calls, once the proxy has noticed both.
                wait_for(lambda: all(answers(client, name) for _ in range(10)), "both answer", pause=0.1)
                assert server.terminate() == 0
                wait_for(lambda: all(answers(client, name) for _ in range(10)), "the other answers", pause=0.1)
                server.start()
            wait_for(lambda: cancels(client, name), "it is to end")
            assert watch.wait(LIMIT) == 1, "it followed the job to its end"
        finally:
            watch.kill()
            watch.wait()


# --- Kubernetes ---

@pytest.fixture(scope="module", name="manifests")
def manifests_fixture():
    return kustomized("kubernetes/distributed")


def test_kubernetes_has_all_manifests_and_each_has_the_form_of_its_kind(manifests):
    assert set(manifests) == {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "NetworkPolicy"}
    assert [problem for manifest in manifests.values() for problem in problems(manifest)] == []


def test_a_wrong_autoscaler_would_be_seen(manifests):
    wrong = {**manifests["HorizontalPodAutoscaler"]}
    wrong["spec"] = {**wrong["spec"], "maxReplica": 10}
    assert problems(wrong) != []


def test_kubernetes_manifests_find_one_another(manifests):
    deployment = manifests["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "it would fight with the autoscaler"
    assert scaler["minReplicas"] >= 2


def test_the_autoscalers_metric_is_one_that_the_adapter_makes_of_ours(manifests, tmp_path):
    metric, = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    rule, = yaml.safe_load(ADAPTER.read_text())["rules"]["external"]
    assert metric["external"]["metric"]["name"] == rule["name"]["as"]
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="attnprune"')
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [
        {"name": "adapter", "rules": [{"record": "outstanding", "expr": query}]}]}))
    series = {f'attnprune_jobs{{namespace="attnprune",state="{state}",instance="{instance}"}}': count
              for instance in "ab" for state, count in (("queued", 5), ("running", 2), ("failed", 9))}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [{
        "interval": "1m", "input_series": [{"series": name, "values": f"{count}x5"} for name, count in series.items()],
        "promql_expr_test": [{"expr": "outstanding", "eval_time": "3m",
                              "exp_samples": [{"labels": "outstanding", "value": 7}]}]}]}))
    succeeded("promtool", "test", "rules", tmp_path / "test.yaml")


def test_both_forms_differ_only_where_they_must(manifests):
    embedded = kustomized("kubernetes/embedded")
    assert manifests["Service"] == embedded["Service"]
    for key in ("podSelector", "policyTypes", "ingress"):
        assert manifests["NetworkPolicy"]["spec"][key] == embedded["NetworkPolicy"]["spec"][key]
    other = embedded["StatefulSet"]["spec"]["template"]["spec"]
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    server, other_server = (spec["containers"][0] for spec in (pod, other))
    assert unknown_flags(server["args"]) == set()
    for key in ("image", "ports", "securityContext", "startupProbe", "readinessProbe", "livenessProbe", "volumeMounts", "env"):
        assert server[key] == other_server[key], key
    for key in ("securityContext", "terminationGracePeriodSeconds", "nodeSelector", "automountServiceAccountToken"):
        assert pod[key] == other[key], key
    volume, = pod["volumes"]
    limit = server["resources"]["limits"]["ephemeral-storage"]
    assert int(limit.removesuffix("Gi")) > int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")), "and a log beside it"


# --- systemd ---

def test_systemd_takes_every_line_of_the_template(tmp_path):
    unit = tmp_path / "attnprune@50051.service"
    unit.write_text(TEMPLATE.read_text().replace("/usr/local/bin", str(BIN)))
    target = tmp_path / "attnprune.target"
    target.write_text((DEPLOY / "systemd/attnprune.target").read_text())
    ended = run("systemd-analyze", "verify", "--man=no", unit, target)
    assert (ended.returncode, ended.stderr) == (0, "")
    succeeded("systemd-analyze", "security", "--offline=true", "--threshold=15", TEMPLATE)


def test_the_template_has_the_sandbox_of_the_unit():
    def sandbox(unit):
        text = unit.read_text()
        return [line for line in text[text.index("RestrictAddressFamilies="):].splitlines()
                if not line.startswith(("#", "WantedBy="))]
    assert sandbox(TEMPLATE) == sandbox(UNIT)
    line = re.search(r"^ExecStart=\S+ (.*)$", TEMPLATE.read_text(), re.M).group(1)
    assert unknown_flags(line.replace("$ATTNPRUNE_FLAGS", "").split()) == set()


# --- Prometheus ---

def test_promtool_takes_the_configuration_for_several_servers():
    succeeded("promtool", "check", "config", DEPLOY / "prometheus/replicas.yaml")
