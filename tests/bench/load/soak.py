#!/usr/bin/python3
"""Clients that create, upload, watch and cancel for a while, over kills of the server, and then count what was lost.

    tests/bench/load/soak.py [--minutes 30] [--clients 50] [--kills 5] [--rate 5] [--build build/release]
                             [--folder DIR] [--seed N] [-- SERVER FLAGS]

Each client does one job after the other: it uploads a tensor of its own (one job in four), creates the job under a
request_id, as often as it takes to be told of it and sometimes once more, watches it through every restart, and
cancels some. The server is killed with SIGKILL --kills times, evenly spread, and started again at once.

Then, with everything ended: every acknowledged job reached exactly one terminal state, none is lost, none was made
twice or without anybody being told; every watcher saw every event but thinned progress, once and in order; a cancelled
job did not succeed after its cancel was answered while it was queued; equal jobs have equal bits; uploads come back as
they were. Prints memory, open files and threads as they were, and exits with 1 if anything is amiss.

Needs the release programs and python3-grpcio, python3-protobuf, python3-numpy (./dev.sh setup).
"""
import argparse
import collections
import os
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
SAMPLE_SECONDS = 5
TELL_SECONDS = 30
RETRY_SECONDS = 0.1  # before a client calls again after a failure
UPLOAD_BYTES = (1 << 20, 4 << 20)
SETTLED_SECONDS = 600  # of a soak whose memory is judged; a shorter one's is told only
MEMORY_GROWTH = 1.10  # of resident memory, from around minute 5 (or a sixth of the time) to the end


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--rate", type=float, default=5, help="jobs a second, all clients together, at most")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--folder", type=pathlib.Path, help="of the server; removed before and after")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("server_flags", nargs="*")
    args = parser.parse_args()
    os.environ.setdefault("ATTNPRUNE_BIN", str(args.build / "bin"))
    sys.path[:0] = [str(ROOT / "tests/system"), str(args.build / "tests/system/stubs")]
    return args


args = parse()
import grpc  # pylint: disable=wrong-import-position
import numpy  # pylint: disable=wrong-import-position
from harness import Client, Server, digests, layer_job, tensor_ref  # pylint: disable=wrong-import-position
from attnprune.v1 import job_pb2 as job_api  # pylint: disable=wrong-import-position
from attnprune.v1 import prune_service_pb2 as prune_api  # pylint: disable=wrong-import-position
import verdict  # pylint: disable=wrong-import-position

# (methods, weight): most are short, some go on until they are cancelled or done.
SPECIFICATIONS = (((("magnitude", {}),), 4), ((("wanda", {}), ("gd", {"steps": 20})), 4),
                  ((("gd", {"steps": 150}),), 3), ((("sparsegpt", {}),), 2), ((("gd", {"steps": 800}),), 1))
# What a call may end with while the server is killed, starts, or is behind: come again.
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED,
         grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL)


