"""The real programs as processes: a server on a folder, the command line, a client in Python.

Nothing here sleeps to let something happen: it waits for the thing itself, with a limit.
"""
import contextlib
import hashlib
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

# Otherwise gRPC takes up to 5 s to see that a server is back.
os.environ.setdefault("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "50")
import grpc  # pylint: disable=wrong-import-position
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api
from attnprune.v1 import prune_service_pb2_grpc as prune_grpc
from attnprune.v1 import tensor_service_pb2 as tensor_api
from attnprune.v1 import tensor_service_pb2_grpc as tensor_grpc

import safetensors

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("ATTNPRUNE_BIN", ROOT / "build/release/bin"))
MODEL = ROOT / "data/tiny-llama"
LIMIT = 120  # seconds that anything may take
CHUNK = 1 << 20
TERMINAL = (job_api.SUCCEEDED, job_api.FAILED, job_api.CANCELLED)


def wait_for(condition, what, limit=LIMIT, pause=0.005):
    """The first true value of `condition`; fails with `what` after `limit` seconds. pause: seconds between two looks."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)  # not for anything to happen
    raise AssertionError(f"not within {limit} s: {what}")


def cli(*arguments, limit=LIMIT, **options):
    """Runs attnprune to its end; stdout and stderr are text."""
    return subprocess.run([BIN / "attnprune", *map(str, arguments)], text=True, timeout=limit,
                          capture_output=True, check=False, **options)


class Server:
    """attnprune-server on a folder, on the same port through restarts."""

    def __init__(self, folder, *flags, threads=1):
        self.folder = pathlib.Path(folder)
        self.threads = threads  # that solve a job
        self.flags = flags
        self.port = 0
        self.process = None
        self.starts = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.kill()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def log(self):
        return self.folder.with_suffix(".log").read_text()

    def command(self, port=0, port_file=None):
        command = [BIN / "attnprune-server", "--listen", f"127.0.0.1:{port}", "--data-dir",
                   self.folder, "--threads-per-job", str(self.threads), *self.flags]
        return command + (["--port-file", port_file] if port_file else [])

    def start(self):
        port_file = self.folder.with_suffix(".port")
        port_file.unlink(missing_ok=True)
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(self.command(self.port, port_file),
                                            stdout=subprocess.DEVNULL, stderr=log)

        def port():
            assert self.process.poll() is None, f"the server ended: {self.log}"
            return port_file.exists() and int(port_file.read_text())
        self.port = wait_for(port, "the server listens")
        self.starts += 1

    def kill(self):
        self.process.kill()  # SIGKILL
        self.process.wait()
        self.process = None

    def terminate(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=LIMIT)
        self.process = None
        return code

    def refuse(self):
        """Starts a server that is to end by itself; returns (exit code, what it said)."""
        ended = subprocess.run(self.command(), text=True, capture_output=True, timeout=LIMIT,
                               check=False)
        return ended.returncode, ended.stderr

    def memory_bytes(self, which="VmRSS"):
        """VmHWM: the most there has been."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines()
                        if line.startswith(which))) * 1024


class Client:
    """A plain client of the API: generated stubs, nothing of the project's own code."""

    def __init__(self, address, credentials=None, **options):
        """credentials: of TLS; None: plain text."""
        arguments = {"grpc.max_reconnect_backoff_ms": 200, "grpc.initial_reconnect_backoff_ms": 50,
                     "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0, **options}
        pairs = list(arguments.items())
        self.channel = (grpc.secure_channel(address, credentials, options=pairs) if credentials else
                        grpc.insecure_channel(address, options=pairs))
        self.jobs = prune_grpc.PruneServiceStub(self.channel)
        self.tensors = tensor_grpc.TensorServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def upload(self, ref, data, upload_id=None, offset=0):
        """One UploadTensor stream from `offset`; returns the response."""
        def messages():
            yield tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(
                upload_id=upload_id or ref.sha256, sha256=ref.sha256, size_bytes=len(data),
                offset=offset, dtype=ref.dtype))
            for start in range(offset, len(data), CHUNK):
                yield tensor_api.UploadTensorRequest(data=data[start:start + CHUNK])
        return self.tensors.UploadTensor(messages())

    def upload_missing(self, tensors):
        """Uploads those of [(ref, bytes)] that the server lacks."""
        by_digest = {ref.sha256: (ref, data) for ref, data in tensors}
        request = tensor_api.FindMissingTensorsRequest(sha256=by_digest)
        for digest in self.tensors.FindMissingTensors(request).missing:
            self.upload(*by_digest[digest])

    def download(self, sha256):
        request = tensor_api.DownloadTensorRequest(sha256=sha256)
        data = b"".join(part.data for part in self.tensors.DownloadTensor(request))
        assert hashlib.sha256(data).hexdigest() == sha256
        return data

    def create(self, job, request_id=""):
        return self.jobs.CreateJob(prune_api.CreateJobRequest(job=job, request_id=request_id))

    def get(self, name):
        return self.jobs.GetJob(prune_api.GetJobRequest(name=name))

    def cancel(self, name):
        return self.jobs.CancelJob(prune_api.CancelJobRequest(name=name))

    def watch(self, name, after=0):
        return self.jobs.WatchJob(prune_api.WatchJobRequest(name=name, after_sequence=after))

    def finish(self, name):
        """Watches to the end; returns the job."""
        *_, last = self.watch(name)
        return last.terminal

    def wait_for_step(self, name, step=1):
        """Until the job's first method has taken that many steps."""
        stream = self.watch(name)
        for event in stream:
            if event.WhichOneof("event") == "terminal":
                raise AssertionError(f"{name} ended before step {step}")
            if event.HasField("progress") and event.progress.step >= step:
                stream.cancel()
                return event


