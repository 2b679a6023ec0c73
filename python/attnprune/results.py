"""What came of a job or a run, with masks and weights as numpy arrays."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Mapping

import numpy as np

from attnprune.v1 import job_pb2, run_pb2

if TYPE_CHECKING:
    from attnprune.client import Client

Array = np.ndarray[Any, Any]


class Lazy(Mapping[str, Array]):
    """Tensors of the server by name, each downloaded when it is first asked for."""

    def __init__(self, client: Client, refs: Mapping[str, job_pb2.TensorRef]) -> None:
        self._client, self.refs = client, dict(refs)
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            self._arrays[name] = self._client.download(self.refs[name])
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.refs)

    def __len__(self) -> int:
        return len(self.refs)

    def forget(self) -> None:
        """Frees what was downloaded; it is downloaded again when it is asked for."""
        self._arrays.clear()

    def data(self, name: str) -> bytes:
        """The tensor's bytes as the server has them."""
        return bytes(self._client.download_bytes(self.refs[name].sha256))


class Result:
    """Of one method of a job. `masks` and `weights` by "w_q" and "w_k" (or "w"): masks are bool, True
    being kept; weights are exact zeros where pruned. `message` has all figures."""

    def __init__(self, client: Client, message: job_pb2.MethodResult) -> None:
        self.message = message
        self.method = message.method
        self.masks = Lazy(client, {one.name: one.mask for one in message.matrices})
        self.weights = Lazy(client, {one.name: one.weights for one in message.matrices})

    @property
    def error(self) -> float:
        """What ranks methods: the held-out error, or else the calibration error."""
        return error_of(self.message)

    def __repr__(self) -> str:
        return f"<Result of {self.method}: error {self.error:.5g}>"


def error_of(result: job_pb2.MethodResult) -> float:
    """Infinite for a method that failed."""
    if result.HasField("failure"):
        return float("inf")
    errors = result.relative_error
    return errors.held_out if errors.HasField("held_out") else errors.calibration


def row_of(result: job_pb2.MethodResult) -> dict[str, Any]:
    """One method as a row of a table; None where there is no such figure."""
    failed = result.HasField("failure")
    errors = result.relative_error
    score = result.held_out if result.HasField("held_out") else result.calibration
    mask_only = score.relative_error  # where no kept weight has moved
    if score.HasField("mask_only_relative_error"):
        mask_only = score.mask_only_relative_error
    return {
        "method": result.method,
        "held_out": errors.held_out if errors.HasField("held_out") else None,
        "calibration": None if failed else errors.calibration,
        "mask_only": None if failed else mask_only,
        "linear": None if failed else score.linear_error,
        "sparsity": None if failed else result.sparsity,
        "steps": result.steps,
        "seconds": result.seconds,
        "judging_seconds": result.judging_seconds,
        "end": result.failure.message if failed else result.termination_reason,
    }


class RunResult:
    """A pruned model: `weights` and `masks` by the tensors' names in the checkpoint. Those of a run
    with a reconstruction or a distillation are the trained ones."""

    def __init__(self, client: Client, message: run_pb2.Run) -> None:
        self.message = message
        pruned = [one for result in message.results for one in result.tensors]
        refs = {one.name: one.weights for one in pruned}
        for result in message.results:
            for trained in (result.reconstructed, result.distilled):
                refs.update({ref.name: ref for ref in trained.weights if ref.name in refs})
        self.weights = Lazy(client, refs)
        self.masks = Lazy(client, {one.name: one.mask for one in pruned})
        scores = [one.model_score for one in message.results if one.HasField("model_score")]
        self.score = scores[-1] if scores else None


def run_rows(run: run_pb2.Run) -> list[dict[str, Any]]:
    """A row for each pruned tensor; None where there is no such figure."""
    return [{
        "block": result.block, "tensor": one.name, "maps": ",".join(one.maps),
        "method": one.method, "sparsity": one.sparsity, "calibration": one.calibration_error,
        "held_out": one.held_out_error if one.HasField("held_out_error") else None,
        "steps": one.steps, "seconds": one.seconds,
    } for result in run.results for one in result.tensors]
