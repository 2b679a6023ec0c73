"""Queries and keys of every layer of a model, pruned in one run, and what its loss is."""
import json
import re
import shutil
import subprocess
import sys

import numpy
import pytest

import safetensors
from harness import MODEL, ROOT, cli

QUALITY = ROOT / "tests/quality"
sys.path.insert(0, str(QUALITY))
from model_loss import Distance, Model, read_tokens, to_float32  # pylint: disable=wrong-import-position

LAYERS = 4
PRUNED = {f"model.layers.{layer}.self_attn.{part}_proj.weight"
          for layer in range(LAYERS) for part in "qk"}


def loss(folder):
    return Model(folder).losses(read_tokens(str(MODEL / "held_out.safetensors"))).mean()


def check_only_queries_and_keys_changed(before, after, fraction):
    assert set(after) == set(before)
    for name, tensor in before.items():
        if name not in PRUNED:
            assert after[name] == tensor, f"{name} is byte for byte what it was"
            continue
        assert after[name][:2] == tensor[:2], "the same dtype and shape"
        old, new = safetensors.array(tensor), safetensors.array(after[name])
        assert ((new == old) | (new == 0)).all(), "magnitude moves no weight"
        assert numpy.count_nonzero(new) == old.size * (1 - fraction), name


def test_all_layers_make_one_model_and_its_loss_is_that_of_the_prototype(tmp_path):
    rest = [part for role in ("v", "o", "gate", "up", "down") for part in ("--skip", role)]
    done = cli("prune", "--model", MODEL, "--tokens", f"{MODEL}/calibration.safetensors:tokens",
               "--attention-method", "magnitude", *rest, "--order", "independent", "--sparsity",
               "0.5", "--output", tmp_path / "half")
    assert done.returncode == 0, done.stderr
    check_only_queries_and_keys_changed(safetensors.read(MODEL / "model.safetensors"),
                                        safetensors.read(tmp_path / "half/model.safetensors"), 0.5)
    assert (tmp_path / "half/config.json").read_bytes() == (MODEL / "config.json").read_bytes()
    tensors = json.loads((tmp_path / "half/report.json").read_text())["tensors"]
    assert {tensor["name"] for tensor in tensors} == PRUNED
    assert all(0 < tensor["attentionCalibrationError"] < 1 for tensor in tensors)

    # Magnitude cost the prototype 0.013 on other tokens; the standard error of these is 0.005.
    assert loss(MODEL) == pytest.approx(1.50, abs=0.01), "what data/README says"
    assert loss(tmp_path / "half") - loss(MODEL) == pytest.approx(0.013, abs=0.02)


def test_the_loss_script_reproduces_the_stored_inputs_of_every_layer():
    """Its forward pass is the one that made the data: equal but for the rounding to F16."""
    model = Model(MODEL)
    stored = safetensors.read(MODEL / "held_out.safetensors")
    x = model.embed(read_tokens(str(MODEL / "held_out.safetensors"))[:, :-1])
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        normed = model.norm(x, f"{name}.input_layernorm")
        given = safetensors.array(stored[f"{name}.self_attn.input"]).astype(numpy.float32)
        # Half of F16's spacing below 4, 2^-10, and twice that for the sums behind it.
        assert numpy.abs(normed - given).max() < 3 * 2.0**-10
        x = x + model.attention(normed, layer)
        x = x + model.mlp(model.norm(x, f"{name}.post_attention_layernorm"), layer)


def test_the_loss_is_the_same_however_the_folder_says_it(tmp_path):
    """The same model in F32, with embeddings of its own at the end and biases of 0."""
    tensors = safetensors.read(MODEL / "model.safetensors")
    wide = {name: ("F32", shape, safetensors.array((dtype, shape, data)).astype("<f4").tobytes())
            for name, (dtype, shape, data) in tensors.items()}
    wide["lm_head.weight"] = wide["model.embed_tokens.weight"]
    for layer in range(LAYERS):
        wide[f"model.layers.{layer}.self_attn.q_proj.bias"] = ("F32", [128], bytes(4 * 128))
    shutil.copy(MODEL / "config.json", tmp_path)
    safetensors.write(tmp_path / "model.safetensors", wide)
    assert loss(tmp_path) == loss(MODEL)

    # BF16 is F32 without its lower half.
    numbers = numpy.array([1, -2.5, 1e-20], "<f4").view("<u4")
    widened = to_float32(("BF16", (numbers >> 16).astype("<u2")))
    assert (widened.view("<u4") == numbers & 0xffff0000).all()


def test_a_distance_is_paired_by_token():
    dense = numpy.array([[1.0, 5.0], [2.0, 9.0]])
    same = Distance(dense + 0.25, dense)
    assert (same.mean, same.by_token, same.by_row) == (0.25, 0, 0), "what is in common cancels"
    other = Distance(dense + [[0, 2], [2, 4]], dense)
    assert other.mean == 2
    assert other.by_token == pytest.approx((8 / 3 / 4) ** 0.5), "of 0, 2, 2 and 4"
    assert other.by_row == pytest.approx(1), "of 1 and 3"


def test_the_table_of_losses_comes_out_of_one_command():
    done = subprocess.run(["/usr/bin/python3", "-B", QUALITY / "prune_and_measure.py", "--method",
                           "wanda", "--method", "sparsegpt", "--sparsity", "0.5"], text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["dense", "`wanda`", "`sparsegpt`"]
    assert "of 1024" in lines[0]
    for line in lines[3:]:
        assert re.search(r"\| \d\.\d{4} \([+-]\d\.\d{4} ± \d\.\d{4}, by row ± \d\.\d{4}\) \|", line)
