"""A model's rotary embedding from its config, as modeling_rope_utils.py of transformers reads it."""
from __future__ import annotations

import math
from typing import Any, Mapping

from attnprune.security import refuse
from attnprune.v1 import job_pb2

TYPES = {"default": None, "linear": job_pb2.LINEAR, "dynamic": job_pb2.DYNAMIC,
         "llama3": job_pb2.LLAMA3, "yarn": job_pb2.YARN, "longrope": job_pb2.LONGROPE}


def option(config: Any, key: str, default: Any = None) -> Any:
    """Of a config object or dict; one that is None counts as absent."""
    value = config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)
    return default if value is None else value


def options_of(config: Any, sliding: bool) -> Mapping[str, Any]:
    """rope_scaling, or transformers 5's rope_parameters, of a layer of that type."""
    found: Mapping[str, Any] = option(config, "rope_parameters") or option(config, "rope_scaling", {})
    for kind, wanted in (("sliding_attention", sliding), ("full_attention", not sliding)):
        if wanted and kind in found:
            return found[kind] or {}
    return found


def rope(config: Any, head_dim: int, *, theta: float = 10000.0, partial: float = 1.0,
         interleaved: bool = False, sliding: bool = False,
         local_theta: float | None = None) -> job_pb2.Rope:
    """theta, partial: the family's defaults. local_theta: base of sliding layers, which nothing
    scales, where it is another one."""
    options = options_of(config, sliding)
    if local_theta is not None and sliding:
        options = {"rope_theta": options.get("rope_theta", local_theta)}
    base = float(options.get("rope_theta") or option(config, "rope_theta", theta))
    share = float(options.get("partial_rotary_factor")
                  or option(config, "partial_rotary_factor", partial))
    out = job_pb2.Rope(theta=base, dim=int(head_dim * share), attention_factor=1.0,
                       layout=job_pb2.INTERLEAVED if interleaved else job_pb2.ROTATE_HALF)
    kind = str(options.get("rope_type") or options.get("type") or "default")
    if kind not in TYPES:
        refuse("rope_type", f"must be one of {', '.join(TYPES)}, got {kind}")
    if TYPES[kind] is not None:
        _scale(out, kind, options, config)
    return out


def _scale(out: job_pb2.Rope, kind: str, options: Mapping[str, Any], config: Any) -> None:
    positions = int(option(config, "max_position_embeddings", 2048))
    original = int(options.get("original_max_position_embeddings")
                   or option(config, "original_max_position_embeddings", positions))
    longer = positions / original
    scaling = job_pb2.RopeScaling(type=TYPES[kind])
    if kind != "longrope":
        scaling.factor = float(options.get("factor") or longer)
    if kind == "dynamic":
        scaling.max_positions = positions
    if kind in ("llama3", "yarn", "longrope"):
        scaling.original_max_positions = original
    if kind == "llama3":
        scaling.low_freq_factor = float(options.get("low_freq_factor") or 1)
        scaling.high_freq_factor = float(options.get("high_freq_factor") or 4)
    if kind == "yarn":
        scaling.beta_fast = float(options.get("beta_fast") or 32)
        scaling.beta_slow = float(options.get("beta_slow") or 1)
        scaling.truncate = bool(options.get("truncate", True))
        out.attention_factor = _yarn_factor(scaling.factor, options)
    if kind == "longrope":
        scaling.short_factor.extend(options["short_factor"])
        scaling.long_factor.extend(options["long_factor"])
        factor = float(options.get("factor") or longer)
        rule = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(max(original, 2)))
        out.attention_factor = float(options.get("attention_factor") or rule)
    out.scaling.CopyFrom(scaling)


def _yarn_factor(factor: float, options: Mapping[str, Any]) -> float:
    def magnitude(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1
    above, below = options.get("mscale"), options.get("mscale_all_dim")
    rule = magnitude(above) / magnitude(below) if above and below else magnitude(1)
    return float(options.get("attention_factor") or rule)
