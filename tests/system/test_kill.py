"""kill -9 of the real server: accepted jobs are kept, and a mask comes out as if nothing had been."""
import json
import subprocess
import threading

import grpc

from harness import (BIN, LIMIT, Client, PersistentWatcher, Server, digests, layer_job, submit, wait_for)
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

KILLS = 20
STEPS = 900
LONG = (("gd", {"steps": STEPS}), ("wanda", {}))


def undisturbed(tmp_path):
    with Server(tmp_path / "undisturbed") as server, Client(server.address) as client:
        return client.finish(submit(client, methods=LONG).name)


class Submitter(threading.Thread):
    """Creates small jobs, one after the other, and remembers those that were accepted."""

    def __init__(self, address, job):
        super().__init__(daemon=True)
        self.address, self.job = address, job
        self.accepted, self.stopped = [], threading.Event()
        self.error = None

    def run(self):
        number = 0
        with Client(self.address) as client:
            while not self.stopped.is_set():
                try:
                    self.accepted.append(client.create(self.job, f"small-{number}").name)
                    number += 1
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        self.error = error
                        return
                self.stopped.wait(0.3)


def json_watcher(server, name):
    return subprocess.Popen(
        [BIN / "attnprune", "watch", name, "--json", "--server", server.address],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def latest_step(events):
    steps = [event.progress.step for event in events if event.HasField("progress")]
    return steps[-1] if steps else 0


def only_grows(sequences):
    return all(a < b for a, b in zip(sequences, sequences[1:]))


def test_twenty_kills_change_neither_the_mask_nor_the_order_of_events(tmp_path, dice):
    expected = undisturbed(tmp_path)
    with Server(tmp_path / "data", "--checkpoint-interval", "100ms") as server:
        with Client(server.address) as client:
            name = submit(client, methods=LONG, priority=1).name
        small, _ = layer_job(methods=[("magnitude", {})])
        submitter = Submitter(server.address, small)
        watcher = PersistentWatcher(server.address, name)
        shown = json_watcher(server, name)
        submitter.start()
        watcher.start()
        # Random moments: as soon as the watcher has seen, since the last kill, that step or a later;
        # a watcher that is late by less than half the job still hits it.
        for moment in sorted(dice.randrange(1, STEPS // 2) for _ in range(KILLS)):
            seen = len(watcher.events)
            wait_for(lambda: latest_step(watcher.events[seen:]) >= moment, f"step {moment}")
            server.kill()
            server.start()
        submitter.stopped.set()
        submitter.join()
        job = watcher.ended()
        lines, _ = shown.communicate(timeout=LIMIT)

        assert submitter.error is None, submitter.error
        assert job.state == job_api.SUCCEEDED, job.failure
        assert job.attempt == KILLS + 1, "every kill hit the running job"
        assert digests(job) == digests(expected), "bit for bit"
        assert only_grows(watcher.sequences())
        assert shown.returncode == 0
        assert only_grows([int(json.loads(line)["sequence"]) for line in lines.splitlines()])

        with Client(server.address) as client:
            assert submitter.accepted, "jobs were accepted between the kills"
            for name in submitter.accepted:
                assert client.finish(name).state == job_api.SUCCEEDED, name


def test_a_killed_server_runs_its_queue_by_itself_after_the_restart(tmp_path):
    with Server(tmp_path / "data") as server:
        with Client(server.address) as client:
            names = [submit(client, f"r{i}", methods=[("magnitude", {})]).name for i in range(5)]
        server.kill()
        server.start()
        with Client(server.address) as client:
            states = [client.finish(name).state for name in names]
            assert states == [job_api.SUCCEEDED] * 5
            # The same request again is the same job.
            again = submit(client, "r3", methods=[("magnitude", {})])
            assert again.name == names[3]
            listed = client.jobs.ListJobs(prune_api.ListJobsRequest(page_size=100)).jobs
            assert sorted(job.name for job in listed) == sorted(names)
