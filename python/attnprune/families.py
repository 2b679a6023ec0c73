"""Where a torch model keeps its queries and keys, and what each attention does with them.

transformers' classes are known by their config's model_type and by the names of their projections;
what is not known is described by an Attention of one's own.
"""
from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, Optional, Union

from attnprune.problem import Layer
from attnprune.rope import option, rope
from attnprune.security import refuse
from attnprune.tensors import tensor
from attnprune.v1 import job_pb2


@dataclasses.dataclass
class Attention:
    """An attention of a model, by names of modules below it.

    q, k: modules with a weight (out, in), or (in, out) where `transposed`, and maybe a bias; one
    module that holds both is named twice, its first rows being q's, the next ones k's. Both read the
    same input. What is left out is derived or absent; `rope` to `scale` as in Layer. norm_modules:
    those of queries and of keys, where there are.
    """

    name: str  # for messages
    layer: int
    q: str
    k: str
    heads: int
    kv_heads: int = 0
    transposed: bool = False
    rope: Union[None, float, job_pb2.Rope] = None
    norm: Optional[job_pb2.QkNorm] = None
    norm_modules: tuple[str, ...] = ()
    softcap: float = 0.0
    clip_qkv: float = 0.0
    alibi: int = job_pb2.ALIBI_UNSPECIFIED
    attention: str = "causal"
    scale: Optional[float] = None

    @property
    def fused(self) -> bool:
        return self.q == self.k

    def parameters(self, model: Any) -> dict[str, tuple[str, Any]]:
        """Views of the model's own weights, (out, in), and biases with their names, by field."""
        found = {}
        for part, name in (("q", self.q), ("k", self.k)):
            module = model.get_submodule(name)
            suffix = f"[{part}]" if self.fused else ""
            weight = module.weight.t() if self.transposed else module.weight
            rows = self._rows(part, weight.shape)
            found[f"w_{part}"] = (f"{name}.weight{suffix}", weight[rows])
            if getattr(module, "bias", None) is not None:
                found[f"b_{part}"] = (f"{name}.bias{suffix}", module.bias[rows])
        return found

    def _rows(self, part: str, shape: Any) -> slice:
        if not self.fused:
            return slice(None)
        groups = self.heads + 2 * (self.kv_heads or self.heads)  # q, then k, then v
        if shape[0] % groups:
            refuse("attentions", f"of {self.name}: heads + 2 kv_heads = {groups} must divide the "
                                 f"{shape[0]} rows of {self.q}")
        size = shape[0] // groups
        start = 0 if part == "q" else self.heads * size
        heads = self.heads if part == "q" else self.kv_heads or self.heads
        return slice(start, start + heads * size)

    def describe(self, model: Any) -> Layer:
        """The layer that is pruned, with the model's weights."""
        found = {field: tensor(value, name) for field, (name, value) in self.parameters(model).items()}
        norms = {}
        for part, name in zip("qk", self.norm_modules):
            module = model.get_submodule(name)
            norms[f"{part}_weight"] = tensor(module.weight, f"{name}.weight")
            if getattr(module, "bias", None) is not None:
                norms[f"{part}_bias"] = tensor(module.bias, f"{name}.bias")
        return Layer(found["w_q"], found["w_k"], self.heads, self.kv_heads or self.heads,
                     q_bias=found.get("b_q"), k_bias=found.get("b_k"), rope=self.rope,
                     norm=self.norm, norms=norms, softcap=self.softcap, clip_qkv=self.clip_qkv,
                     alibi=self.alibi, attention=self.attention, scale=self.scale)


@dataclasses.dataclass(frozen=True)
class Family:
    """What a model_type's attention has; see docs/models.md."""

    rope: bool = True
    theta: float = 10000.0
    partial: float = 1.0
    interleaved: bool = False
    local_theta: Optional[float] = None
    window: str = ""  # "every" layer, "switched" (Qwen), or of "types": all but each `pattern`-th
    pattern: int = 0
    default_window: int = 0
    rope_in: str = "all"  # or "sliding" layers, or "listed" ones (SmolLM 3)
    norm: Optional[str] = None  # "rms", "rms1", "whole", "layer": of q_norm and k_norm
    norm_if: str = ""  # the option that says whether there are norms
    eps: str = "rms_norm_eps"
    scale: str = ""  # "query_pre_attn_scalar", "attention_multiplier"
    softcap: bool = False
    full: bool = False  # an encoder: every key


_GEMMA2 = Family(window="types", pattern=2, default_window=4096, scale="query_pre_attn_scalar",
                 softcap=True)
_BERT = Family(rope=False, full=True)
FAMILIES = {
    "llama": Family(),
    "mistral": Family(window="every", default_window=4096),
    "qwen2": Family(window="switched", default_window=4096),
    "qwen3": Family(window="switched", default_window=4096, norm="rms"),
    "smollm3": Family(theta=2000000.0, rope_in="listed"),
    "gemma": Family(),
    "gemma2": _GEMMA2,
    "gemma3_text": dataclasses.replace(_GEMMA2, pattern=6, softcap=False, theta=1000000.0,
                                       local_theta=10000.0, norm="rms1"),
    "starcoder2": Family(window="every"),
    "phi": Family(partial=0.5, norm="layer", norm_if="qk_layernorm", eps="layer_norm_eps"),
    "phi3": Family(window="every"),
    "stablelm": Family(partial=0.25),
    "granite": Family(scale="attention_multiplier"),
    "olmo": Family(),
    "olmo2": Family(norm="whole"),
    "cohere": Family(interleaved=True, norm="layer", norm_if="use_qk_norm", eps="layer_norm_eps"),
    "cohere2": Family(interleaved=True, window="types", pattern=4, default_window=4096,
                      rope_in="sliding"),
    "opt": Family(rope=False),
    "gpt2": Family(rope=False),
    "bert": _BERT,
    "roberta": _BERT,
}
_PROJECTIONS = (("q_proj", "k_proj"), ("qkv_proj", "qkv_proj"), ("c_attn", "c_attn"),
                ("query", "key"))
