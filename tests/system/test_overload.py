"""What a server bears: connections that do nothing, a log that nobody reads, a burst of calls."""
import os
import resource
import socket
import urllib.request

import grpc
import pytest

from harness import LIMIT, Client, Server, submit, wait_for
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

FOREVER = (("gd", {"steps": 1000000}),)


class HttpServer(Server):
    """A server with its HTTP port, under a limit of open files (soft:hard)."""

    def __init__(self, folder, *flags, files="1024:1024"):
        super().__init__(folder, *flags)
        self.files = files
        self.http_file = self.folder.with_suffix(".http-port")

    def command(self, port=0, port_file=None):
        return ["prlimit", f"--nofile={self.files}", *super().command(port, port_file),
                "--http-listen", "127.0.0.1:0", "--http-port-file", self.http_file]

    @property
    def http(self):
        return "127.0.0.1", int(self.http_file.read_text())

    def metric(self, name):
        host, port = self.http
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=LIMIT) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be(data_dir):
    with HttpServer(data_dir, files="256:1024") as server:
        assert server.metric("process_max_fds") == 1024
        wait_for(lambda: "max_connections=512" in server.log, "the log says so")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: lo"], ids=["idle", "unfinished"])
def test_connections_that_do_nothing_keep_nobody_from_anything(data_dir, said):
    resource.setrlimit(resource.RLIMIT_NOFILE,  # the test's own
                       (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with HttpServer(data_dir, "--checkpoint-interval", "100ms") as server:
        idle = []
        with Client(server.address) as client:
            running = submit(client, methods=FOREVER).name
            client.wait_for_step(running)
            for _ in range(1100):
                idle.append(socket.create_connection(server.http, timeout=LIMIT))
                idle[-1].sendall(said)
            wait_for(lambda: server.metric("attnprune_http_evicted_connections_total") >= 588,
                     "all have come")
            written = server.metric("attnprune_checkpoint_bytes_total")
            wait_for(lambda: server.metric("attnprune_checkpoint_bytes_total") > written,
                     "checkpoints are written")
        with Client(server.address) as client:  # another connection
            client.cancel(running)
            ended = client.finish(submit(client, methods=(("wanda", {}),)).name)
            assert ended.state == job_api.SUCCEEDED
        assert "Too many open files" not in server.log
        for connection in idle:
            connection.close()


def test_a_log_that_nobody_reads_holds_up_neither_calls_nor_the_end(data_dir):
    log = data_dir.with_suffix(".log")
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    with HttpServer(data_dir, "--log-format", "json", "--log-level", "debug", "--drain-timeout",
                    "1h") as server:
        with Client(server.address) as client:
            running = submit(client, methods=FOREVER).name
            for _ in range(1000):  # some 250 bytes of log each; a pipe holds 64 KiB
                client.jobs.GetServerInfo(prune_api.GetServerInfoRequest(), timeout=LIMIT)
            client.wait_for_step(running)
            steps = server.metric('attnprune_solver_steps_total{method="gd"}')
            wait_for(lambda: server.metric('attnprune_solver_steps_total{method="gd"}') > steps,
                     "the solver goes on")
            client.cancel(running)
            client.finish(running)
        assert server.terminate() == 0
    os.close(reader)


def test_memory_of_a_burst_of_calls_is_given_back(data_dir):
    entries = (b"%x" % number for number in range(300_000))
    request = b"".join(b"\x22" + bytes([len(key) + 2, 0x0a, len(key)]) + key for key in entries)
    with Server(data_dir) as server:
        with Client(server.address, **{"grpc.max_send_message_length": -1}) as client:
            client.jobs.ListJobs(prune_api.ListJobsRequest())
            before = server.memory_bytes()
            call = client.channel.unary_unary("/attnprune.v1.PruneService/ListJobs",
                                              request_serializer=bytes)
            for _ in range(5):
                with pytest.raises(grpc.RpcError, match="at most 64 entries"):
                    call(request)
            wait_for(lambda: server.memory_bytes() < before + (20 << 20), "it is given back", limit=60)
