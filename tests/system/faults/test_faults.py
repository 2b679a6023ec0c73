"""The file system fails at each call in turn: what was acknowledged stays, nothing is done twice, and
the server goes on or says why it cannot.

ATTNPRUNE_FAULTS=all fails every call; otherwise, where there are many, every so-many-th is.
"""
import errno
import hashlib
import os
import random

import grpc
import pytest

from faults import ALL, FOR_GOOD, SYNC, WRITE, FaultyServer
from harness import TERMINAL, Client, digests, layer_job, tensor_ref, wait_for
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api
from attnprune.v1 import tensor_service_pb2 as tensor_api

EVERY = os.environ.get("ATTNPRUNE_FAULTS") == "all"
MOST = 10  # calls that a test fails otherwise
FLAGS = ("--lease", "1s", "--checkpoint-interval", "10ms", "--collect-interval", "1h")
METHODS = [("gd", {"steps": 60})]
CLEAR = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}
FAILURES = (errno.EIO, errno.ENOSPC)


def calls_to_fail(count):
    assert count > 0, "no call was counted: the shim is not at work"
    step = 1 if EVERY else max(1, count // MOST)
    return range(1, count + 1, step)


def until_done(call, server):
    """What `call` returns; a fault may make it fail once, in clear words, then it is asked again."""
    for _ in range(5):
        try:
            return call()
        except grpc.RpcError as error:
            assert error.code() in CLEAR, (error, server.heal())
    return call()


def ended(client, name):
    """The job at its end and all events, which are without a gap and end once."""
    events = [event for event in client.watch(name) if not event.HasField("heartbeat")]
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences)), sequences
    assert [event.HasField("terminal") for event in events].count(True) == 1
    return events[-1].terminal


def gets_further(server, name):
    """Until the job, if it still runs, has a checkpoint in the database that it had not."""
    folder = server.folder / "checkpoints"
    with Client(server.address) as client:
        for _ in range(2):  # files: when the second is there, the first is in the database
            seen = set(os.listdir(folder))
            wait_for(lambda: set(os.listdir(folder)) - seen or  # pylint: disable=W0640
                     client.get(name).state in TERMINAL, "it gets further")


class Accepted:
    """What was acknowledged, to be found again after every restart."""

    def __init__(self):
        self.jobs, self.tensors = {}, {}

    def check(self, client):
        for name, (state, results) in self.jobs.items():
            job = client.get(name)
            assert (job.state, digests(job)) == (state, results), name
            for result in job.results:
                for matrix in result.matrices:
                    client.download(matrix.weights.sha256)
        listed = client.jobs.ListJobs(prune_api.ListJobsRequest(page_size=1000)).jobs
        requests = [job.labels["request"] for job in listed]
        assert len(requests) == len(set(requests)), "a job was made twice"
        for sha256, data in self.tensors.items():
            assert client.download(sha256) == data


def run_job(client, server, job, request):
    job.labels["request"] = request
    return ended(client, until_done(lambda: client.create(job, request), server).name)


def clean_run(client, server, job):
    server.watch()
    done = run_job(client, server, job, "clean")
    assert done.state == job_api.SUCCEEDED, done.failure
    return digests(done), server.heal()[0]


@pytest.mark.parametrize("error", FAILURES, ids=errno.errorcode.get)
def test_each_call_of_a_job_from_its_creation_to_its_end(tmp_path, error):
    job, tensors = layer_job(methods=METHODS)
    accepted = Accepted()
    with FaultyServer(tmp_path / "data", *FLAGS) as server:
        client = Client(server.address)
        client.upload_missing(tensors)
        expected, count = clean_run(client, server, job)
        for number in calls_to_fail(count):
            server.fail(number, error=error)
            done = run_job(client, server, job, f"fail-{number}")
            _, what = server.heal()
            if done.state == job_api.SUCCEEDED:
                assert digests(done) == expected, what
            else:  # a disk that is full is waited for, one that is broken is not
                assert error == errno.EIO and done.state == job_api.FAILED, (what, done.failure)
                assert "Input/output error" in done.failure.message or "I/O" in done.failure.message
            accepted.jobs[done.name] = (done.state, digests(done))
        accepted.check(client)
        client.channel.close()
        server.kill()
        server.start()
        with Client(server.address) as client:
            accepted.check(client)
            assert run_job(client, server, job, "after").state == job_api.SUCCEEDED


