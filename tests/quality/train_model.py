#!/usr/bin/python3
"""Trains a small Qwen3 model on texts of Debian 12's packages, to judge methods on a model that had no part in any
choice (docs/results.md).

    tests/quality/train_model.py --output DIR [--text manuals] [--seed 7] [--steps 2000] [--threads 1]

Text, as ASCII bytes, a token each: `manuals`, Git's release notes and the POD of Perl's modules, or `python`, the sources
of Python's standard library. Files of HELD_OUT are not trained on. Writes into DIR:

    model/            Hugging Face folder: config.json, model.safetensors (BF16), tokenizer.json (data/tiny-llama's)
    calibration.tokens.safetensors   of the text trained on: tokens (16, 129), and input_ids (16, 128) without the last
    held_out.tokens.safetensors      of the other: 8 rows
    corpus.txt        a line a file: SHA-256 of its bytes, train or held_out, characters taken, path

and prints the corpus's SHA-256 and the loss of the written weights on the tokens of both, in nats a token. Everything is
seeded: the same machine and threads give the same bits. Debian packages: git perl libpython3.11-stdlib python3-numpy
python3-torch.
"""
import argparse
import hashlib
import json
import math
import pathlib
import re
import shutil
import sys
import time

import numpy
import torch
from torch.nn import functional

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/system"))
import safetensors  # noqa: E402  pylint: disable=wrong-import-position

NOTES, PERL = pathlib.Path("/usr/share/doc/git/RelNotes"), pathlib.Path("/usr/share/perl/5.36.0")
PYTHON = pathlib.Path("/usr/lib/python3.11")
# Later releases; modules from T on, of Python from "t" on.
HELD_OUT = re.compile(r"/RelNotes/2\.3|/5\.36\.0/[T-Z]|/python3\.11/[t-z]")
POD = re.compile(r"^=[a-zA-Z].*?(?:^=cut$|\Z)", re.M | re.S)
WINDOW, BATCH = 128, 8
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 128, "intermediate_size": 352,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 20, "vocab_size": 128,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu",
    "attention_bias": False, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}
