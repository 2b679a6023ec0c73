"""Jobs and runs as things: watched, waited for, cancelled, and what came of them."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Sequence, TypeVar

from attnprune import plot as plotting
from attnprune.errors import Interrupted, JobFailed, code_of
from attnprune.progress import Progress, events_to
from attnprune.results import Result, RunResult, row_of, run_rows
from attnprune.security import refuse
from attnprune.v1 import job_pb2, run_pb2
from attnprune.watch import Watch

if TYPE_CHECKING:
    from attnprune.client import Client

TERMINAL = (job_pb2.SUCCEEDED, job_pb2.FAILED, job_pb2.CANCELLED)
Message = TypeVar("Message", job_pb2.Job, run_pb2.Run)


class _Resource(Generic[Message]):
    """`message` is what the server last said; `refresh` asks anew."""

    def __init__(self, client: Client, message: Message) -> None:
        self.client = client
        self.message: Message = message

    @property
    def name(self) -> str:
        return str(self.message.name)

    @property
    def state(self) -> str:
        """"QUEUED", "RUNNING", "SUCCEEDED", "FAILED" or "CANCELLED"."""
        return str(job_pb2.JobState.Name(self.message.state))

    @property
    def ended(self) -> bool:
        return self.message.state in TERMINAL

    def watch(self, after: int = 0) -> Watch:
        """Its events, those after sequence `after`: a Watch."""
        return self.client.watch(self.name, after)

    def _check(self) -> None:
        if self.message.state == job_pb2.FAILED:
            failure = self.message.failure
            raise JobFailed(self.name, failure.message, code_of(failure.code))
        if self.message.state == job_pb2.CANCELLED:
            raise JobFailed(self.name, "was cancelled", code_of(1))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.state}>"


class Job(_Resource[job_pb2.Job]):
    """A layer that is pruned by one or several methods."""

    def refresh(self) -> Job:
        self.message = self.client.get_job(self.name)
        return self

    def wait(self, progress: Progress = True) -> Job:
        """Watches it to its end. JobFailed: it failed or was cancelled. Interrupted (Ctrl-C): it goes
        on. progress: bars; or a function that gets each event; or False."""
        follow(self, progress)
        self.refresh()._check()
        return self

    def cancel(self) -> Job:
        self.message = self.client.cancel_job(self.name)
        return self

    def delete(self) -> None:
        self.client.delete_job(self.name)

    def results(self) -> list[Result]:
        """Of the methods that have ended without failure, the best first."""
        if not self.ended:
            self.refresh()
        found = [Result(self.client, one) for one in self.message.results
                 if not one.HasField("failure")]
        return sorted(found, key=lambda result: result.error)

    def result(self, method: str = "") -> Result:
        """Of that method (its label), or of the best one. Waits for the job's end."""
        if not self.ended:
            self.wait(progress=False)
        found = {one.method: one for one in reversed(self.results())}
        if not found:
            self._check()
            refuse("method", f"must be one that has a result, but no method of {self.name} has")
        if not method:
            return list(found.values())[-1]
        if method not in found:
            refuse("method", f"must be one of {', '.join(sorted(found))}, got {method}")
        return found[method]

    def rows(self) -> list[dict[str, Any]]:
        """One a method that has ended, best first: pandas.DataFrame(job.rows())."""
        if not self.ended:
            self.refresh()
        rows = [row_of(one) for one in self.message.results]
        return sorted(rows, key=_rank)

    def progress_rows(self) -> list[dict[str, Any]]:
        """One a step that the server has kept: pandas.DataFrame(job.progress_rows())."""
        return plotting.progress_rows(Watch(self.client.connection, self.name, replay=True))

    def plot(self) -> Any:
        """Loss and error of every method by step, as a matplotlib Figure."""
        return plotting.plot(self.name, self.progress_rows(), self.rows())


def _rank(row: dict[str, Any]) -> float:
    error = row["held_out"] if row["held_out"] is not None else row["calibration"]
    return float("inf") if error is None else float(error)


class Run(_Resource[run_pb2.Run]):
    """A whole model that is pruned."""

    def refresh(self) -> Run:
        self.message = self.client.get_run(self.name)
        return self

    def wait(self, progress: Progress = True) -> Run:
        """As Job.wait."""
        follow(self, progress)
        self.refresh()._check()
        return self

    def cancel(self) -> Run:
        self.message = self.client.cancel_run(self.name)
        return self

    def delete(self) -> None:
        self.client.delete_run(self.name)

    def resume(self) -> Run:
        """Puts it back into the queue after it failed or was cancelled."""
        self.message = self.client.resume_run(self.name)
        return self

    def result(self) -> RunResult:
        """The pruned tensors and the losses. Waits for the run's end."""
        if not self.ended:
            self.wait(progress=False)
        self._check()
        return RunResult(self.client, self.message)

    def rows(self) -> list[dict[str, Any]]:
        """One a tensor that is pruned by now: pandas.DataFrame(run.rows())."""
        if not self.ended:
            self.refresh()
        return run_rows(self.message)


def follow(job: Job | Run, progress: Progress, title: str = "", behind: Sequence[Job] = ()) -> None:
    """Watches it to its end. Ctrl-C: Interrupted, with its name and of those behind it."""
    take = events_to(progress, title)
    watch = job.watch()
    watch.away = getattr(take, "away", None)
    try:
        for event in watch:
            take(event)
    except KeyboardInterrupt:
        watch.close()
        raise Interrupted([job.name, *(one.name for one in behind)]) from None


def wait_for_all(jobs: list[Job], progress: Progress = True) -> None:
    """Each to its end, in turn. Ctrl-C leaves all of them running and names those that go on."""
    for index, job in enumerate(jobs):
        label = job.message.labels.get("layer", "")
        follow(job, progress, f"layer {label}" if label else "", jobs[index + 1:])
        job.refresh()._check()
