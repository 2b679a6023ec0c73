"""Two or three servers of one PostgreSQL and one bucket: any call at any of them, and what becomes of their work.

The long series is tests/bench/load/replicas.py."""
import contextlib
import filecmp
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest

from harness import BIN, LIMIT, MODEL, Client, Server, cli, digests, layer_job, wait_for
from replica_set import Replicas, Series, job_work, new_dice
from s3 import SmallS3
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

ENDLESS = (("gd", {"steps": 1000000}),)
LONG = (("gd", {"steps": 100}),)
RUN = ("--model", MODEL, "--tokens", MODEL / "held_out.safetensors", "--sparsity", "0.5", "--method", "alps:steps=10")
PAUSE = 0.05  # seconds between two looks that start a program, or ask servers that are to notice something
NO_LEASE_ENDS = ("--lease", "1h", "--checkpoint-interval", "1h")


@pytest.fixture(name="bucket", scope="module")
def run_bucket():
    with SmallS3() as server:
        os.environ.update(server.keys)
        yield server
        for name in server.keys:
            del os.environ[name]


@pytest.fixture(name="replicas")
def make_replicas(tmp_path, store, bucket):
    """replicas(count, *flags): so many servers, all of them anew; http_port_files: one of each."""
    for name in (bucket.folder / "objects").iterdir():
        name.unlink()
    with contextlib.ExitStack() as stack:
        def start(count, *flags, http_port_files=()):
            several = Replicas(tmp_path, count, (*store, "--blobs", bucket.url, *flags), new_dice())
            for server, file in zip(several.servers, http_port_files):
                server.flags = (*server.flags, "--http-port-file", file)
            return stack.enter_context(several)
        yield start


@pytest.fixture(name="alone", scope="module")
def run_alone(tmp_path_factory):
    """What LONG comes to on a server by itself, and the run as a folder."""
    folder = tmp_path_factory.mktemp("alone")
    with Server(folder / "data") as server, Client(server.address) as client:
        job, tensors = layer_job(methods=LONG)
        client.upload_missing(tensors)
        found = digests(client.finish(client.create(job).name))
    return found, folder


def undisturbed_run(folder, order):
    output = folder / order
    if not output.exists():
        ended = cli("prune", *RUN, "--order", order, "--quiet", "--output", output)
        assert ended.returncode == 0, ended.stderr
    return output


