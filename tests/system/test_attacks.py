"""What one client, with a token or none, takes from the others: the real server, attacked."""
import contextlib
import hashlib
import os
import pathlib
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest

import http2
from harness import LIMIT, Client, cli, submit, tensor_ref, wait_for
from test_tokens import TokenClient, TokenServer, make_token
from attnprune.v1 import prune_service_pb2 as prune_api
from attnprune.v1 import tensor_service_pb2 as tensor_api

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
GET_JOB = "/attnprune.v1.PruneService/GetJob"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"


def raw(message):
    return message


def tensor(size):
    data = os.urandom(size)
    return tensor_ref("x", "F32", [size // 4], data), data


@pytest.fixture(name="tokens")
def two_tenants(tmp_path):
    path = tmp_path / "tokens"
    return path, make_token(path, "mine", "submitter"), make_token(path, "other", "submitter")


class FlaggedServer(TokenServer):
    """With further flags and, where they are given, so many open files at most, in a cgroup."""

    def __init__(self, folder, tokens, *flags, files=None, cgroup=None):
        super().__init__(folder, tokens)
        self.flags += flags
        self.files = files
        self.cgroup = cgroup

    def command(self, port=0, port_file=None):
        limit = ["prlimit", f"--nofile={self.files}"] if self.files else []
        enter = (["sh", "-c", f'echo $$ > {self.cgroup}/cgroup.procs && exec "$@"', "sh"]
                 if self.cgroup else [])
        return limit + enter + super().command(port, port_file)


@contextlib.contextmanager
def cgroup_of(mebibytes):
    """For a process that may have so much memory. Needs root, as CI has, and a kernel that has such groups."""
    first = pathlib.Path("/sys/fs/cgroup/memory")
    top, limit = (first, "memory.limit_in_bytes") if first.exists() else (first.parent, "memory.max")
    group = top / f"attnprune-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup: {error}")
    try:
        try:
            (group / limit).write_text(str(mebibytes << 20))
        except OSError as error:
            pytest.skip(f"no memory cgroup: {error}")
        yield group
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "nobody is in it")
        group.rmdir()


def threads(server):
    status = open(f"/proc/{server.process.pid}/status", encoding="utf-8").read()
    return int(re.search(r"Threads:\s+(\d+)", status)[1])


def is_closed(connection):
    """By the server, which never speaks first but for HTTP/2's settings."""
    connection.setblocking(False)
    try:
        while data := connection.recv(1 << 16):
            del data
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_idle_connections_do_not_lock_out_who_has_a_token(tmp_path, tokens):
    path, mine, _ = tokens
    with FlaggedServer(tmp_path / "data", path, "--max-connections", "20") as server, \
            TokenClient(server.address, mine) as early, contextlib.ExitStack() as opened:
        early.jobs.ListJobs(prune_api.ListJobsRequest())
        idle = [opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                for _ in range(200)]
        wait_for(lambda: sum(map(is_closed, idle)) >= 181, "all but a few are closed")
        early.jobs.ListJobs(prune_api.ListJobsRequest())
        with TokenClient(server.address, mine) as late:
            late.jobs.ListJobs(prune_api.ListJobsRequest())
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 100


def test_reflection_that_nobody_ends_takes_no_thread_each(tmp_path, tokens):
    path, mine, _ = tokens
    end = threading.Event()

    def silent():
        end.wait()
        yield from ()
    with FlaggedServer(tmp_path / "data", path) as server, Client(server.address) as stranger:
        before = threads(server)
        reflect = stranger.channel.stream_stream(REFLECTION, request_serializer=raw,
                                                 response_deserializer=raw)
        calls = [reflect(silent()) for _ in range(100)]
        wait_for(lambda: sum(not call.is_active() for call in calls) >= 84, "most are refused")
        refused = next(call for call in calls if not call.is_active())
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert threads(server) <= before + 20
        with TokenClient(server.address, mine) as client:
            client.jobs.ListJobs(prune_api.ListJobsRequest())
        for call in calls:
            call.cancel()
        end.set()


def test_health_watches_without_a_token_are_limited(tmp_path, tokens):
    with FlaggedServer(tmp_path / "data", tokens[0]) as server, contextlib.ExitStack() as opened:
        calls = []
        for _ in range(2):
            client = opened.enter_context(Client(server.address))
            watch = client.channel.unary_stream(HEALTH_WATCH, request_serializer=raw,
                                                response_deserializer=raw)
            calls += [watch(b"") for _ in range(700)]
        wait_for(lambda: sum(not call.is_active() for call in calls) >= 400, "400 are too many")
        assert sum(call.is_active() for call in calls) == 1000
        check = client.channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=raw,
                                           response_deserializer=raw)
        assert check(b"") == b"\x08\x01"
        for call in calls:
            call.cancel()