@pytest.mark.parametrize("error", FAILURES, ids=errno.errorcode.get)
def test_each_call_of_an_upload(tmp_path, error):
    accepted = Accepted()
    dice = random.Random(1)

    def tensor():
        data = dice.randbytes(1 << 16)
        return tensor_ref("x", "F32", [1 << 14], data), data

    with FaultyServer(tmp_path / "data", *FLAGS) as server:
        with Client(server.address) as client:
            server.watch()
            client.upload(*tensor())
            count, _ = server.heal()
            for number in calls_to_fail(count):
                ref, data = tensor()
                server.fail(number, error=error)
                until_done(lambda: client.upload(ref, data), server)  # pylint: disable=W0640
                server.heal()
                accepted.tensors[ref.sha256] = data
            accepted.check(client)
        server.kill()
        server.start()
        with Client(server.address) as client:
            accepted.check(client)
            missing = client.tensors.FindMissingTensors(
                tensor_api.FindMissingTensorsRequest(sha256=accepted.tensors)).missing
            assert not missing


@pytest.mark.parametrize("error", FAILURES, ids=errno.errorcode.get)
def test_each_call_of_a_start(tmp_path, error):
    job, tensors = layer_job(methods=[("gd", {"steps": 1000000})])
    job.labels["request"] = "running"
    with FaultyServer(tmp_path / "data", *FLAGS) as server:
        with Client(server.address) as client:
            client.upload_missing(tensors)
            name = client.create(job, "running").name
            client.wait_for_step(name, 20)
        server.kill()
        server.watch()
        server.start()
        count, _ = server.heal()
        attempts = 2
        for number in calls_to_fail(min(count, 200)):
            if number % MOST == 0:  # of a job that is lost 20 times in a row the server thinks the worst
                gets_further(server, name)
            server.kill()
            server.fail(number, error=error)
            try:
                server.start()
            except AssertionError:
                assert "cannot start: " in server.log, server.log
                server.heal()
                server.start()
            server.heal()
        with Client(server.address) as client:
            first = client.get(name)
            assert first.attempt >= attempts
            if first.state == job_api.FAILED:  # the call was the job's, which goes on behind a start
                assert error == errno.EIO and "Input/output error" in first.failure.message, first.failure
                name = client.create(job, "again").name
            client.wait_for_step(name, 1)
            client.cancel(name)
            assert ended(client, name).state == job_api.CANCELLED


def test_a_disk_that_is_full_from_some_call_on_holds_a_job_up_and_loses_none(tmp_path):
    job, tensors = layer_job(methods=METHODS)
    with FaultyServer(tmp_path / "data", *FLAGS) as server, Client(server.address) as client:
        client.upload_missing(tensors)
        expected, count = clean_run(client, server, job)
        for number in range(1, count + 1, max(1, count // 10)):
            job.labels["request"] = f"full-{number}"
            server.fail(number, FOR_GOOD, kinds=WRITE, error=errno.ENOSPC)
            try:
                name = client.create(job, job.labels["request"]).name
                wait_for(lambda: server.read(5) > 3 or client.get(name).state in  # pylint: disable=W0640
                         (job_api.SUCCEEDED, job_api.FAILED), "the disk is full or the job through")
            except grpc.RpcError as refused:
                assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused
            server.heal()
            name = client.create(job, job.labels["request"]).name
            done = ended(client, name)
            assert (done.state, digests(done)) == (job_api.SUCCEEDED, expected), done.failure


def test_a_disk_that_syncs_nothing_acknowledges_nothing(tmp_path):
    job, tensors = layer_job(methods=METHODS)
    with FaultyServer(tmp_path / "data", *FLAGS) as server, Client(server.address) as client:
        client.upload_missing(tensors)
        server.fail(1, FOR_GOOD, kinds=SYNC)
        data = os.urandom(4096)
        for call in (lambda: client.create(job, "r"),
                     lambda: client.upload(tensor_ref("x", "F32", [1024], data), data)):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() in CLEAR, refused.value
        assert client.tensors.FindMissingTensors(tensor_api.FindMissingTensorsRequest(
            sha256=[hashlib.sha256(data).hexdigest()])).missing
        server.heal()
        assert run_job(client, server, job, "r").state == job_api.SUCCEEDED
        assert len(client.jobs.ListJobs(prune_api.ListJobsRequest()).jobs) == 1


@pytest.mark.parametrize("seconds", (86400, -86400))
def test_a_clock_that_jumps_neither_times_a_job_out_nor_loses_its_worker(tmp_path, seconds):
    job, tensors = layer_job(methods=[("gd", {"steps": 1000})])
    job.timeout.seconds = 3600
    flags = ("--lease", "1s", "--tensor-grace", "1h", "--collect-interval", "50ms")
    with FaultyServer(tmp_path / "data", *flags) as server, Client(server.address) as client:
        client.upload_missing(tensors)
        spare, data = tensor_ref("x", "F32", [4], b"spare tensor of 16"[:16]), b"spare tensor of 16"[:16]
        client.upload(spare, data)
        name = client.create(job).name
        client.wait_for_step(name, 5)
        server.set_clock(seconds)
        done = ended(client, name)
        assert (done.state, done.attempt) == (job_api.SUCCEEDED, 1), done.failure
        client.download(spare.sha256)  # its grace is not over
