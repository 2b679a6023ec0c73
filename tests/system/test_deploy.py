"""What deploy/ holds, each file by a validator of its kind, and against the programs and one another. The form with several
servers is test_deploy_distributed.py's.

A container, a cluster and a systemd are not started here: `./dev.sh container` runs the image.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml

from harness import BIN, LIMIT, MODEL, ROOT, Server, cli

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
UNIT = DEPLOY / "systemd/attnprune.service"
ALERTS = DEPLOY / "prometheus/alerts.yaml"
DASHBOARD = DEPLOY / "grafana/dashboards/attnprune.json"
SCHEMA = json.loads((ROOT / "tests/deploy/kubernetes.schema.json").read_text())


def run(*command, **options):
    return subprocess.run([*map(str, command)], text=True, capture_output=True, timeout=LIMIT,
                          check=False, **options)


def succeeded(*command, **options):
    """What the command printed; fails unless it ended with 0 and complained of nothing."""
    ended = run(*command, **options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def server_flags():
    return set(re.findall(r"--[a-z-]+", succeeded(BIN / "attnprune-server", "--help")))


def unknown_flags(arguments):
    return {argument.split("=")[0] for argument in arguments} - server_flags()


# --- the end ------------------------------------------------------------------------------------

def drain_default():
    """Seconds, as --help has them."""
    text = succeeded(BIN / "attnprune-server", "--help")
    return int(re.search(r"--drain-timeout DURATION=(\d+)s", text).group(1))


def test_texts_on_draining_name_the_default_that_the_server_has():
    said = {}
    for path in [path for folder in ("deploy", "docs") for path in (ROOT / folder).rglob("*")
                 if path.suffix in (".md", ".yaml", ".service", ".sh")]:
        for seconds in re.findall(r"--drain-timeout`?(?:,| \() ?(\d+) s\b", path.read_text()):
            said.setdefault(path.name, set()).add(int(seconds))
    assert set(said) == {"compose.yaml", "statefulset.yaml", "deployment.yaml", UNIT.name, "attnprune@.service",
                         "operate.md", "server.md"}
    assert set().union(*said.values()) == {drain_default()}, said


def test_whoever_stops_the_server_waits_longer_than_it_drains(compose, manifests):
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]
    waits = {"compose": int(compose["services"]["server"]["stop_grace_period"].rstrip("s")),
             "Kubernetes": pod["terminationGracePeriodSeconds"],
             "systemd": int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.M).group(1))}
    assert {name: wait for name, wait in waits.items() if wait < 2 * drain_default()} == {}


# --- systemd --------------------------------------------------------------------------------------

def verify(tmp_path, text):
    """What systemd-analyze says about a unit; it exits with 0 on keys that it does not know."""
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/usr/local/bin", str(BIN)))
    ended = run("systemd-analyze", "verify", "--man=no", unit)
    return ended.returncode, ended.stderr


def test_systemd_takes_every_line_of_the_unit(tmp_path):
    assert verify(tmp_path, UNIT.read_text()) == (0, "")


def test_a_misspelt_line_of_a_unit_would_be_seen(tmp_path):
    _, complaints = verify(tmp_path, UNIT.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in complaints


def test_the_unit_is_among_the_best_sandboxed():
    """Exposure of at most 1.5 of 10, by systemd's own count."""
    succeeded("systemd-analyze", "security", "--offline=true", "--threshold=15", UNIT)


def test_the_unit_calls_the_server_with_flags_that_it_has():
    line = re.search(r"^ExecStart=\S+ (.*)$", UNIT.read_text(), re.M).group(1)
    assert unknown_flags(line.replace("$ATTNPRUNE_FLAGS", "").split()) == set()


# --- compose --------------------------------------------------------------------------------------

@pytest.fixture(scope="module", name="compose")
def compose_fixture():
    """As docker-compose reads it: against its schema, with paths made whole."""
    return yaml.safe_load(succeeded("docker-compose", "-f", COMPOSE, "--profile", "job", "config"))


