"""Jobs from plain values: methods, sparsities and a layer as Python writes them."""
from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

from google.protobuf import duration_pb2

from attnprune.security import refuse
from attnprune.tensors import Tensor, tensor
from attnprune.v1 import job_pb2

MethodLike = Union[str, "tuple[str, Mapping[str, float]]", job_pb2.Method]
SparsityLike = Union[float, str, job_pb2.Sparsity]


def method(value: MethodLike) -> job_pb2.Method:
    """"gd", "gd:steps=100,eta=0.2", ("gd", {"steps": 100}) or a message."""
    if isinstance(value, job_pb2.Method):
        return value
    if not isinstance(value, str):
        name, parameters = value
        return job_pb2.Method(name=name, parameters=parameters)
    name, _, text = value.partition(":")
    made = job_pb2.Method(name=name)
    for pair in text.split(",") if text else []:
        key, _, number = pair.partition("=")
        try:
            made.parameters[key] = float(number)
        except ValueError:
            refuse("methods", f"must be NAME:PARAMETER=NUMBER,..., got {value}")
    return made


def methods(values: Union[MethodLike, Sequence[MethodLike]]) -> list[job_pb2.Method]:
    """Of one or several."""
    if isinstance(values, (str, job_pb2.Method)):
        return [method(values)]
    return [method(value) for value in values]  # type: ignore[arg-type]


def sparsity(value: SparsityLike) -> job_pb2.Sparsity:
    """0.5, or "2:4": two of every four inputs go; or a message."""
    if isinstance(value, job_pb2.Sparsity):
        return value
    try:
        if isinstance(value, str) and ":" in value:
            n, m = value.split(":")
            return job_pb2.Sparsity(n_of_m=job_pb2.NOfM(n=int(n), m=int(m)))
        return job_pb2.Sparsity(fraction=float(value))
    except ValueError:
        refuse("sparsity", f"must be a fraction or N:M, got {value}")


def attention_mask(text: str) -> job_pb2.AttentionMask:
    """"causal", "full", "block:B" or "window:B"."""
    name, _, size = text.partition(":")
    kinds = {"causal": job_pb2.CAUSAL, "full": job_pb2.FULL, "block": job_pb2.BLOCK,
             "window": job_pb2.WINDOW}
    if name not in kinds or (size and not size.isdigit()):
        refuse("attention", f"must be causal, full, block:B or window:B, got {text}")
    return job_pb2.AttentionMask(kind=kinds[name], size=int(size or 0))


@dataclasses.dataclass
class Layer:
    """The query and key projections of a layer and what it does between them and the softmax.

    q, k: numpy or torch, (heads * head_dim, d) and (kv_heads * head_dim, d). norm: a QkNorm message
    with everything but its tensors, which `norms` gives by field: q_weight, k_weight, q_bias, k_bias.
    rope: a message, or its base (theta). scale: of the logits; None: 1 / sqrt(head_dim).
    """

    q: Any
    k: Any
    heads: int
    kv_heads: int = 0
    q_bias: Any = None
    k_bias: Any = None
    rope: Union[None, float, job_pb2.Rope] = None
    norm: Optional[job_pb2.QkNorm] = None
    norms: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    softcap: float = 0.0
    clip_qkv: float = 0.0
    alibi: int = job_pb2.ALIBI_UNSPECIFIED
    attention: str = "causal"
    scale: Optional[float] = None
    name: str = ""  # of its tensors, in front of theirs

    def problem(self) -> tuple[job_pb2.Problem, list[Tensor]]:
        """The message, and what it needs uploaded."""
        out = job_pb2.ProjectionProblem(heads=self.heads, kv_heads=self.kv_heads or self.heads,
                                        softcap=self.softcap, clip_qkv=self.clip_qkv,
                                        alibi=self.alibi)  # type: ignore[arg-type]
        uploads = []
        for field, value in (("w_q", self.q), ("w_k", self.k), ("b_q", self.q_bias),
                             ("b_k", self.k_bias)):
            if value is not None:
                uploads.append(tensor(value, f"{self.name}{field}"))
                getattr(out, field).CopyFrom(uploads[-1].ref)
        if self.norm is not None:
            out.qk_norm.CopyFrom(self.norm)
            for field, value in self.norms.items():
                uploads.append(tensor(value, f"{self.name}{field}"))
                getattr(out.qk_norm, field).CopyFrom(uploads[-1].ref)
        if self.rope is not None:
            rope = self.rope
            out.rope.CopyFrom(rope if isinstance(rope, job_pb2.Rope) else job_pb2.Rope(theta=rope))
        problem = job_pb2.Problem(projections=out, attention=attention_mask(self.attention))
        if self.scale is not None:
            problem.scale = self.scale
        return problem, uploads


def job(layer: Layer, calibration: Iterable[Any], *, held_out: Iterable[Any] = (),
        held_out_fraction: float = 0.0, sparsity_of: SparsityLike = 0.5,
        methods_of: Union[MethodLike, Sequence[MethodLike]] = "joint", seed: int = 0,
        labels: Optional[Mapping[str, str]] = None, priority: int = 0, timeout: float = 0.0,
        evaluate_every: int = 0) -> tuple[job_pb2.Job, list[Tensor]]:
    """The message of a layer's job, and what it needs uploaded. Batches are (n, d) or (k, n, d)."""
    problem, uploads = layer.problem()
    learned = [tensor(value, "calibration") for value in calibration]
    scored = [tensor(value, "held_out") for value in held_out]
    made = job_pb2.Job(
        problem=problem, calibration=[one.ref for one in learned],
        held_out=[one.ref for one in scored], held_out_fraction=held_out_fraction,
        sparsity=sparsity(sparsity_of), methods=methods(methods_of), seed=seed,
        labels=labels or {}, priority=priority, evaluate_every=evaluate_every)
    if timeout:
        made.timeout.CopyFrom(duration_pb2.Duration(seconds=int(timeout),
                                                    nanos=int(timeout % 1 * 1e9)))
    return made, uploads + learned + scored