def done(*arguments):
    ended = cli(*arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def submit_run(server, *flags):
    return json.loads(done("submit", "--run", *RUN, *flags, "--json", "--server", server.address))["name"]


def make(client, **options):
    job, tensors = layer_job(**options)
    client.upload_missing(tensors)
    return client.create(job).name


def worker_of(database, replicas, name):
    """(the server that runs it, the others)"""
    query = f"SELECT lease_owner FROM attnprune.jobs WHERE id = '{name[5:]}' AND state = 2"
    owner = wait_for(lambda: database.ask(query), f"{name} runs", pause=PAUSE)[0]
    at = [owner.endswith((one.folder / "folder-id").read_text().strip()) for one in replicas.servers].index(True)
    return replicas.servers[at], [*replicas.servers[:at], *replicas.servers[at + 1:]]


def results_of(database, name):
    return int(database.ask("SELECT count(*) FROM attnprune.job_results JOIN attnprune.jobs ON number = job "
                            f"WHERE id = '{name[5:]}'")[0])


def same_model(one, other):
    return filecmp.cmp(one / "model.safetensors", other / "model.safetensors", shallow=False)


# --- any call anywhere ---

def job_made_here_watched_there_and_cancelled_from_a_third(database, three):
    name = make(three.clients[0], methods=ENDLESS)
    ran, _ = worker_of(database, three, name)
    at = three.servers.index(ran)
    here, there = three.clients[(at + 1) % 3], three.clients[(at + 2) % 3]
    stream = there.watch(name)
    assert any(event.HasField("progress") and event.progress.step >= 5 for event in stream)
    assert here.get(name).at_work.method == "gd"
    assert here.cancel(name).cancel_requested
    *_, last = stream
    assert last.terminal.state == job_api.CANCELLED
    assert {client.get(name).state for client in three.clients} == {job_api.CANCELLED}
    for client in three.clients:
        listed = client.jobs.ListJobs(prune_api.ListJobsRequest(page_size=10)).jobs
        assert [job.name for job in listed] == [name]
    mask = last.terminal.results[0].matrices[0].mask.sha256
    assert len({client.download(mask) for client in three.clients}) == 1
    there.jobs.DeleteJob(prune_api.DeleteJobRequest(name=name))
    assert not here.jobs.ListJobs(prune_api.ListJobsRequest(page_size=10)).jobs


def run_cancelled_from_another_and_resumed_from_a_third(three):
    """Its name."""
    a, b, c = three.servers
    name = submit_run(a)
    with subprocess.Popen([BIN / "attnprune", "watch", name, "--server", b.address], text=True,
                          stdout=subprocess.PIPE) as watch:
        for line in watch.stdout:
            if line.startswith("block 0 "):
                done("cancel", name, "--server", c.address)
                break
        watch.stdout.read()
    assert watch.returncode == 1
    three.clients[0].jobs.ResumeRun(prune_api.ResumeRunRequest(name=name))
    return name


def test_any_call_works_at_any_replica_and_a_run_goes_on_when_its_own_dies(database, replicas, alone, tmp_path):
    three = replicas(3, "--lease", "2s", "--checkpoint-interval", "100ms")
    job_made_here_watched_there_and_cancelled_from_a_third(database, three)
    name = run_cancelled_from_another_and_resumed_from_a_third(three)
    before = results_of(database, name)
    ran, (other, *_) = worker_of(database, three, name)
    wait_for(lambda: results_of(database, name) > before, "it has results", pause=PAUSE)
    ran.kill()
    done("watch", name, "--quiet", "--server", other.address)
    run = json.loads(done("get", name, "--json", "--server", other.address))
    assert run["state"] == "SUCCEEDED" and run["attempt"] >= 3
    assert len(run["results"]) == run["resultsTotal"]
    done("fetch", name, "--server", other.address, "--output", tmp_path / "out")
    assert same_model(tmp_path / "out", undisturbed_run(alone[1], "sequential"))


# --- draining, dying, hanging ---

def test_a_replica_that_drains_hands_its_job_over_at_once(database, replicas, alone):
    two = replicas(2, *NO_LEASE_ENDS)  # neither a lease nor a checkpoint but the drain's comes in time
    name = make(two.clients[0], methods=LONG)
    ran, (other,) = worker_of(database, two, name)
    with Client(other.address) as client:
        client.wait_for_step(name, 20)
        assert ran.terminate() == 0
        job = client.finish(name)
        steps = [event.progress.step for event in client.watch(name) if event.HasField("progress")]
    assert (job.state, job.attempt) == (job_api.SUCCEEDED, 2)
    assert steps == sorted(set(steps)), "no step was computed again"
    assert digests(job) == alone[0]


def test_replicas_that_are_stopped_beyond_their_leases_are_fenced(database, replicas, alone):
    three = replicas(3, "--lease", "1s", "--checkpoint-interval", "50ms")
    names, stopped = [], []
    try:
        for number in range(2):
            (up, *_) = (client for client, server in zip(three.clients, three.servers) if server not in stopped)
            names.append(make(up, methods=LONG, priority=number))
            stopped.append(worker_of(database, three, names[-1])[0])
            stopped[-1].process.send_signal(signal.SIGSTOP)
        (third,) = (server for server in three.servers if server not in stopped)
        with Client(third.address) as client:
            jobs = [client.finish(name) for name in names]
    finally:
        for server in stopped:
            server.process.send_signal(signal.SIGCONT)
    # The two have let go of what they had: of three jobs more each server, of one worker, runs one.
    for _ in three.servers:
        make(three.clients[0], methods=ENDLESS)
    at_work = "SELECT count(DISTINCT lease_owner) FROM attnprune.jobs WHERE state = 2"
    wait_for(lambda: database.ask(at_work) == ["3"], "all three work", pause=PAUSE)
    for name, job in zip(names, jobs):
        assert job.state == job_api.SUCCEEDED and job.attempt >= 2
        assert digests(job) == alone[0]
        assert three.clients[0].get(name).results == job.results
        assert results_of(database, name) == 1
        events = list(three.clients[1].watch(name))
        assert sum(event.HasField("method_result") for event in events) == 1
        assert [event.WhichOneof("event") for event in events].count("terminal") == 1


def says_serving(client):
    """Of gRPC's health service: HealthCheckRequest and HealthCheckResponse, as bytes."""
    try:
        return client.channel.unary_unary("/grpc.health.v1.Health/Check")(b"\n\x05ready") == b"\x08\x01"
    except grpc.RpcError:
        return False


def says_well(port_file):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port_file.read_text().strip()}/healthz", timeout=LIMIT):
            return True
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False


