#!/usr/bin/python3
"""What one tenant's floods cost another, and whether a server with little memory survives them.

    tests/bench/load/flood.py [--build build/release] [--memory-mib 300] [--seconds 10] [--rounds 1] [--only creates,connections,...]

One server with tokens of two tenants (a worker of one thread, in a memory cgroup of its own where root may make one) solves one
endless job of the one. A second process, the same tenant, creates a small job and gets it, ten times a second. The other tenant
then does, in turn, for so many seconds each,

- nothing, before each of the others: what that one is measured by;
- creates: 10,000 jobs of magnitude, by 8 threads;
- connections: 3,000, half of them HTTP/2 that has begun, half to the HTTP port;
- downloads: 300 of a tensor of 4 MiB, of which nothing is read;
- headers: 10,000 uploads of 1 GiB that send no byte.

Prints the median and worst time of the tenant's create and get, the steps of its running job a second beside those of the
"nothing" before, what they and the rest of the server take of a core, and its resident memory; with several rounds, the medians over
them in the end. What is asked is what the server does, not what programs do to each other's time: flooding programs run on one
core, in a session of a lower priority than the server's, and both of higher ones than what else is at work, where root may make it
so (Linux shares a machine alike among sessions, whatever their processes' priorities). Exits with 1 if the server has ended.
"""
import argparse
import contextlib
import hashlib
import multiprocessing
import os
import pathlib
import queue
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIB = 1 << 20
UPLOAD = "/attnprune.v1.TensorService/UploadTensor"


def load(build):
    """The stubs and what the system tests have for a client, once the build's folder is known."""
    global grpc, job_api, prune_api, tensor_api, harness, http2, tokens
    os.environ["ATTNPRUNE_BIN"] = str(build / "bin")
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    sys.path[:0] = [str(build / "tests/system/stubs"), str(ROOT / "tests/system")]
    import grpc
    import harness
    import http2
    import test_tokens as tokens
    from attnprune.v1 import job_pb2 as job_api
    from attnprune.v1 import prune_service_pb2 as prune_api
    from attnprune.v1 import tensor_service_pb2 as tensor_api


def set_apart(nice):
    """Into a session of its own, with that priority among sessions."""
    with contextlib.suppress(OSError):  # it is one already
        os.setsid()
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text(str(nice))


# --- The server ---