class Ledger:
    """What all clients were told. Thread-safe."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = {}  # request_id: name
        self.watched = {}       # name: events
        self.cancelled = {}     # name: state in the answer to the cancel
        self.specifications = {}
        self.faults = []
        self.counts = collections.Counter()

    def add(self, kind, key, value):
        with self.lock:
            getattr(self, kind)[key] = value

    def fault(self, text):
        with self.lock:
            self.faults.append(text)

    def count(self, what):
        with self.lock:
            self.counts[what] += 1


class Worker(threading.Thread):
    """One client."""

    def __init__(self, number, address, ledger, stop, layers):
        super().__init__(daemon=True, name=f"client-{number}")
        self.number, self.address, self.ledger, self.stop = number, address, ledger, stop
        self.layers = layers  # [(job, tensors)] by specification
        self.dice = random.Random(args.seed * 1000 + number)

    def run(self):
        pause = args.clients / args.rate
        made = 0
        try:
            time.sleep(self.dice.random() * pause)
            with Client(self.address) as client:
                while not self.stop.is_set():
                    begin = time.monotonic()
                    self.one_job(client, f"soak-{self.number}-{made}")
                    made += 1
                    self.stop.wait(max(0, pause - (time.monotonic() - begin)))
        except Exception as error:  # pylint: disable=broad-except
            self.ledger.fault(f"{self.name}: {type(error).__name__}: {error}")

    def until_answered(self, call, what):
        """The answer of a call that is safe to repeat."""
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                if error.code() not in AGAIN:
                    raise
                self.ledger.count(f"{what} again")
                time.sleep(RETRY_SECONDS)

    def one_job(self, client, request_id):
        if self.dice.random() < 0.25:
            self.upload(client)
        choice = self.dice.choices(range(len(SPECIFICATIONS)), [weight for _, weight in SPECIFICATIONS])[0]
        job, tensors = self.layers[choice]
        self.until_answered(lambda: client.upload_missing(tensors), "upload")
        name = self.until_answered(lambda: client.create(job, request_id), "create").name
        self.ledger.add("acknowledged", request_id, name)
        self.ledger.add("specifications", name, choice)
        if self.dice.random() < 0.2:
            again = self.until_answered(lambda: client.create(job, request_id), "create").name
            if again != name:
                self.ledger.fault(f"request {request_id}: first {name}, then {again}")
        watch = threading.Thread(target=self.watch, args=(client, name), daemon=True)
        watch.start()
        if self.dice.random() < 0.2:
            watch.join(self.dice.random())
            answer = self.until_answered(lambda: client.cancel(name), "cancel")
            self.ledger.add("cancelled", name, answer.state)
        watch.join()
        self.ledger.count("jobs")

    def watch(self, client, name):
        seen = []
        try:
            while not seen or seen[-1].kind != "terminal":
                try:
                    for message in client.watch(name, seen[-1].sequence if seen else 0):
                        if message.WhichOneof("event") != "heartbeat":
                            seen.append(verdict.event_of(message))
                except grpc.RpcError as error:
                    if error.code() not in AGAIN:
                        raise
                    self.ledger.count("watch again")
                    time.sleep(RETRY_SECONDS)
        except Exception as error:  # pylint: disable=broad-except
            self.ledger.fault(f"{name}: the watch: {type(error).__name__}: {error}")
        self.ledger.add("watched", name, seen)

    def upload(self, client):
        size = self.dice.randrange(*UPLOAD_BYTES) // 4 * 4
        data = numpy.random.default_rng(self.dice.randrange(2**32)).bytes(size)
        ref = tensor_ref("w", "F32", [size // 4], data)
        # From where it stands: what a kill cuts short goes on.
        self.until_answered(lambda: self.go_on_with(client, ref, data), "upload")
        if self.dice.random() < 0.5 and self.until_answered(lambda: client.download(ref.sha256), "download") != data:
            self.ledger.fault(f"tensor {ref.sha256}: came back otherwise")
        self.ledger.count("uploads")

    @staticmethod
    def go_on_with(client, ref, data):
        from attnprune.v1 import tensor_service_pb2 as tensor_api  # pylint: disable=import-outside-toplevel
        request = tensor_api.QueryUploadRequest(upload_id=ref.sha256)
        client.upload(ref, data, offset=client.tensors.QueryUpload(request).committed_bytes)


class Sampler(threading.Thread):
    """Memory, files and threads of the server, as long as it is asked."""

    def __init__(self, server, ledger, stop):
        super().__init__(daemon=True)
        self.server, self.ledger, self.stop = server, ledger, stop
        self.begin = time.monotonic()
        self.samples = []  # (seconds, starts, MiB, files, threads)

    def sample(self):
        process = self.server.process
        try:
            proc = pathlib.Path(f"/proc/{process.pid}")
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
            return (time.monotonic() - self.begin, self.server.starts, int(status["VmRSS"].split()[0]) / 1024,
                    len(os.listdir(proc / "fd")), int(status["Threads"]))
        except (AttributeError, OSError, KeyError):  # between two servers
            return None

    def run(self):
        told = -TELL_SECONDS
        print("seconds  starts  jobs  memory MiB  files  threads", flush=True)
        while not self.stop.wait(SAMPLE_SECONDS):
            sample = self.sample()
            if sample is None:
                continue
            self.samples.append(sample)
            if sample[0] - told >= TELL_SECONDS:
                told = sample[0]
                self.tell(sample)

    def tell(self, sample):
        seconds, starts, memory, files, threads = sample
        print(f"{seconds:7.0f}  {starts:6}  {self.ledger.counts['jobs']:4}  {memory:10.1f}  {files:5}  {threads:7}",
              flush=True)


def kill_now_and_then(server, seconds):
    """Returns when it is over."""
    begin = time.monotonic()
    for number in range(args.kills):
        time.sleep(max(0, begin + seconds * (number + 1) / (args.kills + 1) - time.monotonic()))
        server.kill()
        server.start()
    time.sleep(max(0, begin + seconds - time.monotonic()))


def all_jobs(client):
    token = ""
    while True:
        page = client.jobs.ListJobs(prune_api.ListJobsRequest(page_size=1000, page_token=token))
        yield from page.jobs
        token = page.next_page_token
        if not token:
            return


def examine(client, ledger):
    """All that is amiss once every client is through."""
    jobs = list(all_jobs(client))
    faults = verdict.job_faults(ledger.acknowledged, [(job.request_id, job.name) for job in jobs])
    results = []
    for job in jobs:
        state = job_api.JobState.Name(job.state)
        log = [verdict.event_of(message) for message in client.watch(job.name)]
        faults += verdict.log_faults(job.name, state, log)
        faults += verdict.watch_faults(job.name, ledger.watched.get(job.name, []), log)
        told = ledger.cancelled.get(job.name)
        if told == job_api.CANCELLED and state != "CANCELLED":
            faults.append(f"{job.name}: was CANCELLED, is {state}")
        if state == "FAILED":
            faults.append(f"{job.name}: failed: {job.failure.message}")
        if state == "SUCCEEDED":
            results.append((ledger.specifications.get(job.name), job.name, digests(job)))
    return faults + verdict.bit_faults(results), collections.Counter(job_api.JobState.Name(job.state) for job in jobs)


def memory_faults(samples):
    """Of the largest around minute 5, or a sixth of the time, and of the largest of a time as long at the end: a
    server that was just started has not its working size yet."""
    if len(samples) < 6:
        return []
    end = samples[-1][0]
    at = min(300, end / 6)
    early, late = (max((sample for sample in samples if first <= sample[0] <= last), key=lambda sample: sample[2])
                   for first, last in ((at / 2, at * 3 / 2), (end - at, end)))
    print(f"memory {early[2]:.1f} MiB at most around {at:.0f} s, {late[2]:.1f} in the last {at:.0f} s; "
          f"files {early[3]}, {late[3]}; threads {early[4]}, {late[4]}")
    if end < SETTLED_SECONDS or late[2] <= MEMORY_GROWTH * early[2]:
        return []
    return [f"memory grew from {early[2]:.1f} to {late[2]:.1f} MiB, by more than a tenth"]


def soak(folder):
    ledger, stop, over = Ledger(), threading.Event(), threading.Event()
    flags = ("--checkpoint-interval", "1s", "--workers", "2", "--max-queued-jobs", "1000000", *args.server_flags)
    with Server(folder, *flags) as server:
        layers = [layer_job(methods=methods) for methods, _ in SPECIFICATIONS]
        sampler = Sampler(server, ledger, over)
        sampler.start()
        workers = [Worker(number, server.address, ledger, stop, layers) for number in range(args.clients)]
        for worker in workers:
            worker.start()
        kill_now_and_then(server, args.minutes * 60)
        stop.set()
        for worker in workers:
            worker.join()
        over.set()
        sampler.join()
        with Client(server.address) as client:
            faults, states = examine(client, ledger)
    faults = ledger.faults + faults + memory_faults(sampler.samples)
    lost = sum("lost" in fault for fault in faults)
    print(f"{ledger.counts['jobs']} jobs {dict(states)}, {ledger.counts['uploads']} uploads, {args.kills} kills; "
          f"{ {what: count for what, count in ledger.counts.items() if what.endswith('again')} }")
    print(f"{lost} lost, {len(faults)} faults")
    for fault in faults[:50]:
        print(f"  {fault}"[:400])
    return 1 if faults else 0


def main():
    folder = args.folder or pathlib.Path(tempfile.mkdtemp(prefix="attnprune-soak-")) / "data"
    print(f"seed {args.seed}, folder {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    code = soak(folder)
    if code == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