def test_downloads_that_a_tenant_does_not_read_hold_up_no_other(tmp_path, tokens):
    path, mine, other = tokens
    admin = make_token(path, "ops", "admin")
    ref, data = tensor(8 << 20)
    with FlaggedServer(tmp_path / "data", path) as server, \
            Client(server.address, **{"grpc.http2.bdp_probe": 0}) as stalled, \
            TokenClient(server.address, mine) as greedy, TokenClient(server.address, other) as client:

        def sent_bytes():
            request = urllib.request.Request(f"http://127.0.0.1:{server.http_port}/metrics",
                                             headers={"Authorization": f"Bearer {admin}"})
            text = urllib.request.urlopen(request, timeout=LIMIT).read().decode()
            return float(re.search(r"^attnprune_downloaded_bytes_total (\S+)", text, re.M)[1])
        for uploader in (greedy, client):
            uploader.upload(ref, data)
        request = tensor_api.DownloadTensorRequest(sha256=ref.sha256)
        unread = [stalled.tensors.DownloadTensor(request, metadata=[("authorization", f"Bearer {mine}")])
                  for _ in range(200)]
        wait_for(lambda: sent_bytes() >= 24 << 20, "as many as may be are on their way")
        begin = time.monotonic()
        client.download(ref.sha256)
        assert time.monotonic() - begin < 20, "a stalled reader is left after a minute"
        for call in unread:
            call.cancel()


def test_calls_of_which_no_message_comes_end_with_their_connections_where_memory_is_short(tmp_path, tokens):
    path, mine, _ = tokens
    with cgroup_of(300) as cgroup, FlaggedServer(tmp_path / "data", path, cgroup=cgroup) as server, \
            contextlib.ExitStack() as opened, TokenClient(server.address, mine) as client:
        client.jobs.ListJobs(prune_api.ListJobsRequest())
        strangers = [opened.enter_context(http2.connection(server.port, *http2.calls(1000, GET_JOB)))
                     for _ in range(60)]
        wait_for(lambda: sum(map(is_closed, strangers)) >= 30, "60,000 are some 700 MiB")
        client.jobs.ListJobs(prune_api.ListJobsRequest())
        assert server.process.poll() is None
        assert "connections.close" in server.log


def test_viewers_of_one_tenant_leave_places_to_another(tmp_path, tokens):
    path, mine, other = tokens
    with FlaggedServer(tmp_path / "data", path, files=80) as server, contextlib.ExitStack() as opened, \
            TokenClient(server.address, mine) as first, TokenClient(server.address, other) as second:
        names = {token: submit(client, methods=(("gd", {"steps": 1000000}),)).name
                 for token, client in ((mine, first), (other, second))}

        def view(token):
            request = urllib.request.Request(
                f"http://127.0.0.1:{server.http_port}/api/v1/{names[token]}/events",
                headers={"Authorization": f"Bearer {token}"})
            try:
                return opened.enter_context(urllib.request.urlopen(request, timeout=LIMIT)).status
            except urllib.error.HTTPError as error:
                return error.code
        # 80 files: 40 connections, 35 viewers, 17 of one tenant.
        assert [view(mine) for _ in range(18)] == [200] * 17 + [429]
        assert view(other) == 200


def test_a_full_store_does_not_say_how_full(tmp_path, tokens):
    path, mine, other = tokens
    ref, data = tensor(1 << 20)
    with FlaggedServer(tmp_path / "data", path, "--max-total-bytes", "2MiB") as server, \
            TokenClient(server.address, mine) as owner, TokenClient(server.address, other) as prober:
        owner.upload(ref, data)
        with pytest.raises(grpc.RpcError) as refused:
            prober.upload(*tensor(3 << 19))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert re.findall(r"\d+", refused.value.details()) == [str(2 << 20), str(3 << 19)]


def test_a_tenant_uploads_at_its_rate_and_another_at_its_own(tmp_path, tokens):
    path, mine, other = tokens
    ref, data = tensor(4 << 20)
    with FlaggedServer(tmp_path / "data", path, "--max-upload-rate-per-tenant", "2MiB") as server, \
            TokenClient(server.address, mine) as slow, TokenClient(server.address, other) as client:
        begin = time.monotonic()
        answer = slow.upload(ref, data)
        assert answer.sha256 == hashlib.sha256(data).hexdigest()
        assert time.monotonic() - begin > 0.9, "4 MiB at 2 MiB/s, of which a second's is at once"
        begin = time.monotonic()
        client.upload(*tensor(1 << 20))
        assert time.monotonic() - begin < 0.9


def test_an_upload_that_waits_for_its_turn_does_not_keep_the_server_from_ending(tmp_path, tokens):
    path, mine, _ = tokens
    ref, data = tensor(8 << 20)
    with FlaggedServer(tmp_path / "data", path, "--max-upload-rate-per-tenant", "1KiB",
                       "--drain-timeout", "1s") as server, \
            TokenClient(server.address, mine) as slow:
        failed = []

        def upload():
            with pytest.raises(grpc.RpcError):
                slow.upload(ref, data)
            failed.append(True)
        thread = threading.Thread(target=upload)
        thread.start()
        query = tensor_api.QueryUploadRequest(upload_id=ref.sha256)
        wait_for(lambda: slow.tensors.QueryUpload(query).committed_bytes, "the first chunk is there")
        begin = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begin < 10
        thread.join()
        assert failed


def test_the_command_says_how_a_token_is_given(tmp_path, tokens):
    with FlaggedServer(tmp_path / "data", tokens[0]) as server:
        said = cli("list", "--server", server.address)
        assert said.returncode == 4
        assert "UNAUTHENTICATED" in said.stderr and "--token-file" in said.stderr
