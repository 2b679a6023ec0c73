"""The weights and tokens of a figure's jobs. Files are read, and synthetic data are drawn, by the
program `attnprune`: the same bits as on the command line."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from typing import Protocol

from attnprune import safetensors, tensors
from attnprune.client import Client
from attnprune.errors import Error
from attnprune.local_server import Program
from attnprune.reproduce.choice import choose
from attnprune.reproduce.plan import FigureJob, Options, validate
from attnprune.security import refuse
from attnprune.tensors import Tensor
from attnprune.v1 import job_pb2


class Source(Protocol):
    """The same job gives the same data."""

    def job(self, wanted: FigureJob) -> tuple[job_pb2.Job, list[Tensor]]:
        """Problem, calibration, held-out data and sparsity; and what they need uploaded."""
        ...


@dataclasses.dataclass
class Synthetic:
    """Section 6.1's data, drawn anew for each seed. A batch depends on seed, d and n, not on k."""

    folder: pathlib.Path  # for the drawn files
    d: int = 64
    rank: int = 4
    held_out: int = 8  # batches
    x_std: float = 1.0  # of a token's entries

    def job(self, wanted: FigureJob) -> tuple[job_pb2.Job, list[Tensor]]:
        flags = {"d": self.d, "n": wanted.n, "k": wanted.k, "rank": self.rank, "x-std": self.x_std,
                 "held-out": self.held_out, "seed": wanted.seed, "output": self.folder}
        synth = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        Program("attnprune", []).run("synth", *synth, notes=False)
        weights = safetensors.File(self.folder / "weights.safetensors")
        w_q, w_k = weights.tensor("w_q"), weights.tensor("w_k")
        x = safetensors.File(self.folder / "calibration.safetensors").tensor("calibration")
        job = job_pb2.Job(problem=job_pb2.Problem(fused=job_pb2.FusedProblem(
            q_factor=w_q.ref, k_factor=w_k.ref)), calibration=[x.ref],
            sparsity=job_pb2.Sparsity(fraction=wanted.rho))
        made = [w_q, w_k, x]
        if self.held_out > 0:
            made.append(safetensors.File(self.folder / "held_out.safetensors").tensor("held_out"))
            job.held_out.append(made[-1].ref)
        return job, made


@dataclasses.dataclass
class Sequence:
    """Of a calibration or held-out set: (tokens, width)."""

    name: str
    dtype: int
    tokens: int
    width: int
    data: memoryview

    def cut(self, n: int) -> Tensor:
        """The first n tokens."""
        token = len(self.data) // self.tokens
        return tensors.make(self.data[:n * token], self.dtype, (n, self.width), self.name)


class RealLayer:
    """One layer of a Hugging Face folder. A seed chooses which k of the calibration sequences a job
    learns from; it is scored on all held-out sequences. All are cut to their first n tokens."""

    def __init__(self, client: Client, program: Program, model: str, layer: int, calibration: str,
                 held_out: str) -> None:
        """calibration, held_out: FILE[:NAME]. The program uploads them with a job of |W|, whose
        problem the figure's jobs have."""
        self._client = client
        said = program.run("submit", "--model", model, "--layer", str(layer), "--calibration",
                           calibration, "--held-out", held_out, "--method", "magnitude", "--json")
        made = client.job(json.loads(said)["name"]).wait(progress=False)
        self._name, self._problem = made.name, made.message.problem
        self.calibration = self._sequences(made.message.calibration)
        self.held_out = self._sequences(made.message.held_out)

    def close(self) -> None:
        """Removes that job."""
        with contextlib.suppress(Error):  # the server is gone, say
            self._client.delete_job(self._name)

    def _sequences(self, refs: list[job_pb2.TensorRef]) -> list[Sequence]:
        found = []
        for ref in refs:
            data = memoryview(self._client.download_bytes(ref.sha256))
            *counts, tokens, width = ref.shape
            size = len(data) // (counts[0] if counts else 1)
            found += [Sequence(f"{ref.name}[{i}]", ref.dtype, tokens, width, data[i * size:][:size])
                      for i in range(counts[0] if counts else 1)]
        return found

    @property
    def tokens(self) -> int:
        """Of the shortest sequence."""
        return min(one.tokens for one in self.calibration + self.held_out)

    def complete(self, options: Options, axes_given: bool) -> None:
        """What depends on the files: half of the sequences, whole ones, and no longer ones."""
        options.ks = options.ks or [max(len(self.calibration) // 2, 1)]
        options.n = options.n or self.tokens
        if not axes_given:
            options.axes = [dataclasses.replace(axis, points=tuple(
                x for x in axis.points if axis.name != "n" or x <= self.tokens) or (options.n,))
                for axis in options.axes]
        validate(options)
        self._check(options)

    def _check(self, options: Options) -> None:
        """All sequences with more than one seed would not differ."""
        count = len(self.calibration)
        most = count - 1 if options.seeds > 1 else count
        for k in options.ks:
            if k > most:
                refuse("--k", f"must be at most {most}: each of {options.seeds} seeds chooses among "
                              f"the {count} calibration sequences; got {k}")
        lengths = [("--n", float(options.n))]
        lengths += [("--axis n", axis.points[-1]) for axis in options.axes if axis.name == "n"]
        for flag, length in lengths:
            if length > self.tokens:
                refuse(flag, f"must be at most {self.tokens}, the tokens of a sequence, got "
                             f"{length:g}")

    def job(self, wanted: FigureJob) -> tuple[job_pb2.Job, list[Tensor]]:
        """The weights are there."""
        chosen = choose(len(self.calibration), wanted.k, wanted.seed)
        learned = [self.calibration[i].cut(wanted.n) for i in chosen]
        scored = [one.cut(wanted.n) for one in self.held_out]
        return job_pb2.Job(problem=self._problem, calibration=[one.ref for one in learned],
                           held_out=[one.ref for one in scored],
                           sparsity=job_pb2.Sparsity(fraction=wanted.rho)), learned + scored