class Server:
    def __init__(self, args, folder):
        self.cgroup = self.make_cgroup(args.memory_mib)
        port, http, file = folder / "port", folder / "http", folder / "tokens"
        self.tokens = {tenant: tokens.make_token(file, tenant, "submitter") for tenant in ("quiet", "flood")}
        command = [args.build / "bin/attnprune-server", "--data-dir", folder / "data", "--listen", "127.0.0.1:0", "--port-file", port,
                   "--http-listen", "127.0.0.1:0", "--http-port-file", http, "--workers", "1", "--threads-per-job", "1",
                   "--memory-budget", "64MiB", "--token-file", file]
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=self.enter)
        while not port.exists() or not http.exists() or not http.read_text().strip():
            if self.process.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.05)
        self.address = "127.0.0.1:" + port.read_text().strip()
        self.http = ("127.0.0.1", int(http.read_text()))

    def told(self, tenant):
        """What another process needs, and may know."""
        return {"address": self.address, "http": self.http, "token": self.tokens[tenant]}

    @staticmethod
    def make_cgroup(mib):
        folder = pathlib.Path("/sys/fs/cgroup/memory" if pathlib.Path("/sys/fs/cgroup/memory").exists() else "/sys/fs/cgroup")
        limit = "memory.limit_in_bytes" if folder.name == "memory" else "memory.max"
        group = folder / f"attnprune-flood-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(mib * MIB))
        except OSError as error:
            print(f"no memory cgroup ({error}): the server's memory is not limited", file=sys.stderr)
            return None
        return group

    def enter(self):
        if self.cgroup is not None:
            (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def busy_seconds(self):
        """Of its threads together."""
        user, system = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def solver_seconds(self):
        """Of the thread that has taken most."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return max(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024

    def end(self):
        self.process.kill()
        self.process.wait()
        if self.cgroup is not None:
            self.cgroup.rmdir()


def client_of(server):
    return tokens.TokenClient(server["address"], server["token"])


# --- The other tenant ---

def time_calls(args, server, job, out, seconds):
    load(args.build)
    times, failures = [], {}
    with client_of(server) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begin = time.monotonic()
            try:
                name = client.jobs.CreateJob(prune_api.CreateJobRequest(job=job_api.Job.FromString(job)), timeout=10).name
                client.get(name)
                times.append(time.monotonic() - begin)
            except grpc.RpcError as error:
                failures[error.details()] = failures.get(error.details(), 0) + 1
            time.sleep(max(0, begin + 0.1 - time.monotonic()))
    out.put((times, failures))


class Steps(threading.Thread):
    """The newest step of a job."""

    def __init__(self, client, name):
        super().__init__(daemon=True)
        self.stream, self.step = client.watch(name), 0
        self.start()

    def run(self):
        with contextlib.suppress(grpc.RpcError):  # the end
            for event in self.stream:
                self.step = max(self.step, event.progress.step)


# --- Floods: each until `stop`, then says what it did ---

def creates(server, job, begun, stop):
    done, refused = [], {}
    begun.set()

    def work():
        with client_of(server) as client:
            for _ in range(1250):
                if stop.is_set():
                    return
                try:
                    done.append(client.create(job_api.Job.FromString(job)).name)
                except grpc.RpcError as error:
                    refused[error.details()] = refused.get(error.details(), 0) + 1
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"{len(done)} created, refused {refused}"


def connections(server, _, begun, stop):
    host, port = server["address"].split(":")
    held, refused = [], 0
    for i in range(3000):
        if stop.is_set():
            break
        try:
            one = socket.create_connection((host, int(port)) if i % 2 else server["http"], timeout=5)
            one.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0) if i % 2 else b"GET / HTTP/1.1\r\nHost: ")
            held.append(one)
        except OSError:
            refused += 1
    begun.set()
    stop.wait()
    return f"{len(held)} connections, {refused} refused"


def downloads(server, _, begun, stop):
    clients = [client_of(server) for _ in range(10)]
    data = os.urandom(4 * MIB)
    ref = harness.tensor_ref("flood", "F32", [MIB], data)
    clients[0].upload(ref, data)
    request = tensor_api.DownloadTensorRequest(sha256=ref.sha256)
    streams = [clients[i % 10].tensors.DownloadTensor(request) for i in range(300)]
    begun.set()
    stop.wait()
    return f"{len(streams)} downloads"


def headers(server, _, begun, stop):
    held, port = [], int(server["address"].split(":")[1])
    begun.set()

    def header(number):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        return tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(
            upload_id=digest, sha256=digest, size_bytes=1 << 30, dtype=job_api.F32)).SerializeToString()
    for first in range(0, 10000, 250):  # what a connection takes before it says that it takes more
        headers = [header(number) for number in range(first, first + 250)]
        held.append(http2.connection(port, *http2.calls(250, UPLOAD, server["token"], headers)))
    stop.wait()
    return f"{len(held)} connections of 250 uploads"


def nothing(_server, _job, begun, stop):
    begun.set()
    stop.wait()
    return ""


FLOODS = {flood.__name__: flood for flood in (nothing, creates, connections, downloads, headers)}


def flood(args, name, server, job, begun, stop, told):
    set_apart(-5)
    load(args.build)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    told.put(FLOODS[name](server, job, begun, stop))
    told.close()
    told.join_thread()
    os._exit(0)  # with streams open


def measure(args, name, server, job, steps):
    context = multiprocessing.get_context("spawn")
    begun, stop, out, told = context.Event(), context.Event(), context.Queue(), context.Queue()
    flooder = context.Process(target=flood, args=(args, name, server.told("flood"), job, begun, stop, told))
    other = context.Process(target=time_calls, args=(args, server.told("quiet"), job, out, args.seconds))
    flooder.start()
    begun.wait(30)
    time.sleep(1)
    before, begin, busy, solver = steps.step, time.monotonic(), server.busy_seconds(), server.solver_seconds()
    other.start()
    times, failures = out.get()
    took = time.monotonic() - begin
    rate = (steps.step - before) / took
    ran = (server.solver_seconds() - solver) / took
    cores = (server.busy_seconds() - busy) / took - ran
    memory = server.resident_mib()
    stop.set()
    try:
        did = told.get(timeout=20)
    except queue.Empty:
        did = "its streams did not end"
    flooder.kill()
    flooder.join()
    return times, failures, rate, ran, cores, memory, did


def report(args, folder):
    server = Server(args, folder)
    try:
        with client_of(server.told("quiet")) as client, client_of(server.told("flood")) as flooder:
            steps = Steps(client, harness.submit(client, methods=(("gd", {"steps": 1000000}),), priority=9).name)
            small, tensors = harness.layer_job(methods=(("magnitude", {}),))
            flooder.upload_missing(tensors)  # it shows that it has them too
            figures = {}
            for flooding in args.only.split(",") * args.rounds:
                base = None
                for name in ("nothing", flooding):
                    times, failures, rate, ran, cores, memory, did = measure(args, name, server, small.SerializeToString(), steps)
                    base = base or rate
                    median, worst = (statistics.median(times) * 1e3, max(times) * 1e3) if times else (float("nan"),) * 2
                    figures.setdefault(name, []).append((median, rate / base))
                    print(f"{name:12} create + get {median:6.1f} ms, at most {worst:7.1f}; steps {rate / base:5.2f} of nothing's "
                          f"({rate:.0f} a second, {ran:.2f} of a core), {cores:.2f} beside it; resident {memory:5.0f} MiB; {did}"
                          f"{f'; refused the other: {failures}' if failures else ''}", flush=True)
            for name, rounds in figures.items():
                medians, shares = zip(*rounds)
                print(f"{name:12} of {len(rounds)}: create + get {statistics.median(medians):6.1f} ms, "
                      f"steps {statistics.median(shares):5.2f} ({min(shares):.2f} to {max(shares):.2f})")
        ended = server.process.poll()
        if ended is not None:
            raise SystemExit(f"the server has ended with {ended}")
    finally:
        server.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--memory-mib", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="creates,connections,downloads,headers")
    args = parser.parse_args()
    args.build = args.build.resolve()
    load(args.build)
    set_apart(-15)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        report(args, pathlib.Path(folder))


if __name__ == "__main__":
    main()
