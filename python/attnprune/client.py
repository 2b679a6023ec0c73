"""A server's API as plain methods."""
from __future__ import annotations

import os
import secrets
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from attnprune import problem, safetensors, tensors, transfer
from attnprune.backoff import Retry
from attnprune.connection import Connection
from attnprune.errors import Error, FailedPrecondition, NotFound, Unavailable
from attnprune.jobs import Job, Run
from attnprune.progress import Progress, upload_observer
from attnprune.security import Pem, read_token, refuse
from attnprune.v1 import job_pb2, prune_service_pb2, run_pb2, tensor_service_pb2
from attnprune.watch import GOES_ON, Watch

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
RETRY, WATCH_RETRY = Retry(), Retry(patience=300.0)
DEFAULT_TARGET = "127.0.0.1:50051"


class Client:
    """Thread-safe. Every error is an attnprune.Error of its code's class.

    UNAVAILABLE is retried until `retry`'s patience is used up (`watch_retry`: a watch's, longer, so
    that a server can be restarted under it). Nothing else is: a call that its deadline cut off may
    have taken effect.

    target: HOST:PORT. None: the environment says all that is not given, as it does to the command
    line: ATTNPRUNE_SERVER (or else 127.0.0.1:50051), ATTNPRUNE_CA_FILE, ATTNPRUNE_CERT_FILE,
    ATTNPRUNE_KEY_FILE and ATTNPRUNE_TOKEN_FILE. token: sent with every call; without TLS to this
    machine only. TLS where tls, ca, cert or key is given: ca holds the authorities (default: the
    system's), cert and key are shown to a server that asks for them; PEM, a file's name or bytes.
    call_timeout: seconds of each try; of an upload timeout_per_mib more for each MiB.
    """

    def __init__(self, target: str | None = None, *, token: str | None = None, tls: bool = False,
                 ca: Pem | None = None, cert: Pem | None = None, key: Pem | None = None,
                 call_timeout: float = 30.0, timeout_per_mib: float = 10.0,
                 retry: Retry = RETRY, watch_retry: Retry = WATCH_RETRY) -> None:
        if target is None:
            target = os.environ.get("ATTNPRUNE_SERVER") or DEFAULT_TARGET
            ca, cert, key = ca or _env("CA"), cert or _env("CERT"), key or _env("KEY")
            token_file = _env("TOKEN")
            token = read_token(token_file) if token is None and token_file else token
        self.connection = Connection(target, token=token, tls=tls, ca=ca, cert=cert, key=key,
                                     call_timeout=call_timeout, timeout_per_mib=timeout_per_mib,
                                     retry=retry, watch_retry=watch_retry)
        self.target = target

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def __repr__(self) -> str:
        return f"<Client of {self.target}>"

    def _call(self, name: str, request: Any, settle: Callable[[Error], Any] | None = None) -> Any:
        return self.connection.call(getattr(self.connection.jobs, name), request, settle)

    # --- the server ---

    def check_health(self) -> None:
        """Unavailable: it drains or cannot be reached."""
        check = self.connection.channel.unary_unary(HEALTH)
        if self.connection.call(check, b"") != SERVING:
            raise Unavailable(f"{self.target} is not serving")

    def server_info(self) -> prune_service_pb2.ServerInfo:
        info: prune_service_pb2.ServerInfo = self._call(
            "GetServerInfo", prune_service_pb2.GetServerInfoRequest())
        return info

    def methods(self) -> list[dict[str, Any]]:
        """One row a method, with its summary and the defaults of its parameters."""
        return [{"method": one.name, "summary": one.summary, "linear_maps": one.linear_maps,
                 "parameters": {parameter.name: parameter.default_value
                                if parameter.HasField("default_value") else None
                                for parameter in one.parameters}}
                for one in self.server_info().methods]

    # --- jobs ---

    def create_job(self, job: job_pb2.Job, request_id: str = "",
                   validate_only: bool = False) -> job_pb2.Job:
        """Its tensors must be there. Without a request_id it gets a random one, so that a retry
        never makes a second job."""
        made: job_pb2.Job = self._call("CreateJob", prune_service_pb2.CreateJobRequest(
            job=job, request_id=request_id or secrets.token_hex(16), validate_only=validate_only))
        return made

    def get_job(self, name: str) -> job_pb2.Job:
        got: job_pb2.Job = self._call("GetJob", prune_service_pb2.GetJobRequest(name=name))
        return got

    def list_jobs(self, states: Sequence[str] = (), labels: Mapping[str, str] | None = None,
                  page_size: int = 0) -> Iterator[job_pb2.Job]:
        """Newest first, page by page. states: "QUEUED", "RUNNING" and so on; none: all."""
        yield from self._pages("ListJobs", prune_service_pb2.ListJobsRequest, "jobs", states,
                               labels, page_size)

    def _pages(self, call: str, request: Any, field: str, states: Sequence[str],
               labels: Mapping[str, str] | None, page_size: int) -> Iterator[Any]:
        wanted = [job_pb2.JobState.Value(state) for state in states]
        token = ""
        while True:
            page = self._call(call, request(page_size=page_size, page_token=token, states=wanted,
                                            labels=labels or {}))
            yield from getattr(page, field)
            token = page.next_page_token
            if not token:
                return

    def cancel_job(self, name: str) -> job_pb2.Job:
        job: job_pb2.Job = self._call("CancelJob", prune_service_pb2.CancelJobRequest(name=name))
        return job

    def delete_job(self, name: str) -> None:
        """A job that a lost first try has deleted counts as deleted."""
        self._call("DeleteJob", prune_service_pb2.DeleteJobRequest(name=name), _deleted)

    def job(self, name: str) -> Job:
        """"jobs/x", or "x"."""
        return Job(self, self.get_job(name if "/" in name else f"jobs/{name}"))

    def jobs(self, states: Sequence[str] = (),
             labels: Mapping[str, str] | None = None) -> Iterator[Job]:
        return (Job(self, one) for one in self.list_jobs(states, labels))

    def submit(self, layer: problem.Layer, calibration: Iterable[Any], *,
               held_out: Iterable[Any] = (), held_out_fraction: float = 0.0,
               sparsity: problem.SparsityLike = 0.5,
               methods: problem.MethodLike | Sequence[problem.MethodLike] = "joint", seed: int = 0,
               labels: Mapping[str, str] | None = None, priority: int = 0, timeout: float = 0.0,
               evaluate_every: int = 0, request_id: str = "", progress: Progress = True) -> Job:
        """Uploads what the server lacks of a layer and its batches, and makes the job."""
        job, needed = problem.job(
            layer, calibration, held_out=held_out, held_out_fraction=held_out_fraction,
            sparsity_of=sparsity, methods_of=methods, seed=seed, labels=labels, priority=priority,
            timeout=timeout, evaluate_every=evaluate_every)
        self.upload(needed, progress=progress)
        return Job(self, self.create_job(job, request_id))

    # --- runs ---

    def create_run(self, run: run_pb2.Run, request_id: str = "",
                   validate_only: bool = False) -> run_pb2.Run:
        made: run_pb2.Run = self._call("CreateRun", prune_service_pb2.CreateRunRequest(
            run=run, request_id=request_id or secrets.token_hex(16), validate_only=validate_only))
        return made

    def get_run(self, name: str) -> run_pb2.Run:
        got: run_pb2.Run = self._call("GetRun", prune_service_pb2.GetRunRequest(name=name))
        return got

    def list_runs(self, states: Sequence[str] = (), labels: Mapping[str, str] | None = None,
                  page_size: int = 0) -> Iterator[run_pb2.Run]:
        """Newest first, page by page, without results."""
        yield from self._pages("ListRuns", prune_service_pb2.ListRunsRequest, "runs", states,
                               labels, page_size)

    def cancel_run(self, name: str) -> run_pb2.Run:
        run: run_pb2.Run = self._call("CancelRun", prune_service_pb2.CancelRunRequest(name=name))
        return run

    def delete_run(self, name: str) -> None:
        """As delete_job."""
        self._call("DeleteRun", prune_service_pb2.DeleteRunRequest(name=name), _deleted)

    def resume_run(self, name: str) -> run_pb2.Run:
        """A run that a lost first try has put back into the queue counts as resumed."""
        def settle(error: Error) -> run_pb2.Run | None:
            if not isinstance(error, FailedPrecondition):
                return None
            run = self.get_run(name)
            return run if run.state in GOES_ON else None
        run: run_pb2.Run = self._call("ResumeRun", prune_service_pb2.ResumeRunRequest(name=name),
                                      settle)
        return run

    def run(self, name: str) -> Run:
        """"runs/r-x", or "r-x"."""
        return Run(self, self.get_run(name if "/" in name else f"runs/{name}"))

    def runs(self, states: Sequence[str] = (),
             labels: Mapping[str, str] | None = None) -> Iterator[Run]:
        return (Run(self, one) for one in self.list_runs(states, labels))

    # --- events ---

    def watch(self, name: str, after: int = 0) -> Watch:
        """The events of a job or a run after sequence `after`; see Watch."""
        return Watch(self.connection, name, after)

    # --- tensors ---

    def find_missing_tensors(self, digests: Iterable[str]) -> list[str]:
        return transfer.find_missing(self.connection, digests)

    def query_upload(self, upload_id: str) -> int:
        """Bytes of it that are on disk; 0: there is no such upload."""
        answer = self.connection.call(self.connection.tensors.QueryUpload,
                                      tensor_service_pb2.QueryUploadRequest(upload_id=upload_id))
        committed: int = answer.committed_bytes
        return committed

    def list_tensors(self, unused: bool = False,
                     page_size: int = 0) -> Iterator[tensor_service_pb2.StoredTensor]:
        """What is stored of one's tenant, page by page: uploads that are not finished, then tensors
        by their digests. A StoredTensor's `tensor` is a ref that a job can have and `download`
        takes, where a job or run has named it (`used_by`). unused: only what none refers to."""
        token = ""
        while True:
            page = self.connection.call(
                self.connection.tensors.ListTensors, tensor_service_pb2.ListTensorsRequest(
                    page_size=page_size, page_token=token, unused=unused))
            yield from page.tensors
            token = page.next_page_token
            if not token:
                return

    def upload(self, values: Any, progress: Progress = True) -> list[job_pb2.TensorRef]:
        """Sends what the server lacks; an upload that was cut off, by this process or an earlier
        one, goes on where it ended. values: a numpy array, a torch tensor, a Tensor, a list of
        these, a dict of them by name, or the name of a .safetensors file. Returns their refs."""
        made = _tensors(values)
        observe, done = upload_observer(progress)
        try:
            transfer.upload(self.connection, made, observe)
        finally:
            done()
        return [one.ref for one in made]

    def download_bytes(self, sha256: str) -> bytearray:
        """A tensor's bytes; DataLoss where they do not have that digest."""
        return transfer.download(self.connection, sha256)

    def download(self, ref: job_pb2.TensorRef) -> np.ndarray[Any, Any]:
        """As numpy: a mask as bool, bfloat16 as the same float32."""
        return tensors.array(ref, self.download_bytes(ref.sha256))


def _env(name: str) -> str | None:
    return os.environ.get(f"ATTNPRUNE_{name}_FILE") or None


def _deleted(error: Error) -> bool | None:
    return True if isinstance(error, NotFound) else None


def _tensors(values: Any) -> list[tensors.Tensor]:
    if isinstance(values, Mapping):
        return [tensors.tensor(value, name) for name, value in values.items()]
    if isinstance(values, str) or hasattr(values, "__fspath__"):
        if not str(values).endswith(".safetensors"):
            refuse("values", f"must be the name of a .safetensors file, got {values}")
        return safetensors.File(values).tensors()
    if isinstance(values, (list, tuple)):
        return [tensors.tensor(value) for value in values]
    return [tensors.tensor(values)]
