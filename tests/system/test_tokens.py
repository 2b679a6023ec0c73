"""Tokens by the real programs: made, used by two tenants through a kill, taken away."""
import re
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest

from harness import BIN, LIMIT, Client, Server, digests, layer_job, submit, wait_for
from attnprune.v1 import prune_service_pb2 as prune_api

QUICK = (("magnitude", {}),)


def token_new(*arguments):
    return subprocess.run([BIN / "attnprune-server", "token", "new", *map(str, arguments)],
                          text=True, capture_output=True, timeout=LIMIT, check=False)


def make_token(path, tenant, role):
    made = token_new("--tenant", tenant, "--role", role, "--name", f"{tenant}-ci",
                     "--token-file", path)
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"atp_[A-Za-z0-9_-]{43}\n", made.stdout)
    return made.stdout.strip()


class WithToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor,
                grpc.StreamUnaryClientInterceptor):
    """Adds a token to every call."""

    def __init__(self, token):
        self.metadata = [("authorization", f"Bearer {token}")]

    def call(self, proceed, details, request):
        # pylint: disable=protected-access
        return proceed(details._replace(metadata=self.metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = call


class TokenClient(Client):
    def __init__(self, address, token):
        super().__init__(address)
        channel = grpc.intercept_channel(self.channel, WithToken(token))
        self.jobs = type(self.jobs)(channel)
        self.tensors = type(self.tensors)(channel)


def code_of(call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code()


def http_code(port, path, token=""):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=LIMIT).status
    except urllib.error.HTTPError as error:
        return error.code


class TokenServer(Server):
    """With a token file and HTTP."""

    def __init__(self, folder, tokens):
        self.http_file = folder.with_suffix(".http")
        super().__init__(folder, "--token-file", tokens, "--http-listen", "127.0.0.1:0",
                         "--http-port-file", self.http_file)

    @property
    def http_port(self):
        return int(self.http_file.read_text())


def test_the_command_prints_a_token_and_the_file_has_its_hash_only(tmp_path):
    path = tmp_path / "tokens"
    first, second = make_token(path, "vision", "submitter"), make_token(path, "ops", "admin")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["vision submitter vision-ci",
                                                          "ops admin ops-ci"]
    assert path.stat().st_mode & 0o7777 == 0o600
    assert first not in path.read_text() and second not in path.read_text()


def test_the_command_refuses_by_field_and_prints_no_token(tmp_path):
    for arguments, said in (((), "--tenant is required"),
                            (("--tenant", "A", "--role", "reader"), "tenant must be"),
                            (("--tenant", "a", "--role", "root"), "role must be"),
                            (("--tenant", "a", "--role", "reader", "--name", "a b"), "name must")):
        refused = token_new(*arguments, "--token-file", tmp_path / "tokens")
        assert refused.returncode == 2
        assert said in refused.stdout + refused.stderr
        assert "atp_" not in refused.stdout
    assert not (tmp_path / "tokens").exists()


def test_a_server_does_not_start_with_a_file_that_is_none(tmp_path):
    (tmp_path / "tokens").write_text("# who\nnonsense\n")
    code, said = TokenServer(tmp_path / "data", tmp_path / "tokens").refuse()
    assert code == 2 and "line 2" in said
    code, said = TokenServer(tmp_path / "data", tmp_path / "missing").refuse()
    assert code == 1 and "missing" in said


def test_what_belongs_to_a_tenant_is_its_own_through_a_kill(tmp_path):
    tokens = tmp_path / "tokens"
    mine, other = make_token(tokens, "mine", "submitter"), make_token(tokens, "other", "submitter")
    with TokenServer(tmp_path / "data", tokens) as server:
        with TokenClient(server.address, mine) as client:
            job = client.finish(submit(client, "nightly", methods=QUICK).name)
        server.kill()
        server.start()
        mask = digests(job)["magnitude", "w_q"][0]
        _, tensors = layer_job()
        with TokenClient(server.address, mine) as client:
            assert client.get(job.name).results == job.results
            assert client.download(mask)
            client.upload_missing(tensors)
            assert client.upload(*tensors[0]).already_there
        with TokenClient(server.address, other) as client:
            assert code_of(client.get, job.name) == grpc.StatusCode.NOT_FOUND
            assert code_of(client.download, mask) == grpc.StatusCode.NOT_FOUND
            assert not client.upload(*tensors[0]).already_there
            own = submit(client, "nightly", methods=QUICK)
            assert own.name != job.name
            listed = client.jobs.ListJobs(prune_api.ListJobsRequest()).jobs
            assert [one.name for one in listed] == [own.name]
        with Client(server.address) as client:
            assert code_of(client.get, job.name) == grpc.StatusCode.UNAUTHENTICATED
        assert http_code(server.http_port, f"/api/v1/{job.name}") == 401
        assert http_code(server.http_port, f"/api/v1/{job.name}", other) == 404
        assert http_code(server.http_port, f"/api/v1/{job.name}", mine) == 200
        assert http_code(server.http_port, "/healthz") == 200
        assert mine not in server.log and other not in server.log
        assert re.search(r"rpc rpc=CreateJob code=OK .*who=mine-ci tenant=mine", server.log)


def test_a_token_taken_out_of_the_file_is_refused_and_a_broken_file_locks_nobody_out(tmp_path):
    tokens = tmp_path / "tokens"
    mine, admin = make_token(tokens, "mine", "reader"), make_token(tokens, "ops", "admin")
    with TokenServer(tmp_path / "data", tokens) as server:
        assert http_code(server.http_port, "/api/v1/jobs", mine) == 200
        assert http_code(server.http_port, "/metrics", mine) == 403
        assert http_code(server.http_port, "/metrics", admin) == 200
        lines = tokens.read_text().splitlines(keepends=True)
        tokens.write_text("".join(line for line in lines if " mine " not in line))
        assert http_code(server.http_port, "/api/v1/jobs", mine) == 401
        assert http_code(server.http_port, "/api/v1/jobs", admin) == 200
        tokens.write_text("oh no")
        assert http_code(server.http_port, "/api/v1/jobs", admin) == 200
        wait_for(lambda: "tokens.refused" in server.log, "the log says so")
        later = "# by hand\n" + lines[0]
        tokens.write_text(later)
        assert http_code(server.http_port, "/api/v1/jobs", mine) == 200