class PersistentWatcher(threading.Thread):
    """Follows a job through restarts of the server and keeps every event that it was shown."""

    def __init__(self, address, name):
        super().__init__(daemon=True)
        self.address, self.name = address, name
        self.events, self.reconnects = [], 0
        self.error = None

    def run(self):
        try:
            with Client(self.address) as client:
                while not self.events or not self.events[-1].HasField("terminal"):
                    self.follow(client)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def follow(self, client):
        after = self.events[-1].sequence if self.events else 0
        try:
            for event in client.watch(self.name, after):
                if not event.HasField("heartbeat"):
                    self.events.append(event)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            self.reconnects += 1
            time.sleep(0.02)  # before it calls again

    def ended(self, limit=LIMIT):
        self.join(limit)
        assert not self.is_alive(), f"{self.name} has not ended: {self.events[-1:]}"
        if self.error:
            raise self.error
        return self.events[-1].terminal

    def sequences(self):
        return [event.sequence for event in self.events]


class Proxy:
    """TCP in front of a server, through its restarts. `port`: a function that gives the server's."""

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # closed
                return
            try:
                upstream = self.connect()
            except OSError:  # the server is down
                client.close()
                continue
            for source, sink, send in ((client, upstream, self.send_up),
                                       (upstream, client, self.send_down)):
                threading.Thread(target=self.copy, args=(source, sink, send), daemon=True).start()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port()))

    def copy(self, source, sink, send):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                send(source, sink, data)
        self.close(source, sink)

    def send_up(self, _, server, data):
        server.sendall(data)

    def send_down(self, _, client, data):
        client.sendall(data)

    def close(self, *ends):
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class CountingProxy(Proxy):
    """Counts what clients send to a server, and kills and starts it again when that comes to each of
    `kill_at` bytes: between two pieces of at most 64 KiB, however fast the client sends."""

    def __init__(self, server, kill_at):
        self.server, self.kill_at, self.sent_bytes = server, sorted(kill_at), 0
        super().__init__(lambda: server.port)

    def send_up(self, client, server, data):
        super().send_up(client, server, data)
        self.sent_bytes += len(data)
        if self.kill_at and self.sent_bytes >= self.kill_at[0]:
            self.kill_at.pop(0)
            self.server.kill()
            self.server.start()


def tensor_ref(name, dtype, shape, data):
    return job_api.TensorRef(sha256=hashlib.sha256(data).hexdigest(),
                             dtype=job_api.DType.Value(dtype), shape=shape, name=name)


def layer_job(layer=1, methods=(("gd", {"steps": 100}),), sparsity=0.5, **fields):
    """A job on a real layer of tiny-llama: (job, [(ref, bytes)] to upload)."""
    prefix = f"model.layers.{layer}.self_attn"
    model = safetensors.read(MODEL / "model.safetensors")
    calibration = safetensors.read(MODEL / "calibration.safetensors")
    held_out = safetensors.read(MODEL / "held_out.safetensors")

    def tensor(file, name):
        dtype, shape, data = file[name]
        return tensor_ref(name, dtype, shape, data), data
    w_q = tensor(model, f"{prefix}.q_proj.weight")
    w_k = tensor(model, f"{prefix}.k_proj.weight")
    x = tensor(calibration, f"{prefix}.input")
    x_new = tensor(held_out, f"{prefix}.input")
    job = job_api.Job(
        problem=job_api.Problem(projections=job_api.ProjectionProblem(
            w_q=w_q[0], w_k=w_k[0], heads=8, kv_heads=4, rope=job_api.Rope(theta=10000))),
        calibration=[x[0]], held_out=[x_new[0]], sparsity=job_api.Sparsity(fraction=sparsity),
        methods=[job_api.Method(name=name, parameters=values) for name, values in methods],
        **fields)
    return job, [w_q, w_k, x, x_new]


def submit(client, request_id="", **options):
    job, tensors = layer_job(**options)
    client.upload_missing(tensors)
    return client.create(job, request_id)


def digests(job):
    """Of every mask and weight of every result, by method and matrix."""
    return {(result.method, matrix.name): (matrix.mask.sha256, matrix.weights.sha256)
            for result in job.results for matrix in result.matrices}
