"""Bars of uploads, jobs and runs: tqdm's in a terminal or a notebook, lines where it is not there."""
from __future__ import annotations

import sys
from typing import Any, Callable, Union

from attnprune import transfer
from attnprune.errors import Error
from attnprune.v1 import job_pb2, prune_service_pb2, run_pb2

Progress = Union[bool, Callable[[Any], None]]  # True: bars; a function: gets each event


def _tqdm() -> Any:
    """tqdm, for a notebook where we are in one; None without it."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm


def _live_tqdm() -> Any:
    """The same where somebody looks: in a terminal or a notebook."""
    return _tqdm() if sys.stderr.isatty() or "ipykernel" in sys.modules else None


def upload_observer(progress: Progress) -> tuple[transfer.Observer, Callable[[], None]]:
    """What an upload tells, and what to call at its end."""
    tqdm = _live_tqdm() if progress is True else None
    if tqdm is None:
        return None, _nothing
    bar = tqdm(desc="upload", unit="B", unit_scale=True, unit_divisor=1024, leave=False)

    def observe(state: transfer.Progress) -> None:
        bar.total = state.total
        bar.update(state.sent - bar.n)
    return observe, bar.close


def _nothing() -> None:
    pass


def events_to(progress: Progress, title: str = "") -> Callable[[Any], None]:
    """A function that takes each event of a watch."""
    if progress is True:
        return Bars(title)
    return progress if callable(progress) else _ignore


def _ignore(_: Any) -> None:
    pass


class Bars:
    """One bar a method, or one of a run. Without tqdm, and in a pipe, one line a method or block."""

    def __init__(self, title: str = "") -> None:
        self._tqdm = _live_tqdm()
        self._ahead = -1
        self._title = f"{title} " if title else ""
        self._bars: dict[str, Any] = {}

    def __call__(self, event: prune_service_pb2.JobEvent) -> None:
        kind = event.WhichOneof("event")
        if kind == "progress":
            self._step(event.progress)
        elif kind == "method_result":
            self._result(event.method_result)
        elif kind == "run_progress":
            self._run(event.run_progress)
        elif kind == "run_result":
            self._run_result(event.run_result)
        elif kind == "heartbeat":
            self._waiting(event.heartbeat.waiting)
        elif kind == "warning":
            self._line(f"warning: {event.warning}")
        elif kind in ("terminal", "run_terminal"):
            self._end()

    def _bar(self, name: str, total: int) -> Any:
        if self._tqdm is None:
            return None
        if name not in self._bars:
            self._bars[name] = self._tqdm(total=total, desc=self._title + name, leave=True)
        return self._bars[name]

    def _step(self, progress: prune_service_pb2.Progress) -> None:
        bar = self._bar(progress.method, progress.steps)
        if bar is None:
            return
        figures = {"loss": f"{progress.attention_loss:.5g}"}
        if progress.HasField("calibration_error"):
            figures["error"] = f"{progress.calibration_error:.5g}"
        if progress.HasField("held_out_error"):
            figures["held_out"] = f"{progress.held_out_error:.5g}"
        bar.total = progress.steps  # which may shrink
        bar.set_postfix(figures, refresh=False)
        bar.update(progress.step - bar.n)

    def _result(self, result: job_pb2.MethodResult) -> None:
        if result.HasField("failure"):
            self._line(f"{result.method} failed: {result.failure.message}")
            return
        bar = self._bars.pop(result.method, None)
        if bar is not None:
            bar.total = max(bar.n, result.steps)  # it may have ended early
            bar.update(result.steps - bar.n)
            bar.close()
        errors = result.relative_error
        held_out = f"  held out {errors.held_out:.5f}" if errors.HasField("held_out") else ""
        self._line(f"{result.method}  done  error {errors.calibration:.5f}{held_out}  "
                   f"{result.seconds:.2f} s")

    def _run(self, progress: run_pb2.RunProgress) -> None:
        bar = self._bar("run", 1000)
        if bar is None:
            return
        bar.set_postfix({"block": f"{progress.block}/{progress.blocks}",
                         "phase": run_pb2.RunPhase.Name(progress.phase).lower()}, refresh=False)
        bar.update(int(progress.share * 1000) - bar.n)

    def _run_result(self, result: run_pb2.RunResult) -> None:
        for one in result.tensors:
            held_out = f"  held out {one.held_out_error:.5f}" if one.HasField("held_out_error") else ""
            self._line(f"block {result.block}  {','.join(one.maps)}  {one.method}  "
                       f"{one.sparsity:.2%}  error {one.calibration_error:.5f}{held_out}")

    def _waiting(self, waiting: job_pb2.Waiting) -> None:
        """Once for each place in the queue."""
        if waiting.ahead != self._ahead:
            self._ahead = waiting.ahead
            at_work = ", ".join(waiting.running) or f"{waiting.others_running} of others"
            self._line(f"queued: {waiting.ahead} before it, at work: {at_work}")

    def away(self, error: Error | None) -> None:
        """As Watch.away."""
        self._line("the server is back" if error is None else
                   f"{error.message}; the job is not lost, trying again")

    def _line(self, text: str) -> None:
        if self._tqdm is not None:
            self._tqdm.write(self._title + text, file=sys.stderr)
        else:
            print(self._title + text, file=sys.stderr)

    def _end(self) -> None:
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()
