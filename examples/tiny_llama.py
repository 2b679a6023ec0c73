"""A Llama in plain torch, for machines without transformers: the same names, the same maths."""
import json
import pathlib
import types

import numpy
import torch
from attnprune import safetensors
from torch import nn
from torch.nn import functional


class RmsNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden = config.hidden_size
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.size = getattr(config, "head_dim", hidden // self.heads)
        inner, kv_inner = self.heads * self.size, self.kv_heads * self.size
        self.q_proj = nn.Linear(hidden, inner, bias=False)
        self.k_proj = nn.Linear(hidden, kv_inner, bias=False)
        self.v_proj = nn.Linear(hidden, kv_inner, bias=False)
        self.o_proj = nn.Linear(inner, hidden, bias=False)
        self.theta = config.rope_theta

    def rotate(self, x):
        angles = torch.outer(torch.arange(x.shape[2], dtype=torch.float64), self.theta ** (
            -torch.arange(0, self.size, 2, dtype=torch.float64) / self.size))
        cos, sin = (f(angles).repeat(1, 2).to(x.dtype) for f in (torch.cos, torch.sin))
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    def forward(self, x):
        batch, n, _ = x.shape

        def split(y, heads):
            return y.view(batch, n, heads, self.size).transpose(1, 2)
        q = self.rotate(split(self.q_proj(x), self.heads))
        k = self.rotate(split(self.k_proj(x), self.kv_heads))
        v = split(self.v_proj(x), self.kv_heads)
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, 1) for y in (k, v))
        logits = q @ k.transpose(2, 3) / self.size ** 0.5
        logits = logits + torch.full((n, n), float("-inf")).triu(1)
        return self.o_proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, n, -1))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn, self.mlp = Attention(config), Mlp(config)
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Token ids (k, n) in, logits (k, n, vocabulary) out."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.model.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids, attention_mask=None):  # padding behind a row changes nothing before it
        x = self.model.embed_tokens(input_ids)
        for layer in self.model.layers:
            x = layer(x)
        return self.lm_head(self.model.norm(x))


def from_pretrained(folder):
    """The model of a folder, in float32."""
    folder = pathlib.Path(folder)
    config = types.SimpleNamespace(**json.loads((folder / "config.json").read_text()))
    model = Llama(config)
    file = safetensors.File(folder / "model.safetensors")
    weights = {name: torch.from_numpy(file.array(name).astype(numpy.float32)) for name in file.names}
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    model.load_state_dict(weights)
    return model


def token_batches(path, size=8):
    """Of a file's tensor `tokens`: batches of `size` rows."""
    tokens = torch.from_numpy(safetensors.File(path).array("tokens").astype(numpy.int64))
    return tokens.split(size)
