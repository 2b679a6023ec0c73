"""A model that is in memory, or in a folder, pruned in one call."""
from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from typing import Any, Iterable, Iterator, Mapping, Sequence, overload

import numpy as np

from attnprune import problem
from attnprune.capturing import Capture, capture
from attnprune.client import Client
from attnprune.errors import InvalidArgument
from attnprune.families import Attention
from attnprune.jobs import Job, Run, wait_for_all
from attnprune.local_server import Program, local
from attnprune.progress import Progress
from attnprune.results import Result
from attnprune.security import refuse


class Report:
    """What pruning a torch model came to: a job an attention, in the model's order."""

    def __init__(self, attentions: list[Attention], jobs: list[Job]) -> None:
        self.attentions, self.jobs = attentions, jobs
        self.results = [job.result() for job in jobs]  # the best method's
        self.masks: dict[str, np.ndarray[Any, Any]] = {}  # by the weight's name; True is kept

    def rows(self) -> list[dict[str, Any]]:
        """One a layer and method, the best first: pandas.DataFrame(report.rows())."""
        return [{"layer": attention.layer, **row} for attention, job in
                zip(self.attentions, self.jobs) for row in job.rows()]

    def __str__(self) -> str:
        lines = [f"{'layer':>5}  {'method':<12} {'held out':>9} {'calibration':>11} "
                 f"{'pruned %':>8} {'seconds':>8}"]
        for row in self.rows():
            cells = [f"{row['layer']:>5}  {row['method']:<12}", _cell(row["held_out"], 9),
                     _cell(row["calibration"], 11),
                     f"{100 * (row['sparsity'] or 0):>8.2f}", f"{row['seconds']:>8.2f}"]
            lines.append(" ".join(cells))
        return "\n".join(lines)


def _cell(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.5f}"


@contextlib.contextmanager
def _server(client: Client | None) -> Iterator[Client]:
    if client is not None:
        yield client
        return
    with local() as own:
        yield own


@overload
def prune(model: str | os.PathLike[str], batches: None = None, **options: Any) -> Run: ...


@overload
def prune(model: Any, batches: Iterable[Any], **options: Any) -> Report: ...


def prune(model: Any, batches: Iterable[Any] | None = None, **options: Any) -> Report | Run:
    """Prunes a torch model that is in memory, on batches: prune_module; or a Hugging Face folder, on
    a text or tokens: prune_folder. They say what the options are."""
    if isinstance(model, (str, os.PathLike)):
        return prune_folder(model, **options)
    if batches is None:
        refuse("batches", "must be given for a torch model")
    return prune_module(model, batches, **options)


def prune_module(model: Any, batches: Iterable[Any], *, client: Client | None = None,
                 sparsity: problem.SparsityLike = 0.5,
                 methods: problem.MethodLike | Sequence[problem.MethodLike] = "joint",
                 held_out: Iterable[Any] | None = None, held_out_fraction: float = 0.0,
                 seed: int = 0, attentions: Sequence[Attention] | None = None,
                 folder: str | os.PathLike[str] | None = None,
                 labels: Mapping[str, str] | None = None, progress: Progress = True,
                 write: bool = True) -> Report:
    """Prunes the query and key weights of every attention of a torch model, each on its inputs in
    the dense model, and writes the best method's weights into it (`write`).

    batches, held_out: what the model is called with, as for capture(); the second are only scored.
    held_out_fraction: of the batches, held out instead. folder: keeps the captured inputs, those
    held out in its folder `held_out`. client: of the server; None: one of its own. Ctrl-C while it
    waits: Interrupted, with the names of the jobs, which go on.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_server(client))
        taken = stack.enter_context(capture(model, batches, folder=folder, attentions=attentions))
        scored = None
        if held_out is not None:
            beside = None if folder is None else pathlib.Path(folder) / "held_out"
            scored = stack.enter_context(capture(model, held_out, folder=beside,
                                                 attentions=taken.attentions))
        jobs = [_submit(server, model, one, taken, scored, sparsity=sparsity, methods=methods,
                        held_out_fraction=held_out_fraction, seed=seed, labels=labels,
                        progress=progress) for one in taken.attentions]
        wait_for_all(jobs, progress)
        report = Report(taken.attentions, jobs)
        for attention, result in zip(report.attentions, report.results):
            _take(model, attention, result, report, write)
    return report


def _submit(client: Client, model: Any, attention: Attention, taken: Capture,
            scored: Capture | None, *, labels: Mapping[str, str] | None, **options: Any) -> Job:
    held_out = scored.inputs(attention) if scored is not None else ()
    try:
        return client.submit(attention.describe(model), taken.inputs(attention), held_out=held_out,
                             labels={"layer": str(attention.layer), **(labels or {})}, **options)
    except InvalidArgument as error:
        error.message = f"{attention.name}: {error.message}"
        raise


def _take(model: Any, attention: Attention, result: Result, report: Report, write: bool) -> None:
    """Keeps the masks and writes the weights, both of which need the server."""
    import torch

    for field, (name, parameter) in attention.parameters(model).items():
        if field not in result.masks:
            continue
        report.masks[name] = result.masks[field]
        if write:
            weights = torch.from_numpy(result.weights[field].copy())
            with torch.no_grad():
                parameter.copy_(weights)
    result.weights.forget()  # of a large model they are many


def prune_folder(model: str | os.PathLike[str], *, text: str | os.PathLike[str] | None = None,
                 tokens: Any = None, client: Client | None = None,
                 output: str | os.PathLike[str] | None = None,
                 sparsity: float | str = 0.5, methods: str | None = None, flags: Sequence[str] = (),
                 program: str | os.PathLike[str] | None = None, progress: Progress = True) -> Run:
    """Prunes every linear map of a Hugging Face folder on a text file, or on token ids (k, n), in a
    run of the server: what `attnprune prune` does, bit for bit. The program `attnprune` reads the
    folder and the text; it is the wheel's, the one on PATH, or `program`. methods: one that prunes
    linear maps; None: the recipe `fast`. flags: more of those of `attnprune submit --run`
    ("--recipe", "best"). output: folder for the pruned model.
    """
    if (text is None) == (tokens is None):
        refuse("text", "must be given, or else tokens: one of the two")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_server(client))
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attnprune-")))
        command = Program("attnprune", server.connection.flags(scratch), program)
        if text is not None:
            source = ["--text", str(text)]
        else:
            np.save(scratch / "tokens.npy", np.asarray(tokens, np.int32))
            source = ["--tokens", str(scratch / "tokens.npy")]
        name = command.run("submit", "--run", "--model", str(model), "--sparsity", str(sparsity),
                           *(["--method", methods] if methods else []), *source, *flags).split()[-1]
        run = server.run(name).wait(progress)
        if output is not None:
            command.run("fetch", name, "--model", str(model), "--output", str(output))
    return run
