#!/usr/bin/python3
"""A Llama-3.2-1B-shaped random model: attnprune's forward pass beside PyTorch's eager one, in turn, on the same threads.

    tests/bench/model_forward.py [--build build/release] [--folder /var/tmp/llama-1b] [--threads 2] [--layers 16]

Makes the model in bf16 where the folder lacks it (2.5 GB at 16 layers). PyTorch has the weights in float32 from the start,
and computes attention and loss as transformers' eager code does. Debian packages: python3-numpy python3-torch
libopenblas0-pthread.
"""
import argparse
import json
import math
import pathlib
import struct
import subprocess
import time

import numpy
import torch

D, HEADS, KV, FFN, VOCAB = 2048, 32, 8, 8192, 128256


def shapes(layers):
    dim = D // HEADS
    out = {"model.embed_tokens.weight": (VOCAB, D), "model.norm.weight": (D,)}
    for i in range(layers):
        p = f"model.layers.{i}."
        out.update({p + "self_attn.q_proj.weight": (D, D), p + "self_attn.k_proj.weight": (KV * dim, D),
                    p + "self_attn.v_proj.weight": (KV * dim, D), p + "self_attn.o_proj.weight": (D, D),
                    p + "mlp.gate_proj.weight": (FFN, D), p + "mlp.up_proj.weight": (FFN, D),
                    p + "mlp.down_proj.weight": (D, FFN), p + "input_layernorm.weight": (D,),
                    p + "post_attention_layernorm.weight": (D,)})
    return out


def make(folder, layers):
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "llama", "hidden_size": D, "num_hidden_layers": layers, "num_attention_heads": HEADS,
              "num_key_value_heads": KV, "intermediate_size": FFN, "vocab_size": VOCAB, "rms_norm_eps": 1e-5,
              "max_position_embeddings": 131072, "rope_theta": 500000.0, "tie_word_embeddings": True,
              "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                               "original_max_position_embeddings": 8192, "rope_type": "llama3"}}
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "model.safetensors"
    wanted = shapes(layers)
    size = 2 * sum(math.prod(s) for s in wanted.values())
    if path.exists() and path.stat().st_size > size:
        return
    header, offset = {}, 0
    for name, shape in wanted.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + 2 * math.prod(shape)]}
        offset += 2 * math.prod(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = numpy.random.default_rng(0)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in wanted.items():
            values = numpy.ones(shape, "f4") if len(shape) == 1 else rng.standard_normal(shape, "f4") * 0.02
            file.write((values.view("u4") >> 16).astype("<u2").tobytes())


def load(folder, layers):
    raw = numpy.memmap(folder / "model.safetensors", numpy.uint8, "r")
    n = int(raw[:8].view("<u8")[0])
    header = json.loads(bytes(raw[8:8 + n]))
    to_float = lambda e: torch.from_numpy((raw[8 + n + e["data_offsets"][0]:8 + n + e["data_offsets"][1]].view("<u2")
                                           .astype("u4") << 16).view("f4").reshape(e["shape"]))
    return {name: to_float(entry) for name, entry in header.items()}


def norm(x, weight):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def eager(w, layers, ids):
    """The mean loss; the operations of transformers' LlamaForCausalLM with eager attention."""
    k, n = ids.shape
    dim = D // HEADS
    x = w["model.embed_tokens.weight"][ids]
    inverse = 500000.0 ** (-torch.arange(0, dim, 2) / dim)
    angle = torch.arange(n)[:, None] * torch.cat((inverse, inverse))
    cos, sin = angle.cos(), angle.sin()
    mask = torch.full((n, n), float("-inf")).triu(1)
    linear = torch.nn.functional.linear
    for i in range(layers):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"])
        heads = lambda name, count: linear(h, w[p + f"self_attn.{name}_proj.weight"]).view(k, n, count, dim).transpose(1, 2)
        q, key, v = heads("q", HEADS), heads("k", KV), heads("v", KV)
        q, key = rotate(q, cos, sin), rotate(key, cos, sin)
        key, v = (t.repeat_interleave(HEADS // KV, 1) for t in (key, v))
        f = torch.softmax(q @ key.transpose(2, 3) / math.sqrt(dim) + mask, -1)
        x = x + linear((f @ v).transpose(1, 2).reshape(k, n, D), w[p + "self_attn.o_proj.weight"])
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        gate = torch.nn.functional.silu(linear(h, w[p + "mlp.gate_proj.weight"]))
        x = x + linear(gate * linear(h, w[p + "mlp.up_proj.weight"]), w[p + "mlp.down_proj.weight"])
    logits = linear(norm(x, w["model.norm.weight"]), w["model.embed_tokens.weight"])
    return torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), ids[:, 1:].reshape(-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--folder", default="/var/tmp/llama-1b", type=pathlib.Path)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--layers", default=16, type=int)
    args = parser.parse_args()
    make(args.folder, args.layers)
    torch.set_num_threads(args.threads)
    for sequences, tokens in ((8, 512), (2, 2048)):
        seconds_of = {}
        for compute, flag in (("float32", "--bf16=false"), ("bf16", "--bf16=true")):
            done = subprocess.run([f"{args.build}/bin/model_forward", f"--model={args.folder}", f"--sequences={sequences}",
                                   f"--tokens={tokens}", f"--threads={args.threads}", flag],
                                  stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:  # told on stderr: a CPU without bf16
                continue
            seconds_of[compute] = float(done.stdout.split()[0])
            print(f"{sequences} x {tokens}: attnprune {compute} {done.stdout.strip()}", flush=True)
        weights = load(args.folder, args.layers)
        ids = torch.from_numpy(numpy.random.default_rng(1).integers(0, VOCAB, (sequences, tokens)))
        with torch.inference_mode():
            begin = time.perf_counter()
            loss = eager(weights, args.layers, ids)
            seconds = time.perf_counter() - begin
        print(f"{sequences} x {tokens}: PyTorch {torch.__version__} {seconds:.2f} s, "
              f"{seconds / seconds_of['float32']:.2f} x; {float(loss):.4f} nats a token", flush=True)
        del weights


if __name__ == "__main__":
    main()