_NORMS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"))
_OTHERS = re.compile(r"crossattention|encoder_attn|cross_attn|vision|audio")  # not of the text's tokens


def find_attentions(model: Any) -> list[Attention]:
    """Every attention of a transformers model, or of one with the same names and a `config` with
    the same options, in the model's order. InvalidArgument: what must be described by hand."""
    config = getattr(model, "config", None)
    config = option(config, "text_config", config) if config is not None else None
    kind = option(config, "model_type", "") if config is not None else ""
    if kind not in FAMILIES:
        refuse("attentions", "must be given, a list of attnprune.Attention, unless model.config."
                             f"model_type is one of {', '.join(FAMILIES)}; got {kind or 'no config'}")
    found: list[Attention] = []
    for name, module in model.named_modules():
        if _OTHERS.search(name):
            continue
        for q, k in _PROJECTIONS:
            if getattr(getattr(module, q, None), "weight", None) is not None and hasattr(module, k):
                found.append(_attention(FAMILIES[kind], config, name, module, (q, k), len(found)))
                break
    if not found:
        refuse("model", f"must have attentions with query and key projections, got a {kind} without")
    return found


def _attention(family: Family, config: Any, name: str, module: Any, names: tuple[str, str],
               layer: int) -> Attention:
    prefix = f"{name}." if name else ""
    heads = int(option(config, "num_attention_heads") or option(config, "n_head"))
    q, k = (getattr(module, part) for part in names)
    transposed = names[0] == "c_attn"
    if names[0] == names[1]:
        kv_heads = int(option(config, "num_key_value_heads", heads)) if not transposed else heads
        rows = q.weight.shape[1 if transposed else 0]
        head_dim = rows // (heads + 2 * kv_heads)
    else:
        head_dim = q.weight.shape[0] // heads
        kv_heads = k.weight.shape[0] // head_dim
    window = _window(family, config, layer)
    out = Attention(name, layer, prefix + names[0], prefix + names[1], heads, kv_heads, transposed,
                    attention="full" if family.full and not option(config, "is_decoder", False)
                    else f"window:{window}" if window else "causal")
    if _has_rope(family, config, layer, bool(window)):
        out.rope = rope(config, head_dim, theta=family.theta, partial=family.partial,
                        interleaved=family.interleaved, sliding=bool(window),
                        local_theta=_local_theta(family, config))
    out.scale = _scale(family, config, head_dim, layer)
    out.softcap = float(option(config, "attn_logit_softcapping", 0.0)) if family.softcap else 0.0
    out.clip_qkv = float(option(config, "clip_qkv", 0.0))
    _add_norm(family, config, module, prefix, out)
    return out


def _local_theta(family: Family, config: Any) -> float | None:
    if family.local_theta is None:
        return None
    return float(option(config, "rope_local_base_freq", family.local_theta))


def _window(family: Family, config: Any, layer: int) -> int:
    """Tokens of the layer's window; 0: none."""
    if not family.window:
        return 0
    size = int(option(config, "sliding_window", family.default_window if family.window == "types"
                      else 0))
    types = option(config, "layer_types")
    if types is not None:
        return size if types[layer] == "sliding_attention" else 0
    if family.window == "switched":
        inside = layer >= option(config, "max_window_layers", 28)
        return size if option(config, "use_sliding_window", False) and inside else 0
    if family.window == "types":
        pattern = int(option(config, "sliding_window_pattern", family.pattern))
        return size if (layer + 1) % pattern else 0
    return size


def _has_rope(family: Family, config: Any, layer: int, sliding: bool) -> bool:
    if family.rope_in == "sliding":
        return sliding
    if family.rope_in == "listed":
        listed = option(config, "no_rope_layers")  # 1: it is used
        interval = int(option(config, "no_rope_layer_interval", 4))
        return bool(listed[layer]) if listed else (layer + 1) % interval != 0
    return family.rope


def _scale(family: Family, config: Any, head_dim: int, layer: int) -> float | None:
    """None: the usual one."""
    usual = 1 / math.sqrt(head_dim)
    scale = usual
    if family.scale == "query_pre_attn_scalar":
        scale = 1 / math.sqrt(option(config, family.scale, 256))
    elif family.scale:
        scale = float(option(config, family.scale, 1.0))
    elif option(config, "scale_attn_weights", True) is False:
        scale = 1.0
    if option(config, "scale_attn_by_inverse_layer_idx", False):
        scale /= layer + 1
    return None if scale == usual else scale


def _add_norm(family: Family, config: Any, module: Any, prefix: str, out: Attention) -> None:
    if family.norm_if and not option(config, family.norm_if, False):
        return
    for names in _NORMS:
        norms = [getattr(module, name, None) for name in names]
        if norms[0] is None:
            continue
        if family.norm is None or any(getattr(norm, "weight", None) is None for norm in norms):
            refuse("model", f"must have norms of queries and keys that are known, got {names[0]} "
                            f"in {out.name}: describe it by attnprune.Attention")
        out.norm_modules = tuple(prefix + name for name in names)
        out.norm = job_pb2.QkNorm(
            kind=job_pb2.LAYER if family.norm == "layer" else job_pb2.RMS,
            group=job_pb2.WHOLE if family.norm == "whole" else job_pb2.HEAD,
            eps=float(option(config, family.eps, 1e-6)),
            weight_offset=1.0 if family.norm == "rms1" else 0.0)
