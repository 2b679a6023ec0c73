"""Log lines for programs: valid JSON, and which request they belong to, through the job's whole life."""
import json
import os
import re
import subprocess
import urllib.request

import grpc
import pytest

from harness import BIN, LIMIT, MODEL, Client, Server, cli, layer_job, submit, wait_for
from attnprune.v1 import prune_service_pb2 as prune_api

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
JOB = ["--model", MODEL, "--layer", "1", "--calibration", MODEL / "calibration.safetensors"]
FOREVER = (("gd", {"steps": 1000000}),)


@pytest.fixture
def logged(data_dir):
    with Server(data_dir, "--log-format", "json", "--log-level", "debug") as running:
        yield running


def lines(server):
    return [json.loads(line) for line in server.log.splitlines()]


def calls(server, rpc):
    return [line for line in lines(server) if line["message"] == "rpc" and line["rpc"] == rpc]


def create(client, metadata=(), **options):
    """(job, the call's leading metadata, its trailing metadata)"""
    job, tensors = layer_job(**options)
    client.upload_missing(tensors)
    made, call = client.jobs.CreateJob.with_call(prune_api.CreateJobRequest(job=job),
                                                 metadata=metadata)
    return made, dict(call.initial_metadata()), dict(call.trailing_metadata())


def test_every_line_is_an_object_with_time_level_and_message(logged):
    with Client(logged.address) as client:
        name = submit(client, methods=(("gd", {"steps": 30}), ("wanda", {}))).name
        client.finish(name)
        with pytest.raises(grpc.RpcError):
            client.get('jobs/"x"\n\u2028{')
    logged.terminate()
    for line in lines(logged):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]), line
        assert line["level"] in ("debug", "info", "warning", "error"), line
        assert line["message"], line
        assert all(isinstance(value, str) for value in line.values()), line
    of_job = [line for line in lines(logged) if line.get("job") == name]
    assert {"job.state", "job.progress", "job.result", "job.end", "rpc"} <= {
        line["message"] for line in of_job}
    assert {line["method"] for line in of_job if line["message"] == "job.result"} == {"gd", "wanda"}
    assert {line["method"] for line in of_job if line["message"] == "job.progress"} == {"gd"}
    (refused,) = [line for line in calls(logged, "GetJob") if line["code"] == "INVALID_ARGUMENT"]
    assert refused["level"] == "info" and "job" not in refused


def test_a_job_carries_the_request_and_trace_that_made_it_through_kills_to_its_end(logged):
    with Client(logged.address) as client:
        job, leading, trailing = create(client, [("x-request-id", "order/66"),
                                                 ("traceparent", TRACEPARENT)], methods=FOREVER)
        assert leading["x-request-id"] == trailing["x-request-id"] == "order/66"
        client.wait_for_step(job.name)
    logged.kill()
    logged.start()
    with Client(logged.address) as client:
        client.wait_for_step(job.name)
        client.cancel(job.name)
        client.finish(job.name)
    (made,) = calls(logged, "CreateJob")
    assert (made["job"], made["request_id"], made["trace_id"]) == (job.name, "order/66", TRACE)
    assert made["parent_span_id"] == SPAN and made["span_id"] not in (SPAN, "0" * 16)
    of_job = [line for line in lines(logged)
              if line.get("job") == job.name and line["message"].startswith("job.")]
    assert [line["state"] for line in of_job if "state" in line] == [
        "QUEUED", "RUNNING", "QUEUED", "RUNNING", "CANCELLED"]
    assert {"job.state", "job.progress", "job.cancel", "job.end"} <= {
        line["message"] for line in of_job}
    for line in of_job:
        assert (line["request_id"], line["trace_id"], line["span_id"]) == (
            "order/66", TRACE, made["span_id"]), line
    (cancel,) = calls(logged, "CancelJob")
    assert cancel["request_id"] != "order/66", "another request"


def checkpointed(data_dir):
    """Jobs at their second checkpoint or a later one, JOB.FENCE.COUNT, so that one is recorded."""
    files = [path.name.split(".") for path in (data_dir / "checkpoints").iterdir()]
    return {f"jobs/{job}" for job, _, count, *_ in files if int(count) > 1}


def test_jobs_that_a_killed_server_was_running_are_logged_and_counted_by_the_next(data_dir):
    http_port = data_dir.with_suffix(".http-port")
    with Server(data_dir, "--log-format", "json", "--workers", "2", "--checkpoint-interval", "100ms",
                "--http-listen", "127.0.0.1:0", "--http-port-file", http_port) as server:
        with Client(server.address) as client:
            names = {submit(client, methods=FOREVER).name for _ in range(2)}
            waits = submit(client, methods=FOREVER).name
            for name in names:
                client.wait_for_step(name)
            wait_for(lambda: checkpointed(data_dir) == names, "both have a checkpoint")
        server.kill()
        http_port.unlink()
        server.start()
        port = wait_for(lambda: http_port.exists() and http_port.read_text(), "HTTP is served")
        with urllib.request.urlopen(f"http://127.0.0.1:{port.strip()}/metrics") as answer:
            metrics = answer.read().decode()
        requeued = [line for line in lines(server)
                    if line["message"] == "job.state" and "worker lost" in line.get("reason", "")]
    assert {line["job"] for line in requeued} == names and len(requeued) == 2, waits
    for line in requeued:
        assert (line["state"], line["attempt"]) == ("QUEUED", "1"), line
        assert line["reason"].endswith("goes on from its checkpoint"), line
    assert 'attnprune_jobs_requeued_total{cause="worker_lost"} 2\n' in metrics


