"""A pass over a model: its memory is told before it runs, and kept within --memory-budget by a file."""
import json
import re
import subprocess

import numpy
import pytest

import safetensors
from harness import BIN

MIB = 1 << 20
D, FFN, LAYERS, ROWS, LENGTH = 512, 2048, 2, 128, 128


@pytest.fixture(scope="module", name="model")
def random_llama(tmp_path_factory):
    """A folder with a llama of two layers, 4.2 million weights each, and token ids for it."""
    folder, rng = tmp_path_factory.mktemp("model"), numpy.random.default_rng(2)
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": D, "intermediate_size": FFN, "vocab_size": 2048,
        "num_hidden_layers": LAYERS, "num_attention_heads": 8, "tie_word_embeddings": True}))
    shapes = {"model.embed_tokens.weight": (2048, D), "model.norm.weight": (D,)}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        shapes.update({f"{at}{name}.weight": (D,) for name in ("input_layernorm",
                                                              "post_attention_layernorm")})
        shapes.update({f"{at}self_attn.{x}_proj.weight": (D, D) for x in "qkvo"})
        shapes.update({f"{at}mlp.{x}_proj.weight": (FFN, D) for x in ("gate", "up")})
        shapes[f"{at}mlp.down_proj.weight"] = (D, FFN)
    tensors = {}
    for name, shape in shapes.items():
        bits = rng.normal(0, 0.02, shape).astype("<f4").view("<u4") >> 16
        tensors[name] = "BF16", list(shape), bits.astype("<u2").tobytes()
    safetensors.write(folder / "model.safetensors", tensors)
    numpy.save(folder / "tokens.npy", rng.integers(0, 2048, (ROWS, LENGTH)))
    return folder


def still_runs(process):
    """Whether it does after a moment: between two looks, which would take a core of their own."""
    try:
        process.wait(0.005)
        return False
    except subprocess.TimeoutExpired:
        return True


def peak_of(*arguments):
    """(most memory that the program had, most of it that is no file's, what it said on stderr)"""
    with subprocess.Popen([BIN / "attnprune", *map(str, arguments)], stderr=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, text=True) as process:
        most = {"VmHWM": 0, "RssAnon": 0}
        while still_runs(process):
            with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
                text = status.read()
            for name in most:
                found = re.search(rf"{name}:\s+(\d+) kB", text)  # gone at the very end
                most[name] = max(most[name], int(found[1]) << 10 if found else 0)
        said = process.stderr.read()
    assert process.returncode == 0, said
    return most["VmHWM"], most["RssAnon"], said


def test_a_pass_over_a_model_takes_what_it_said_and_less_within_a_budget(model, tmp_path):
    flags = ["--model", model, "--tokens", model / "tokens.npy", "--threads", 2]
    layer, hidden = 4 * 4 * (D * D + D * FFN) - 4 * D * FFN, 4 * ROWS * LENGTH * D
    taken, own, said = peak_of("capture", *flags, "--dtype", "bf16", "--output", tmp_path / "whole")
    told = float(re.search(r"through 1 layer, about .*, ([\d.]+) MiB", said)[1]) * MIB
    assert 0.75 * taken < told < 1.25 * taken
    assert taken < layer + 2 * hidden + 300 * MIB
    _, spilled, _ = peak_of("capture", *flags, "--dtype", "bf16", "--output", tmp_path / "spilled",
                         "--memory-budget", "16MiB")
    whole = (tmp_path / "whole/calibration.safetensors").read_bytes()
    assert whole == (tmp_path / "spilled/calibration.safetensors").read_bytes()
    assert spilled < own - hidden // 2
    judged, judged_own, _ = peak_of("eval", *flags)
    assert judged < layer + 2 * hidden + 300 * MIB
    _, judged_spilled, _ = peak_of("eval", *flags, "--memory-budget", "16MiB")
    assert judged_spilled < judged_own - hidden // 2, "the head makes no copy of the hidden states"
