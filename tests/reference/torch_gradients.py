#!/usr/bin/python3
"""PyTorch's autograd, in float64, against gradients.safetensors of the golden models of the llama family.

    torch_gradients.py MODELS        MODELS: tests/data/models

Prints the largest distance ||torch - stored||_F / ||stored||_F of each model; fails above 1e-6, ten roundings of the
float32 in which they are stored. Debian packages: python3-numpy python3-torch.
"""
import json
import pathlib
import struct
import sys

import numpy
import torch
from torch.nn import functional

NAMES = ("llama", "llama-bias-headdim-tied", "qwen2", "qwen2-window", "qwen3", "mistral")
KINDS = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}
MAPS = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}


def load(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    body = raw[8 + length:]
    return {name: numpy.frombuffer(body[slice(*entry["data_offsets"])], KINDS[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in json.loads(raw[8:8 + length]).items() if name != "__metadata__"}


class Model:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {name: torch.from_numpy(w.astype(numpy.float64))
                        for name, w in load(folder / "model.safetensors").items()}
        self.heads, self.kv = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        self.dim = self.config.get("head_dim") or self.config["hidden_size"] // self.heads
        self.watched = {}

    def watch(self, name, value):
        value.retain_grad()
        self.watched[name] = value
        return value

    def norm(self, x, name):
        mean = x.pow(2).mean(-1, keepdim=True)
        return self.weights[name] * x * torch.rsqrt(mean + self.config["rms_norm_eps"])

    def map(self, layer, role, x):
        name = f"model.layers.{layer}.{MAPS[role]}"
        y = functional.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))
        return self.watch(f"layer.{layer}.{role}", y)

    def allowed(self, layer, n):
        distance = torch.arange(n)[:, None] - torch.arange(n)[None, :]
        window = self.config.get("sliding_window")
        if self.config["model_type"] != "mistral":
            first = self.config.get("max_window_layers", 0)
            window = window if self.config.get("use_sliding_window") and layer >= first else None
        return (distance >= 0) & (distance < (window or n))

    def attention(self, layer, x):
        n = len(x)
        frequencies = self.config["rope_theta"] ** (-torch.arange(0, self.dim, 2).double() / self.dim)
        angle = torch.outer(torch.arange(n).double(), frequencies).repeat(1, 2)

        def heads(role, count, turned):
            y = self.map(layer, role, x).view(n, count, self.dim)
            norm = f"model.layers.{layer}.self_attn.{role}_norm.weight"
            y = (self.norm(y, norm) if norm in self.weights else y).transpose(0, 1)
            half = torch.cat((-y[..., self.dim // 2:], y[..., :self.dim // 2]), -1)
            y = y * angle.cos() + half * angle.sin() if turned else y
            return y.repeat_interleave(self.heads // count, 0)

        q, k, v = heads("q", self.heads, True), heads("k", self.kv, True), heads("v", self.kv, False)
        scores = (q @ k.transpose(1, 2) * self.dim ** -0.5).masked_fill(~self.allowed(layer, n), -torch.inf)
        mixed = (torch.softmax(scores, -1) @ v).transpose(0, 1).reshape(n, -1)
        return self.map(layer, "o", mixed)

    def gradients(self, ids):
        """Of the sum of -log p(next token), by the names of gradients.safetensors."""
        embedding = self.weights["model.embed_tokens.weight"]
        x = self.watch("hidden.0", embedding[ids].requires_grad_() * 1)
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            x = x + self.attention(layer, self.norm(x, prefix + "input_layernorm.weight"))
            h = self.norm(x, prefix + "post_attention_layernorm.weight")
            inner = functional.silu(self.map(layer, "gate", h)) * self.map(layer, "up", h)
            x = self.watch(f"hidden.{layer + 1}", x + self.map(layer, "down", inner))
        logits = self.norm(x, "model.norm.weight") @ self.weights.get("lm_head.weight", embedding).t()
        functional.cross_entropy(logits[:-1], ids[1:], reduction="sum").backward()
        return {name: value.grad.numpy() for name, value in self.watched.items()}


def main(models):
    good = True
    for name in NAMES:
        folder = pathlib.Path(models) / name
        ids = torch.from_numpy(load(folder / "expected.safetensors")["input_ids"].copy())
        got, distances = Model(folder).gradients(ids), {}
        for key, stored in load(folder / "gradients.safetensors").items():
            rows = got[key][1::3] if key.startswith("layer.") else got[key]
            distances[key] = numpy.linalg.norm(rows - stored) / numpy.linalg.norm(stored)
        where = max(distances, key=distances.get)
        good = good and all(distance <= 1e-6 for distance in distances.values())
        print(f"{name:24} {distances[where]:.1e} at {where}, of {len(distances)} gradients")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