@pytest.mark.parametrize("metadata", [
    [], [("x-request-id", "a b")], [("x-request-id", "x" * 129)], [("x-request-id", '"}{')],
    [("traceparent", f"00-{'0' * 32}-{SPAN}-01")], [("traceparent", f"ff-{TRACE}-{SPAN}-01")],
    [("traceparent", TRACEPARENT.upper())]])
def test_what_breaks_the_rules_is_replaced(logged, metadata):
    with Client(logged.address) as client:
        _, call = client.jobs.GetServerInfo.with_call(prune_api.GetServerInfoRequest(),
                                                      metadata=metadata)
    given = dict(call.trailing_metadata())["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", given)
    line = wait_for(lambda: calls(logged, "GetServerInfo"), "the call is logged")[0]
    assert line["request_id"] == given
    assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"]) and line["trace_id"] != TRACE
    assert "parent_span_id" not in line


def test_the_command_line_sends_its_trace_and_says_under_which_request_it_was_refused(logged):
    refused = cli("get", "jobs/none", "--server", logged.address,
                  env={**os.environ, "TRACEPARENT": TRACEPARENT})
    assert refused.returncode == 4
    given = re.search(r"request ([0-9a-f]{32})\)", refused.stderr).group(1)
    (line,) = calls(logged, "GetJob")
    assert (line["request_id"], line["trace_id"], line["code"]) == (given, TRACE, "NOT_FOUND")
    assert line["parent_span_id"] != SPAN, "each call is a span of its own"

    done = cli("submit", *JOB, "--method", "wanda", "--watch", "--server", logged.address,
               env={**os.environ, "TRACEPARENT": "no trace"})
    assert done.returncode == 0, done.stderr
    others = [line for line in lines(logged)
              if line["message"] == "rpc" and line["trace_id"] != TRACE]
    assert {"FindMissingTensors", "GetServerInfo", "UploadTensor", "CreateJob", "WatchJob"} <= {
        line["rpc"] for line in others}
    assert len({line["trace_id"] for line in others}) == 1, "one command, one trace"
    assert len({line["request_id"] for line in others}) == len(others), "each call is a request"


def test_text_lines_name_the_request_too_and_successful_reads_are_left_to_debug(server, client):
    job, _, given = create(client, methods=(("wanda", {}),))
    client.finish(job.name)
    server.terminate()
    assert f"request_id={given['x-request-id']}" in server.log
    assert " rpc rpc=CreateJob code=OK " in server.log
    assert "rpc=GetJob" not in server.log and "rpc=WatchJob" not in server.log


@pytest.mark.parametrize("flags,code,says", [(("--workers=0",), 2, "workers must be"),
                                             (("--http-host=a:1",), 2, "http_host must be"),
                                             (("--port-file=/no/folder/port",), 1, "port file")])
def test_a_server_that_cannot_start_says_so_in_the_form_of_its_log(tmp_path, flags, code, says):
    ended, said = Server(tmp_path / "json", "--log-format=json", *flags).refuse()
    # What had begun before it failed has lines of its own.
    (line,) = [entry for entry in map(json.loads, said.splitlines()) if entry["level"] == "error"]
    assert ended == code
    assert line["message"] == "server.fail" and says in line["error"]
    ended, said = Server(tmp_path / "text", *flags).refuse()
    (line,) = [text for text in said.splitlines()
               if text.startswith("attnprune-server: cannot start: ")]
    assert ended == code and says in line


@pytest.mark.parametrize("seconds", ["-5s", "inf", "soon"])
def test_a_drain_of_less_than_nothing_is_refused_by_flag_rule_and_value(tmp_path, seconds):
    code, said = Server(tmp_path / "data", f"--drain-timeout={seconds}").refuse()
    assert code == 2 and not (tmp_path / "data").exists()
    assert f"--drain-timeout: must be a duration of 0s or more such as 500ms, 30s, 10m or 30d, got " \
        f"{seconds}" in said


def test_an_embedded_server_says_nothing_of_its_calls():
    done = subprocess.run([BIN / "attnprune", "run", *map(str, JOB), "--method", "wanda"],
                          capture_output=True, text=True, timeout=LIMIT, check=True)
    assert "rpc" not in done.stderr and "rpc" not in done.stdout


def test_a_cancel_over_http_is_logged_with_the_request_that_asked_for_it(data_dir):
    http_port = data_dir.with_suffix(".http-port")
    with Server(data_dir, "--log-format", "json", "--http-listen", "127.0.0.1:0",
                "--http-port-file", http_port) as server:
        with Client(server.address) as client:
            name = create(client, [("x-request-id", "order/66")], methods=FOREVER)[0].name
            client.wait_for_step(name)
            cancel = urllib.request.Request(
                f"http://127.0.0.1:{http_port.read_text().strip()}/api/v1/{name}:cancel",
                method="POST", headers={"X-Request-Id": "order/67", "traceparent": TRACEPARENT})
            with urllib.request.urlopen(cancel) as answer:
                assert answer.headers["X-Request-Id"] == "order/67"
            client.finish(name)
        server.terminate()
    (line,) = [line for line in lines(server) if line["message"] == "http"]
    assert (line["method"], line["path"], line["code"]) == ("POST", f"/api/v1/{name}:cancel", "200")
    assert (line["job"], line["request_id"], line["trace_id"]) == (name, "order/67", TRACE)
    assert line["parent_span_id"] == SPAN and float(line["milliseconds"]) > 0
    (marked,) = [line for line in lines(server) if line["message"] == "job.cancel"]
    assert marked["request_id"] == "order/66", "the request that made the job"
