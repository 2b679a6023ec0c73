"""Several servers of one PostgreSQL and one bucket, clients that go to any of them, and what disturbs both."""
import contextlib
import random
import sys
import threading
import time

import grpc

from harness import LIMIT, ROOT, Client, Server, digests, layer_job, wait_for
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

sys.path.insert(0, str(ROOT / "tests/bench/load"))
import verdict  # pylint: disable=wrong-import-position

# What a call may end with while its server is killed or a store is away: come again, anywhere.
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
PAUSE_SECONDS = 0.05  # before a client calls again
# Of a Run.
OUTPUT_ONLY = ("name", "state", "failure", "results", "create_time", "start_time", "end_time", "attempt",
               "cancel_requested", "request_id", "estimate", "results_done", "results_total", "waiting", "at_work")
MOVE_AFTER = 100  # events that a watcher takes from one server before it goes on at another


class Replicas:
    """`count` servers with the same flags, each with a folder of its own. `dice`: random.Random."""

    def __init__(self, folder, count, flags, dice):
        self.servers = [Server(folder / f"replica{i}", *flags) for i in range(count)]
        self.dice = dice
        self.clients = []

    def __enter__(self):
        for server in self.servers:
            server.start()
        self.clients = [Client(server.address) for server in self.servers]
        return self

    def __exit__(self, *_):
        for server in self.servers:
            if server.process is not None:
                server.kill()
        for client in self.clients:
            client.channel.close()

    def client(self):
        return self.dice.choice(self.clients)

    def call(self, call):
        """What `call` of a client comes to, at whichever server answers."""
        while True:
            try:
                return call(self.client())
            except grpc.RpcError as error:
                if error.code() not in AGAIN:
                    raise
                time.sleep(PAUSE_SECONDS)

    def kill_and_revive(self, server):
        """As a supervisor does: again and again while the database is away."""
        server.kill()

        def starts():
            with contextlib.suppress(AssertionError):
                server.start()
                return True
            server.process.wait()
        wait_for(starts, f"{server.folder.name} starts")


class RovingWatcher(threading.Thread):
    """Follows a job or a run from server to server, and keeps every event that it was shown."""

    def __init__(self, replicas, name):
        super().__init__(daemon=True)
        self.replicas, self.name = replicas, name
        self.events, self.moves, self.error, self.ended = [], 0, None, None

    def run(self):
        try:
            while self.ended is None:
                self.follow(self.replicas.client())
                self.moves += 1
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def follow(self, client):
        after = self.events[-1].sequence if self.events else 0
        stream = client.watch(self.name, after)
        try:
            for number, event in enumerate(stream):
                if event.HasField("heartbeat"):
                    continue
                self.events.append(verdict.event_of(event))
                if self.events[-1].kind == "terminal":
                    self.ended = event
                    return
                if number >= MOVE_AFTER:
                    break
            stream.cancel()
        except grpc.RpcError as error:
            if error.code() not in AGAIN:
                raise
            time.sleep(PAUSE_SECONDS)


class Work:
    """A kind of job or run that is made several times: how, and the digests that it must come to."""

    def __init__(self, title, request, tensors, expected=None):
        self.title, self.request, self.tensors, self.expected = title, request, tensors, expected

    @property
    def is_run(self):
        return isinstance(self.request, prune_api.CreateRunRequest)

    def create(self, client, request_id):
        """Its name."""
        client.upload_missing(self.tensors)
        self.request.request_id = request_id
        make = client.jobs.CreateRun if self.is_run else client.jobs.CreateJob
        return make(self.request).name


def job_work(methods, **options):
    job, tensors = layer_job(methods=methods, **options)
    return Work("+".join(name for name, _ in methods), prune_api.CreateJobRequest(job=job), tensors)


def run_work(client, name, title):
    """As the run of that name was asked for; its server has its tensors."""
    run = client.jobs.GetRun(prune_api.GetRunRequest(name=name))
    asked = type(run)()
    for field, value in run.ListFields():
        if field.name not in OUTPUT_ONLY:
            asked.MergeFrom(type(run)(**{field.name: value}))
    refs = [*run.model.tensors, run.calibration.ids, run.held_out.ids]
    tensors = [(ref, client.download(ref.sha256)) for ref in refs if ref.sha256]
    return Work(title, prune_api.CreateRunRequest(run=asked), tensors)


def outcome(client, name):
    """(state, digests of all that came of it, methods or results in all)"""
    if name.startswith("runs/"):
        run = client.jobs.GetRun(prune_api.GetRunRequest(name=name))
        found = {tensor.name: (tensor.mask.sha256, tensor.weights.sha256)
                 for result in run.results for tensor in result.tensors}
        return run.state, found, run.results_total
    job = client.get(name)
    return job.state, digests(job), len(job.methods)


