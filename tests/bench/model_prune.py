#!/usr/bin/python3
"""SparseGPT on every linear map of a Llama-3.2-1B-shaped random model: `attnprune prune` beside a plain PyTorch script, in
turn, on the same threads.

    tests/bench/model_prune.py [--build build/release] [--folder /var/tmp/llama-1b-2] [--threads 2] [--layers 2] [--rows 8]
                               [--tokens 512] [--rounds 1]

Makes the model in bf16 where the folder lacks it. The script is the published SparseGPT (github.com/IST-DASLab/sparsegpt,
sparsegpt.py and llama.py with --true-sequential) in its own words: float32, a pass over the rows for q, k, v; for o; for gate,
up; for down; one more on the pruned block. Prints seconds of both, the run's from its start to its end, and the ratio.
Debian packages: python3-numpy python3-torch libopenblas0-pthread.
"""
import argparse
import datetime
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import numpy
import torch

import model_forward as model


class Hessian:
    def __init__(self, size):
        self.h = torch.zeros(size, size)
        self.rows = 0

    def add(self, x):
        x = x.reshape(-1, x.shape[-1])
        self.rows += x.shape[0]
        self.h += x.t() @ x


def sparsegpt(w, h, sparsity, blocksize=128, percdamp=0.01):
    w, h = w.clone(), h.clone()
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h += torch.eye(h.shape[0]) * percdamp * torch.diag(h).mean()
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    for i in range(0, w.shape[1], blocksize):
        j = min(i + blocksize, w.shape[1])
        part, errors, q = w[:, i:j].clone(), torch.zeros_like(w[:, i:j]), torch.zeros_like(w[:, i:j])
        block = u[i:j, i:j]
        scores = part ** 2 / torch.diag(block).reshape(1, -1) ** 2
        gone = scores <= torch.sort(scores.flatten())[0][int(scores.numel() * sparsity)]
        for c in range(j - i):
            column, d = part[:, c], block[c, c]
            kept = column.clone()
            kept[gone[:, c]] = 0
            q[:, c] = kept
            error = (column - kept) / d
            part[:, c:] -= error.unsqueeze(1) @ block[c, c:].unsqueeze(0)
            errors[:, c] = error
        w[:, i:j] = q
        w[:, j:] -= errors @ u[i:j, j:]
    return w


GROUPS = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
          ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))


def block(x, w, rope, look=None):
    """One row through a block; look(group, input) sees what each group of maps reads and may end it."""
    n, dim = x.shape[0], model.D // model.HEADS
    h = model.norm(x, w["input_layernorm"])
    if look and look(0, h):
        return None
    cos, sin = rope
    heads = lambda y, k: y.reshape(n, k, dim).transpose(0, 1)
    q = model.rotate(heads(h @ w["self_attn.q_proj"].t(), model.HEADS), cos, sin)
    k = model.rotate(heads(h @ w["self_attn.k_proj"].t(), model.KV), cos, sin)
    v = heads(h @ w["self_attn.v_proj"].t(), model.KV)
    k, v = (t.repeat_interleave(model.HEADS // model.KV, 0) for t in (k, v))
    scores = q @ k.transpose(1, 2) / dim ** 0.5 + torch.full((n, n), float("-inf")).triu(1)
    a = (torch.softmax(scores, -1) @ v).transpose(0, 1).reshape(n, model.D)
    if look and look(1, a):
        return None
    x = x + a @ w["self_attn.o_proj"].t()
    h = model.norm(x, w["post_attention_layernorm"])
    if look and look(2, h):
        return None
    h = torch.nn.functional.silu(h @ w["mlp.gate_proj"].t()) * (h @ w["mlp.up_proj"].t())
    if look and look(3, h):
        return None
    return x + h @ w["mlp.down_proj"].t()


def by_torch(weights, ids, layers, sparsity):
    dim, n = model.D // model.HEADS, ids.shape[1]
    angle = torch.outer(torch.arange(n).float(), 500000.0 ** (-torch.arange(0, dim, 2).float() / dim))
    rope = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()
    rows = [weights["model.embed_tokens.weight"][torch.from_numpy(row).long()] for row in ids]
    start = time.monotonic()
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        w = {k[len(prefix):-len(".weight")]: v for k, v in weights.items() if k.startswith(prefix)}
        for group, names in enumerate(GROUPS):
            hessian = Hessian(w[names[0]].shape[1])

            def look(g, h):
                if g == group:
                    hessian.add(h)
                return g == group
            for row in rows:
                block(row, w, rope, look)
            for name in names:
                w[name] = sparsegpt(w[name], hessian.h, sparsity)
        rows = [block(row, w, rope) for row in rows]
    return time.monotonic() - start


def by_attnprune(args, tokens):
    out = tempfile.mkdtemp(dir="/var/tmp")
    start = time.monotonic()
    told = subprocess.run([args.build / "bin/attnprune", "prune", "--model", args.folder, "--tokens", tokens, "--sparsity",
                           str(args.sparsity), "--method", "sparsegpt", "--threads", str(args.threads), "--output", out,
                           "--overwrite", "--json"], check=True, capture_output=True, text=True)
    whole = time.monotonic() - start
    shutil.rmtree(out)
    run = json.loads(told.stdout)
    moment = lambda text: datetime.datetime.fromisoformat(text.rstrip("Z")[:26])
    seconds = (moment(run["endTime"]) - moment(run["startTime"])).total_seconds()
    return seconds, whole


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/var/tmp/llama-1b-2"))
    for name, value in (("threads", 2), ("layers", 2), ("rows", 8), ("tokens", 512), ("rounds", 1)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--sparsity", type=float, default=0.5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    model.make(args.folder, args.layers)
    ids = numpy.random.default_rng(1).integers(0, model.VOCAB, (args.rows, args.tokens)).astype("i4")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        tokens = pathlib.Path(folder) / "tokens.npy"
        numpy.save(tokens, ids)
        weights = model.load(args.folder, args.layers)
        ours, theirs, wholes = [], [], []
        for _ in range(args.rounds):
            seconds, whole = by_attnprune(args, tokens)
            ours.append(seconds)
            wholes.append(whole)
            theirs.append(by_torch(dict(weights), ids, args.layers, args.sparsity))
            print(f"attnprune {ours[-1]:.1f} s (the whole command {whole:.1f} s), PyTorch {theirs[-1]:.1f} s", flush=True)
    print(f"PyTorch over attnprune: {statistics.median(theirs) / statistics.median(ours):.2f}; over the whole command: "
          f"{statistics.median(theirs) / statistics.median(wholes):.2f}")


if __name__ == "__main__":
    main()