def test_compose_publishes_every_port_on_loopback_only(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []


def test_compose_mounts_only_what_there_is(compose):
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            there = pathlib.Path(source).exists() if source.startswith("/") else \
                source in compose["volumes"]
            assert there, f"{name}: {source}"


def test_compose_gives_no_container_more_than_it_needs(compose):
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert compose["services"]["server"]["read_only"] is True


def test_the_server_may_open_as_many_files_under_compose_as_under_systemd(compose):
    granted = int(re.search(r"^LimitNOFILE=(\d+)$", UNIT.read_text(), re.M).group(1))
    assert granted >= 65536
    assert compose["services"]["server"]["ulimits"]["nofile"] == {"soft": granted, "hard": granted}


def test_compose_starts_the_server_with_flags_that_it_has(compose):
    assert unknown_flags(compose["services"]["server"]["command"]) == set()


def test_the_job_of_compose_is_one_that_the_server_accepts(compose, tmp_path):
    with Server(tmp_path / "data") as server:
        replaced = {"--watch": "--validate-only", "--server=server:50051":
                    f"--server={server.address}"}
        arguments = [replaced.get(argument, argument).replace("/model", str(MODEL))
                     for argument in compose["services"]["job"]["command"]]
        ended = cli(*arguments)
        assert ended.returncode == 0, ended.stderr


# --- Kubernetes -----------------------------------------------------------------------------------

def problems(manifest):
    """Of a manifest, by the types of Kubernetes 1.27 and of the Prometheus operator; unknown fields
    are problems."""
    schema = {**SCHEMA, "$ref": f"#/definitions/I{manifest['kind']}"}
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
            for error in jsonschema.Draft7Validator(schema).iter_errors(manifest)]


def kustomized(folder):
    text = succeeded("kubectl", "kustomize", DEPLOY / folder)
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


@pytest.fixture(scope="module", name="manifests")
def manifests_fixture():
    return {**kustomized("kubernetes/embedded"), **kustomized("kubernetes/monitoring")}


def test_kubernetes_has_all_manifests_and_each_has_the_form_of_its_kind(manifests):
    assert set(manifests) == {"StatefulSet", "Service", "NetworkPolicy", "ServiceMonitor",
                              "PrometheusRule"}
    assert [problem for manifest in manifests.values() for problem in problems(manifest)] == []


@pytest.mark.parametrize("right,wrong", [('"readinessProbe"', '"readynessProbe"'),
                                         ('"port": 50051', '"port": "50051"'),
                                         ('"serviceName": "attnprune"', '"serviceName": 1')])
def test_a_wrong_manifest_would_be_seen(manifests, right, wrong):
    text = json.dumps(manifests["StatefulSet"])
    assert right in text
    assert problems(json.loads(text.replace(right, wrong))) != []


def test_kubernetes_starts_the_server_with_flags_that_it_has(manifests):
    container, = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert unknown_flags(container["args"]) == set()


def test_kubernetes_names_the_image_by_the_version_that_this_is(manifests):
    """An image tagged "latest" would never be pulled again under IfNotPresent."""
    version = re.search(r"project\(attnprune VERSION ([\d.]+)",
                        (ROOT / "CMakeLists.txt").read_text()).group(1)
    container, = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["image"].endswith(f":{version}")
    assert f"attnprune:{version}" in (DEPLOY / "README.md").read_text()


def test_kubernetes_lets_a_log_grow_as_far_as_the_kubelet_does(manifests):
    """Container logs count as ephemeral storage, and a pod above its limit is evicted."""
    container, = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["ephemeral-storage"]
    assert int(limit.removesuffix("Mi")) >= 2 * 5 * 10, "containerLogMaxFiles times containerLogMaxSize, and rotation is late"


