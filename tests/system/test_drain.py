"""SIGTERM: running jobs checkpoint and resume, streams end with UNAVAILABLE, exit code 0."""
import signal
import subprocess

import grpc
import pytest

from harness import BIN, LIMIT, Client, Server, digests, submit, wait_for
from attnprune.v1 import job_pb2 as job_api

GD = (("gd", {"steps": 400}),)


def test_sigterm_waits_for_one_step_and_the_job_resumes_with_the_same_bits(tmp_path):
    with Server(tmp_path / "undisturbed") as server, Client(server.address) as client:
        expected = client.finish(submit(client, methods=GD).name)
    # No checkpoint but the one of the drain: it must be written, or the job would start over. A drain
    # that waited for anything but the step would wait for its limit.
    with Server(tmp_path / "data", "--checkpoint-interval", "1h", "--drain-timeout", "1h") as server:
        with Client(server.address) as client:
            name = submit(client, methods=GD).name
            client.wait_for_step(name, 5)
            watch = client.watch(name)
            assert server.terminate() == 0
            with pytest.raises(grpc.RpcError) as ended:
                list(watch)
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        server.start()
        with Client(server.address) as client:
            job = client.finish(name)
            steps = [event.progress.step for event in client.watch(name)
                     if event.HasField("progress")]
    assert job.state == job_api.SUCCEEDED
    assert job.attempt == 2
    assert digests(job) == digests(expected)
    assert min(steps) == 1 and steps == sorted(steps), "no step was computed again"


def test_sigterm_of_an_idle_server_with_a_queue_keeps_the_queue(tmp_path):
    with Server(tmp_path / "data", "--workers", "1") as server:
        with Client(server.address) as client:
            running = submit(client, "first", methods=(("gd", {"steps": 100000}),)).name
            client.wait_for_step(running)
            queued = submit(client, "second", methods=(("magnitude", {}),)).name
        assert server.terminate() == 0
        server.start()
        with Client(server.address) as client:
            assert client.get(queued).state == job_api.QUEUED
            client.cancel(running)
            assert client.finish(running).state == job_api.CANCELLED
            assert client.finish(queued).state == job_api.SUCCEEDED


def test_the_command_line_follows_a_job_through_orderly_restarts(tmp_path):
    with Server(tmp_path / "data") as server:
        with Client(server.address) as client:
            name = submit(client, methods=(("gd", {"steps": 1200}),)).name
            client.wait_for_step(name)
        watch = subprocess.Popen([BIN / "attnprune", "watch", name, "--server", server.address],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: watch.stdout.readline().startswith("gd"), "the watch shows progress")
        for _ in range(8):
            assert server.terminate() == 0
            server.start()
            with Client(server.address) as client:
                client.wait_for_step(name)
        out, err = watch.communicate(timeout=LIMIT)
        assert watch.returncode == 0, err
        assert "server draining" in out
        *_, row, prepared, source = out.splitlines()
        assert row.startswith("gd"), "the table comes last"
        assert source == "held out: the batches given for it"


def line_with(stream, text):
    """Reads on until a line has it: what is told before it is there would keep the test waiting."""
    line = stream.readline()
    while text not in line:
        assert line, f"ended without saying {text!r}"
        line = stream.readline()
    return line


def test_a_watch_names_a_server_that_hangs_or_dies_and_its_return(tmp_path):
    with Server(tmp_path / "data") as server, Client(server.address) as client:
        name = submit(client, methods=(("gd", {"steps": 1_000_000}),)).name
        shown = tmp_path / "shown"
        with open(shown, "wb") as out, subprocess.Popen(
                [BIN / "attnprune", "watch", name, "--server", server.address],
                stdout=out, stderr=subprocess.PIPE, text=True) as watch:
            away = f"server {server.address} does not answer; trying again ..."
            back = f"again connected to server {server.address}"
            wait_for(lambda: shown.stat().st_size > 0, "the watch shows the job")
            server.process.send_signal(signal.SIGSTOP)
            line_with(watch.stderr, away)
            server.process.send_signal(signal.SIGCONT)
            line_with(watch.stderr, back)
            server.kill()
            line_with(watch.stderr, away)
            server.start()
            line_with(watch.stderr, back)
            client.cancel(name)
            assert watch.wait(LIMIT) == 1