def test_health_says_ready_only_while_database_and_bucket_answer(tmp_path, database, bucket, replicas):
    ports = [tmp_path / f"http{number}" for number in range(2)]
    two = replicas(2, "--http-listen", "127.0.0.1:0", http_port_files=ports)

    def becomes(ready):
        words = [*map(says_serving, two.clients), *map(says_well, ports)]
        return words == [ready] * 4
    wait_for(lambda: becomes(True), "both are ready", pause=0.2)
    for away in (database.stopped, bucket.stopped, database.hanging):
        with away():
            wait_for(lambda: becomes(False), f"neither is ready: {away.__name__}", pause=0.2)
        wait_for(lambda: becomes(True), f"both are ready again: {away.__name__}", pause=0.2)


def test_a_full_bucket_is_told_and_what_runs_waits_for_room(bucket, replicas, alone):
    one = replicas(1)
    name = make(one.clients[0], methods=LONG)
    fault = bucket.folder / "fault"
    fault.write_text(json.dumps({"method": "PUT", "status": 507, "code": "XMinioStorageFull", "times": 1000000}))
    with pytest.raises(grpc.RpcError) as refused:
        make(one.clients[0], layer=0)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "answers 507 XMinioStorageFull" in refused.value.details()
    wait_for(lambda: "job.trouble" in one.servers[0].log, "the result cannot be stored")
    assert says_serving(one.clients[0]), "what is there can be read"
    fault.unlink()
    job = one.clients[0].finish(name)
    assert (job.state, digests(job)) == (job_api.SUCCEEDED, alone[0])


def test_a_series_of_kills_a_crash_and_an_outage_loses_nothing_and_changes_no_bit(database, bucket, replicas, alone):
    work = job_work(LONG)
    work.expected = alone[0]
    two = replicas(2, "--lease", "2s", "--checkpoint-interval", "100ms")
    assert Series(two, database, bucket, [work], 6, 3).run(kills=2, restarts=1, outages=1, outage_seconds=1) == []


# --- one model on several ---

def test_blocks_of_a_run_in_independent_order_are_pruned_on_both_at_once(database, replicas, alone, tmp_path):
    two = replicas(2, *NO_LEASE_ENDS, "--log-format", "json")
    name = submit_run(two.servers[0], "--order", "independent")
    at_work = "SELECT count(*) FROM attnprune.job_parts WHERE done = 0 AND (own = 1 OR lease_until > 0)"
    wait_for(lambda: database.ask(at_work) == ["2"], "two blocks are at work", pause=PAUSE)
    done("watch", name, "--quiet", "--server", two.servers[1].address)

    def blocks_of(server):
        lines = [json.loads(line) for line in server.log.splitlines() if '"run.result"' in line]
        return {line["block"] for line in lines if line["job"] == name}
    first, second = map(blocks_of, two.servers)
    assert first and second and len(first | second) >= 4
    done("fetch", name, "--server", two.servers[1].address, "--output", tmp_path / "out")
    assert same_model(tmp_path / "out", undisturbed_run(alone[1], "independent"))