class Disturber(threading.Thread):
    """Does `disturb` `times` times: at even shares of `total` jobs that have ended."""

    def __init__(self, times, total, ended, disturb):
        super().__init__(daemon=True)
        self.times, self.total, self.ended, self.disturb = times, total, ended, disturb
        self.error = None

    def run(self):
        try:
            for number in range(self.times):
                while self.ended() < self.total * number / self.times:
                    time.sleep(PAUSE_SECONDS)
                self.disturb()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error


class Series:
    """Works in turn, `total` in all, `at_once` of them not ended; meanwhile all is disturbed."""

    def __init__(self, replicas, database, bucket, works, total, at_once):
        self.replicas, self.database, self.bucket = replicas, database, bucket
        self.works, self.total, self.at_once = works, total, at_once
        self.made = {}      # request_id: (work, name)
        self.watchers = {}  # name: RovingWatcher
        self.lock = threading.Lock()

    def ended(self):
        with self.lock:
            return sum(watcher.ended is not None for watcher in self.watchers.values())

    def outstanding(self):
        with self.lock:
            return sum(watcher.is_alive() for watcher in self.watchers.values())

    def make_all(self):
        for number in range(self.total):
            wait_for(lambda: self.outstanding() < self.at_once, "a job ends", limit=10 * LIMIT)
            work, request_id = self.works[number % len(self.works)], f"series-{number}"
            name = self.replicas.call(lambda client: work.create(client, request_id))
            watcher = RovingWatcher(self.replicas, name)
            with self.lock:
                self.made[request_id] = (work, name)
                self.watchers[name] = watcher
            watcher.start()

    def kill_one(self):
        self.replicas.kill_and_revive(self.replicas.dice.choice(self.replicas.servers))

    def crash_database(self):
        with self.database.stopped():
            pass

    def outage(self, seconds):
        with self.bucket.stopped():
            time.sleep(seconds)  # how long it is away

    def run(self, kills, restarts, outages, outage_seconds):
        """Until all has ended; returns what is amiss."""
        disturbers = [Disturber(times, self.total, self.ended, disturb) for times, disturb in (
            (kills, self.kill_one), (restarts, self.crash_database),
            (outages, lambda: self.outage(outage_seconds)))]
        for disturber in disturbers:
            disturber.start()
        self.make_all()
        for thread in [*self.watchers.values(), *disturbers]:
            thread.join(10 * LIMIT)
            assert not thread.is_alive(), f"{getattr(thread, 'name', '')}: has not ended"
            if thread.error is not None:
                raise thread.error
        return self.faults()

    def faults(self):
        """Nothing lost, nothing twice, nothing missed, the same bits."""
        client = self.replicas.clients[0]
        names = {request_id: name for request_id, (_, name) in self.made.items()}
        listed = [*client.jobs.ListJobs(prune_api.ListJobsRequest(page_size=1000)).jobs,
                  *client.jobs.ListRuns(prune_api.ListRunsRequest(page_size=1000)).runs]
        faults = verdict.job_faults(names, [(one.request_id, one.name) for one in listed
                                            if one.request_id.startswith("series-")])
        for work, name in self.made.values():
            faults += self.faults_of(client, work, name)
        return faults

    def faults_of(self, client, work, name):
        state, found, results = outcome(client, name)
        log = [verdict.event_of(message) for message in client.watch(name)]
        state_name = job_api.JobState.Name(state)
        faults = verdict.log_faults(name, state_name, log)
        faults += verdict.watch_faults(name, self.watchers[name].events, log)
        if state != job_api.SUCCEEDED:
            return [*faults, f"{name} ({work.title}): {state_name}"]
        told = sum(event.kind in ("method_result", "run_result") for event in log)
        if told != results:
            faults.append(f"{name}: {told} results were told of, of {results}")
        changes = sum(event.kind == "state_change" for event in log)
        fence, = self.database.ask(f"SELECT fence FROM attnprune.jobs WHERE id = '{name[5:]}'")
        if int(fence) != changes - 1:  # each claim and each return to the queue, but for its creation
            faults.append(f"{name}: its fence is {fence} after {changes} changes of state")
        return faults + verdict.bit_faults([(work.title, "the undisturbed one", work.expected),
                                            (work.title, name, found)])


def new_dice(seed=None):
    return random.Random(random.randrange(2**32) if seed is None else seed)


def learn_undisturbed(server, client, works):
    """What each comes to on a server by itself: into its `expected`."""
    for number, work in enumerate(works):
        name = work.create(client, f"undisturbed-{number}")
        *_, last = client.watch(name)
        state, work.expected, _ = outcome(client, name)
        assert state == job_api.SUCCEEDED, f"{work.title}: {last}: {server.log[-2000:]}"
