#!/usr/bin/python3
"""Mean loss of Llama-style models, in nats per token, on given tokens. NumPy only.

    model_loss.py --tokens data/tiny-llama/held_out.safetensors data/tiny-llama pruned/gd ...

Of each model but the first also how far it is from the first, token by token, with the standard error
of that distance (see Distance).

A model is a Hugging Face folder: config.json, and model.safetensors or its shards with their index;
F16, BF16, F32 or F64; grouped queries, rotary embedding (rotate_half), RMSNorm, SwiGLU, biases
where there are any, embeddings tied or not. Tokens are whole numbers, (k, n + 1) or (n + 1): in each
row every token but the first is predicted from those before it. Computes in float32, one layer and a
few rows at a time.
"""
import argparse
import json
import pathlib
import struct

import numpy

ROWS = 8  # of tokens at a time
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
         "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def map_file(path):
    """{name: (dtype, array)} of a .safetensors file; nothing is read yet."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    body = numpy.memmap(path, numpy.uint8, "r", 8 + length)
    return {name: (entry["dtype"], body[slice(*entry["data_offsets"])].view(
        KINDS[entry["dtype"]]).reshape(entry["shape"]))
            for name, entry in header.items() if name != "__metadata__" and entry["dtype"] in KINDS}


def map_folder(folder):
    """The tensors of all shards."""
    single = folder / "model.safetensors"
    if single.exists():
        return map_file(single)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shards = {shard: map_file(folder / shard) for shard in set(index.values())}
    return {name: shards[shard][name] for name, shard in index.items()}


def to_float32(tensor):
    dtype, array = tensor
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(numpy.uint32) << 16).view(numpy.float32)
    return array.astype(numpy.float32)


def softmax(scores):
    weights = numpy.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


class Model:
    """Weights stay on disk until a layer needs them."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.config = config = json.loads((folder / "config.json").read_text())
        self.tensors = map_folder(folder)
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps = config.get("rms_norm_eps", 1e-6)
        self.check(folder)

    def check(self, folder):
        """Refuses what would change the loss and is not computed here."""
        rope = self.config.get("rope_scaling") or self.config.get("rope_parameters") or {}
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise SystemExit(f"{folder}: rope must be of the default type, got {rope}")
        if self.config.get("hidden_act", "silu") != "silu":
            raise SystemExit(f"{folder}: hidden_act must be silu")
        if "model.layers.0.self_attn.q_norm.weight" in self.tensors:
            raise SystemExit(f"{folder}: normalised queries are not supported")

    def get(self, name):
        return to_float32(self.tensors[name])

    def linear(self, x, name):
        y = x @ self.get(f"{name}.weight").T
        return y + self.get(f"{name}.bias") if f"{name}.bias" in self.tensors else y

    def norm(self, x, name):
        scale = numpy.sqrt(numpy.mean(x * x, -1, keepdims=True) + self.eps)
        return x / scale * self.get(f"{name}.weight")

    def rotate(self, x):
        """Rotary embedding of (..., n, head_dim)."""
        parameters = self.config.get("rope_parameters") or {}
        theta = self.config.get("rope_theta") or parameters.get("rope_theta", 10000.0)
        frequencies = theta ** (-numpy.arange(0, self.head_dim, 2) / self.head_dim)
        angles = numpy.outer(numpy.arange(x.shape[-2]), frequencies)
        cos, sin = numpy.cos(angles).astype(x.dtype), numpy.sin(angles).astype(x.dtype)
        first, second = numpy.split(x, 2, -1)
        return numpy.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def attention(self, x, layer):
        """Of (rows, n, d); heads are (rows, kv head, head of the group, n, head_dim)."""
        name = f"model.layers.{layer}.self_attn"
        rows, n, _ = x.shape

        def heads(part, group):
            y = self.linear(x, f"{name}.{part}").reshape(rows, n, self.kv_heads, group, -1)
            return y.transpose(0, 2, 3, 1, 4)
        q = self.rotate(heads("q_proj", self.heads // self.kv_heads))
        k, v = self.rotate(heads("k_proj", 1)), heads("v_proj", 1)
        scores = q @ k.swapaxes(-1, -2) / numpy.sqrt(numpy.float32(self.head_dim))
        distance = numpy.arange(n)[:, None] - numpy.arange(n)
        window = self.config.get("sliding_window") if self.config["model_type"] == "mistral" else 0
        scores[..., (distance < 0) | (distance >= (window or n))] = -numpy.inf
        mixed = (softmax(scores) @ v).transpose(0, 3, 1, 2, 4).reshape(rows, n, -1)
        return self.linear(mixed, f"{name}.o_proj")

    def mlp(self, x, layer):
        name = f"model.layers.{layer}.mlp"
        gate = self.linear(x, f"{name}.gate_proj")
        return self.linear(gate / (1 + numpy.exp(-gate)) * self.linear(x, f"{name}.up_proj"),
                           f"{name}.down_proj")

    def embed(self, tokens):
        dtype, table = self.tensors["model.embed_tokens.weight"]
        return to_float32((dtype, table[tokens]))

    def logits(self, tokens):
        x = self.embed(tokens)
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            x = x + self.attention(self.norm(x, f"{name}.input_layernorm"), layer)
            x = x + self.mlp(self.norm(x, f"{name}.post_attention_layernorm"), layer)
        tied = "lm_head.weight" not in self.tensors
        output = self.get("model.embed_tokens.weight" if tied else "lm_head.weight")
        return self.norm(x, "model.norm") @ output.T

    def losses(self, tokens):
        """Of each predicted token, (k, n) of (k, n + 1)."""
        losses = []
        for rows in numpy.array_split(tokens, -(-len(tokens) // ROWS)):
            logits = self.logits(rows[:, :-1]).astype(numpy.float64)
            top = logits.max(-1, keepdims=True)
            partition = (top + numpy.log(numpy.exp(logits - top).sum(-1, keepdims=True)))[..., 0]
            chosen = numpy.take_along_axis(logits, rows[:, 1:, None], -1)[..., 0]
            losses.append(partition - chosen)
        return numpy.concatenate(losses)


class Distance:
    """Mean difference of two models' losses on the same tokens; what these have in common cancels.

    by_token: its standard error if tokens were independent. by_row: from the rows' means, which holds
    whatever the tokens of a row have in common; itself rough if rows are few. NaN for one of a kind.
    """

    def __init__(self, losses, reference):
        more = losses - reference

        def error(values):
            return values.std(ddof=1) / values.size ** 0.5 if values.size > 1 else float("nan")
        self.mean, self.by_token, self.by_row = more.mean(), error(more), error(more.mean(-1))

    def __str__(self):
        return f"{self.mean:+.4f} ± {self.by_token:.4f}, by row ± {self.by_row:.4f}"


def read_tokens(text):
    """FILE.safetensors[:NAME] or FILE.npy as (k, n + 1); the usual name is "tokens"."""
    if text.endswith(".npy"):
        tokens = numpy.load(text)
    else:
        path, _, name = text.partition(".safetensors")
        _, tokens = map_file(f"{path}.safetensors")[name[1:] or "tokens"]
    return numpy.atleast_2d(tokens).astype(numpy.int64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="DIR")
    parser.add_argument("--tokens", required=True, metavar="FILE[:NAME]",
                        help=".safetensors (usual name: tokens) or .npy")
    arguments = parser.parse_args()
    tokens = read_tokens(arguments.tokens)
    reference = None
    for folder in arguments.models:
        losses = Model(folder).losses(tokens)
        distance = "" if reference is None else f" ({Distance(losses, reference)})"
        reference = losses if reference is None else reference
        print(f"{losses.mean():.4f}{distance}  {folder}", flush=True)


if __name__ == "__main__":
    main()