D, HEADS, KV, DIM = (CONFIG[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"))
BLOCK = {
    "input_layernorm": (D,), "self_attn.q_proj": (HEADS * DIM, D), "self_attn.k_proj": (KV * DIM, D),
    "self_attn.v_proj": (KV * DIM, D), "self_attn.q_norm": (DIM,), "self_attn.k_norm": (DIM,),
    "self_attn.o_proj": (D, HEADS * DIM), "post_attention_layernorm": (D,),
    "mlp.gate_proj": (CONFIG["intermediate_size"], D), "mlp.up_proj": (CONFIG["intermediate_size"], D),
    "mlp.down_proj": (D, CONFIG["intermediate_size"]),
}


def files_of(text):
    if text == "python":  # without tables of characters and what other packages bring
        return sorted(p for p in PYTHON.rglob("*.py") if not {"encodings", "dist-packages"} & set(p.parts))
    return sorted(NOTES.glob("*.txt")) + sorted(p for p in PERL.rglob("*.p[mo]*") if p.suffix in (".pm", ".pod"))


def read_corpus(choice):
    """{"train": text, "held_out": text} as bytes, and a line a file."""
    texts, lines = {"train": [], "held_out": []}, []
    for path in files_of(choice):
        data = path.read_bytes()
        text = data.decode("latin-1")
        if path.is_relative_to(PERL):
            text = "".join(POD.findall(text))
        text = text.encode("ascii", "ignore")
        part = "held_out" if HELD_OUT.search(str(path)) else "train"
        if text:
            texts[part].append(text)
            lines.append(f"{hashlib.sha256(data).hexdigest()} {part} {len(text)} {path}\n")
    return {part: b"\n".join(some) for part, some in texts.items()}, lines


def initial_weights():
    weights = {"model.embed_tokens.weight": torch.randn(CONFIG["vocab_size"], D) * 0.05, "model.norm.weight": torch.ones(D)}
    for layer in range(CONFIG["num_hidden_layers"]):
        for name, shape in BLOCK.items():
            value = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * shape[1] ** -0.5
            weights[f"model.layers.{layer}.{name}.weight"] = value
    return {name: value.requires_grad_() for name, value in weights.items()}


def norm(x, weight):
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"])


def attention(h, w, prefix):
    rows, n, _ = h.shape
    frequencies = CONFIG["rope_theta"] ** (-torch.arange(0, DIM, 2) / DIM)
    angle = torch.outer(torch.arange(n), frequencies).repeat(1, 2)

    def project(name, heads):
        return (h @ w[f"{prefix}{name}_proj.weight"].t()).view(rows, n, heads, DIM).transpose(1, 2)

    def turn(y, name):
        y = norm(y, w[f"{prefix}{name}_norm.weight"])
        half = torch.cat((-y[..., DIM // 2:], y[..., :DIM // 2]), -1)
        return y * angle.cos() + half * angle.sin()

    q = turn(project("q", HEADS), "q")
    k, v = (t.repeat_interleave(HEADS // KV, 1) for t in (turn(project("k", KV), "k"), project("v", KV)))
    scores = q * DIM ** -0.5 @ k.transpose(2, 3) + torch.full((n, n), -torch.inf).triu(1)
    mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(rows, n, HEADS * DIM)
    return mixed @ w[f"{prefix}o_proj.weight"].t()


def mean_loss(w, tokens):
    """Nats a token of (rows, n + 1) ids: every token but a row's first from those before it."""
    x = w["model.embed_tokens.weight"][tokens[:, :-1]]
    for layer in range(CONFIG["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        x = x + attention(norm(x, w[prefix + "input_layernorm.weight"]), w, prefix + "self_attn.")
        h = norm(x, w[prefix + "post_attention_layernorm.weight"])
        gate, up, down = (w[f"{prefix}mlp.{name}_proj.weight"].t() for name in ("gate", "up", "down"))
        x = x + (functional.silu(h @ gate) * (h @ up)) @ down
    logits = norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].t()
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(text, steps):
    ids = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    weights = initial_weights()
    optimizer = torch.optim.AdamW([{"params": [w for w in weights.values() if w.dim() == 2], "weight_decay": 0.1},
                                   {"params": [w for w in weights.values() if w.dim() == 1], "weight_decay": 0.0}],
                                  betas=(0.9, 0.95))
    start = time.monotonic()
    for step in range(1, steps + 1):
        first = torch.randint(len(ids) - WINDOW, (BATCH, 1))
        loss = mean_loss(weights, ids[first + torch.arange(WINDOW + 1)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(step / 100, 0.02 + 0.98 * math.cos(math.pi / 2 * step / steps) ** 2)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}/{steps}  loss {loss.item():.3f}  {time.monotonic() - start:.0f} s", flush=True)
    return {name: value.detach().bfloat16() for name, value in weights.items()}


def write_tokens(path, text, rows):
    """The middles of as many equal stretches; returns the ids."""
    ids = numpy.frombuffer(text, numpy.uint8).astype("<i8")
    first = (2 * numpy.arange(rows) + 1) * (len(ids) - WINDOW) // (2 * rows)
    tokens = ids[first[:, None] + numpy.arange(WINDOW + 1)]
    safetensors.write(path, {name: ("I64", part.shape, part.tobytes())
                             for name, part in (("tokens", tokens), ("input_ids", tokens[:, :-1]))})
    return torch.from_numpy(tokens)


def write_model(folder, weights):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    shutil.copy(ROOT / "data/tiny-llama/tokenizer.json", folder)
    safetensors.write(folder / "model.safetensors", {
        name: ("BF16", list(value.shape), (value.float().numpy().view("<u4") >> 16).astype("<u2").tobytes())
        for name, value in weights.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--text", choices=("manuals", "python"), default="manuals")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    texts, lines = read_corpus(args.text)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "corpus.txt").write_text("".join(lines))
    print(f"corpus: {len(lines)} files, {len(texts['train'])} bytes to train on, {len(texts['held_out'])} held out, "
          f"SHA-256 {hashlib.sha256(texts['train'] + texts['held_out']).hexdigest()}")
    tokens = {name: write_tokens(args.output / f"{name}.tokens.safetensors", texts[part], rows)
              for name, part, rows in (("calibration", "train", 16), ("held_out", "held_out", 8))}
    weights = train(texts["train"], args.steps)
    write_model(args.output / "model", weights)
    with torch.no_grad():
        stored = {name: value.float() for name, value in weights.items()}
        for name, ids in tokens.items():
            print(f"{name}: {mean_loss(stored, ids).item():.6f} nats/token by PyTorch")


if __name__ == "__main__":
    main()
