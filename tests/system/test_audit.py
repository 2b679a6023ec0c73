"""--audit-log: a line a change before its answer, through kills, rotation and a full disk."""
import json
import signal
import urllib.request

import grpc
import pytest

from harness import Client, Server, layer_job, submit, wait_for
from test_logs import lines
from test_refusals import fill, small_disk
from attnprune.v1 import prune_service_pb2 as prune_api
from attnprune.v1 import tensor_service_pb2 as tensor_api

FOREVER = (("gd", {"steps": 1000000}),)
QUICK = (("magnitude", {}),)


class Audited(Server):
    """A server with an audit log, and with HTTP."""

    def __init__(self, folder, audit, *flags):
        self.audit = audit
        self.http_port_file = folder.with_suffix(".http-port")
        super().__init__(folder, "--audit-log", audit, "--log-format", "json", "--http-listen",
                         "127.0.0.1:0", "--http-port-file", self.http_port_file, *flags)

    def url(self, path):
        return f"http://127.0.0.1:{self.http_port_file.read_text().strip()}{path}"

    def metric(self, name):
        with urllib.request.urlopen(self.url("/metrics")) as answer:
            text = answer.read().decode()
        return float(next(line.split()[1] for line in text.splitlines()
                          if line.startswith(f"{name} ")))


def audit_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def audited(data_dir, tmp_path):
    with Audited(data_dir, tmp_path / "audit.log") as running:
        yield running


def last_of(server, **expected):
    """The newest line, which must have these values."""
    line = audit_lines(server.audit)[-1]
    assert {key: line[key] for key in expected} == expected, line
    return line


def test_each_change_has_a_line_by_the_time_that_it_is_answered(audited):
    with Client(audited.address) as client:
        job, tensors = layer_job(methods=FOREVER)
        ref, data = tensors[0]
        client.upload(ref, data)
        peer = last_of(audited, action="UploadTensor", code="OK", via="grpc", tensor=ref.sha256,
                       who="", tenant="", job="")["peer"]
        assert peer.startswith("127.0.0.1:")
        client.upload_missing(tensors)
        made, _ = client.jobs.CreateJob.with_call(prune_api.CreateJobRequest(job=job),
                                                  metadata=[("x-request-id", "order/66")])
        last_of(audited, action="CreateJob", code="OK", job=made.name, request_id="order/66",
                peer=peer)
        before = audit_lines(audited.audit)
        client.jobs.CreateJob(prune_api.CreateJobRequest(job=job, validate_only=True))
        client.get(made.name)
        client.wait_for_step(made.name)
        assert audit_lines(audited.audit) == before, "these change nothing"
        with pytest.raises(grpc.RpcError):
            client.jobs.DeleteJob(prune_api.DeleteJobRequest(name=made.name))
        last_of(audited, action="DeleteJob", code="FAILED_PRECONDITION", job=made.name)
        client.cancel(made.name)
        last_of(audited, action="CancelJob", code="OK", job=made.name)
        client.finish(made.name)
        client.jobs.DeleteJob(prune_api.DeleteJobRequest(name=made.name))
        last_of(audited, action="DeleteJob", code="OK", job=made.name)
        client.download(ref.sha256)
        last_of(audited, action="DownloadTensor", code="OK", tensor=ref.sha256)
        with pytest.raises(grpc.RpcError):
            list(client.tensors.DownloadTensor(tensor_api.DownloadTensorRequest(sha256="a\nb")))
        last_of(audited, action="DownloadTensor", code="INVALID_ARGUMENT", tensor="")
    assert audited.audit.stat().st_mode & 0o777 == 0o600


def test_what_the_page_changes_has_a_line_too(audited):
    with Client(audited.address) as client:
        name = submit(client, methods=FOREVER).name
    request = urllib.request.Request(audited.url(f"/api/v1/{name}:cancel"), method="POST",
                                     headers={"X-Request-Id": "from/page"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    line = last_of(audited, action="CancelJob", code="200", via="http", job=name,
                   request_id="from/page")
    assert line["peer"].startswith("127.0.0.1:")


def test_a_killed_server_has_written_the_line_of_every_answer(audited):
    created = []
    with Client(audited.address) as client:
        created = [submit(client, methods=QUICK).name for _ in range(5)]
        audited.kill()
    said = [line["job"] for line in audit_lines(audited.audit) if line["action"] == "CreateJob"]
    assert said == created
    audited.start()
    with Client(audited.address) as client:
        again = submit(client, methods=QUICK).name
    last_of(audited, action="CreateJob", job=again)
    assert len(audit_lines(audited.audit)) > len(said), "it is appended to"


def test_sighup_goes_on_in_a_new_file(audited, tmp_path):
    with Client(audited.address) as client:
        first = submit(client, methods=QUICK).name
        audited.audit.rename(tmp_path / "audit.log.1")
        audited.process.send_signal(signal.SIGHUP)
        wait_for(audited.audit.exists, "it is opened anew")
        second = submit(client, methods=QUICK).name
    assert audit_lines(tmp_path / "audit.log.1")[-1]["job"] == first
    assert [line["job"] for line in audit_lines(audited.audit)] == [second]
    assert audited.terminate() == 0, "SIGHUP has not ended it, SIGTERM does"


def test_a_full_disk_loses_lines_and_says_so_while_calls_go_on(tmp_path):
    with small_disk(tmp_path / "disk", "1M"):
        audit = tmp_path / "disk" / "audit.log"
        with Audited(tmp_path / "data", audit) as server, Client(server.address) as client:
            fill(tmp_path / "disk" / "filler")
            while server.metric("attnprune_audit_lines_lost_total") < 2:  # a page may have room
                submit(client, methods=QUICK)
            (tmp_path / "disk" / "filler").unlink()
            last = submit(client, methods=QUICK).name
            server.terminate()
        whole = [line for line in audit.read_text().splitlines() if line.endswith("}")]
        assert json.loads(whole[-1])["job"] == last
        said = [line["message"] for line in lines(server) if line["message"].startswith("audit.")]
        assert said == ["audit.fail", "audit.again"], "once each"


def test_a_file_that_cannot_be_had_is_refused_at_the_start(tmp_path):
    server = Server(tmp_path / "data", "--audit-log", tmp_path / "none" / "audit.log")
    code, said = server.refuse()
    assert code == 1
    assert "audit_log" in said and "none/audit.log" in said


def test_what_the_server_deletes_by_itself_has_a_line(data_dir, tmp_path):
    flags = ("--keep-finished", "1s", "--collect-interval", "20ms")
    with Audited(data_dir, tmp_path / "audit.log", *flags) as server:
        with Client(server.address) as client:
            stays = submit(client, methods=FOREVER).name
            client.wait_for_step(stays)
            name = submit(client, methods=QUICK).name
            client.cancel(name)
            wait_for(lambda: [job.name for job in client.jobs.ListJobs(
                prune_api.ListJobsRequest()).jobs] == [stays], "it is deleted")
        wait_for(lambda: audit_lines(server.audit)[-1]["action"] == "DeleteJob", "its line is written")
        last_of(server, action="DeleteJob", code="OK", via="server", job=name, peer="", request_id="")
        assert server.terminate() == 0