def test_kubernetes_manifests_find_one_another(manifests):
    stateful_set = manifests["StatefulSet"]["spec"]
    pod_labels = stateful_set["template"]["metadata"]["labels"]
    container, = stateful_set["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    service, policy = manifests["Service"]["spec"], manifests["NetworkPolicy"]["spec"]
    monitor = manifests["ServiceMonitor"]["spec"]
    assert stateful_set["selector"]["matchLabels"] == pod_labels
    assert stateful_set["serviceName"] == manifests["Service"]["metadata"]["name"]
    assert service["selector"] == policy["podSelector"]["matchLabels"] == pod_labels
    assert {port["targetPort"] for port in service["ports"]} == ports
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
    assert monitor["selector"]["matchLabels"] == manifests["Service"]["metadata"]["labels"]
    assert {end["port"] for end in monitor["endpoints"]} <= {port["name"] for port in service["ports"]}


def test_kubernetes_pods_meet_the_restricted_standard(manifests):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, and a read-only root."""
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]
    container, = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False,
                                            "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}


def test_the_operator_gets_the_alerts_that_prometheus_gets(manifests):
    assert manifests["PrometheusRule"]["spec"]["groups"] == \
        yaml.safe_load(ALERTS.read_text())["groups"]


# --- Prometheus and Grafana -----------------------------------------------------------------------

def test_promtool_takes_configuration_and_alerts():
    succeeded("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yaml")
    assert "rules found" in succeeded("promtool", "check", "rules", ALERTS)


def test_each_alert_fires_when_it_must_and_not_otherwise():
    succeeded("promtool", "test", "rules", ROOT / "tests/deploy/alerts.test.yaml")


def test_every_alert_has_a_test():
    tests = yaml.safe_load((ROOT / "tests/deploy/alerts.test.yaml").read_text())["tests"]
    fired = {sample["labels"].split('"')[1] for test in tests for expression in
             test["promql_expr_test"] for sample in expression["exp_samples"]}
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    assert fired == {rule["alert"] for group in groups for rule in group["rules"]}


def test_alerts_and_dashboard_ask_only_for_what_is_documented():
    documented = set(re.findall(r"`((?:attnprune|process)_[a-z_]+)`",
                                (ROOT / "docs/metrics.md").read_text()))
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in
            re.findall(r"\b(?:attnprune|process)_[a-z_]+\b(?=[{\s,)\[])",
                       ALERTS.read_text() + DASHBOARD.read_text())}
    assert len(used) > 40
    assert used - documented == set()


def test_the_dashboard_has_panels_with_a_name_each_that_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 30
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}", panel["title"]


def test_grafana_is_provisioned_with_the_dashboard_and_its_source():
    source, = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")
                             .read_text())["datasources"]
    provider, = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/attnprune.yaml")
                               .read_text())["providers"]
    grafana = yaml.safe_load(COMPOSE.read_text())["services"]["grafana"]
    assert source["url"] == "http://prometheus:9090"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]


# --- the image ------------------------------------------------------------------------------------

def test_the_image_sees_no_more_than_it_is_built_from():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines()
             if line and not line.startswith("#")]
    assert lines[0] == "*"  # everything is left out but what follows
    for line in lines[1:]:
        assert line.startswith("!") and (ROOT / line[1:]).exists(), line


@pytest.fixture(name="image_source")
def image_source_fixture(tmp_path):
    """A copy of what the image's builder gets: what .dockerignore lets through."""
    folder = tmp_path / "src"
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, copy = ROOT / line[1:], folder / line[1:]
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy)
    return folder


def dry_tools(folder):
    """Programs to come first on the PATH: cmake configures as ever, but what it would compile is
    only looked up, each source included; nothing is installed."""
    tools = {"cmake": f'if [ "$1" = --build ]; then set -- "$@" -- -n; fi\n'
                      f'exec "{shutil.which("cmake")}" "$@"\n',
             "apt-get": "echo 'not in a test' >&2; exit 1\n"}
    folder.mkdir()
    for name, text in tools.items():
        (folder / name).write_text("#!/bin/sh\n" + text)
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def build_as_the_image_does(source, tools):
    command, = re.findall(r"^RUN .*?(\./dev\.sh build.*)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    return run(*command.split(), cwd=source, env=dry_tools(tools))


def test_the_image_is_built_from_all_that_its_build_needs(image_source, tmp_path):
    """`docker build` failed when CMakeLists.txt had a folder that .dockerignore left out."""
    ended = build_as_the_image_does(image_source, tmp_path / "tools")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for script in re.findall(r"(?:RUN|&&) (\S+\.sh)", (DEPLOY / "Dockerfile").read_text()):
        assert (image_source / script).exists(), script


def test_a_build_of_the_image_that_lacks_a_file_would_be_seen(image_source, tmp_path):
    (image_source / "proto/attnprune/v1/job.proto").unlink()
    ended = build_as_the_image_does(image_source, tmp_path / "tools")
    assert ended.returncode != 0 and "job.proto" in ended.stdout + ended.stderr


def test_the_image_starts_the_server_with_flags_that_it_has():
    text = (DEPLOY / "Dockerfile").read_text()
    program, *arguments = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.M).group(1))
    assert program == "/usr/bin/attnprune-server"
    assert unknown_flags(arguments) == set()
    assert re.search(r"^USER \d+:\d+$", text, re.M)
