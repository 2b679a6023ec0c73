"""Whole models: a job for every layer, one checkpoint of their results, and what its loss is."""
import json
import pathlib
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
DATA = ["--calibration", MODEL / "calibration.safetensors", "--held-out",
        MODEL / "held_out.safetensors"]
ALL = ["--model", MODEL, "--layer", "all", *DATA]
PRUNED = {f"model.layers.{layer}.self_attn.{part}_proj.weight"
          for layer in range(LAYERS) for part in "qk"}


def submit_all(at, *flags):
    """Names of the jobs, when all have succeeded."""
    submitted = cli("submit", *ALL, *flags, *at)
    assert submitted.returncode == 0, submitted.stderr
    names = submitted.stdout.split()
    for name in names:
        assert cli("watch", name, *at).returncode == 0
    return names


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


def test_all_layers_make_one_model_and_its_loss_is_that_of_the_prototype(server, tmp_path):
    at = ["--server", server.address]
    names = submit_all(at, "--method", "magnitude", "--sparsity", "0.5",
                       "--label", "attnprune/model-run=half", "--label", "owner=me")
    assert len(set(names)) == LAYERS
    listed = json.loads(cli("list", "--json", "--label", "attnprune/model-run=half",
                            "--label", "owner=me", *at).stdout)["jobs"]
    assert {job["name"]: job["labels"]["attnprune/layer"] for job in listed} == {
        name: str(layer) for layer, name in enumerate(names)}

    merged = cli("merge", "--model", MODEL, "--output", tmp_path / "half",
                 "--label", "attnprune/model-run=half", *at)
    assert merged.returncode == 0, merged.stderr
    rows = [line.split() for line in merged.stdout.splitlines()[1:1 + LAYERS]]
    assert [row[:3] for row in rows] == [[str(layer), name, "magnitude"]
                                         for layer, name in enumerate(names)]
    assert all(0 < float(row[3]) < 1 for row in rows), "held-out errors"
    check_only_queries_and_keys_changed(safetensors.read(MODEL / "model.safetensors"),
                                        safetensors.read(tmp_path / "half/model.safetensors"), 0.5)
    assert (tmp_path / "half/config.json").read_bytes() == (MODEL / "config.json").read_bytes()

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


def write_shards(folder):
    """tiny-llama with the queries in one shard and all else in another, and a tokenizer."""
    tensors = safetensors.read(MODEL / "model.safetensors")
    shards = {"model-00001-of-00002.safetensors": [n for n in tensors if "q_proj" in n],
              "model-00002-of-00002.safetensors": [n for n in tensors if "q_proj" not in n]}
    folder.mkdir()
    shutil.copy(MODEL / "config.json", folder)
    (folder / "tokenizer.json").write_text("{}")
    for shard, names in shards.items():
        safetensors.write(folder / shard, {name: tensors[name] for name in names})
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_sharded_model_stays_sharded_and_run_needs_no_server(tmp_path):
    model = tmp_path / "model"
    write_shards(model)
    done = cli("run", "--model", model, "--layer", "all", *DATA, "--method", "magnitude",
               "--method", "wanda", "--output", tmp_path / "{method}", "--save-mask",
               tmp_path / "masks.safetensors", "--plot", tmp_path / "plot-{layer}.svg")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in model.iterdir()}
    for method in "magnitude", "wanda":
        assert {path.name for path in (tmp_path / method).iterdir()} == names
    for shard in model.glob("*.safetensors"):
        after = safetensors.read(tmp_path / "magnitude" / shard.name)
        check_only_queries_and_keys_changed(safetensors.read(shard), after, 0.5)
    assert set(safetensors.read(tmp_path / "masks.safetensors")) == PRUNED
    assert len(list(tmp_path.glob("plot-*.svg"))) == LAYERS


def test_submitting_the_same_run_again_makes_only_what_is_missing(server):
    at = ["--server", server.address]
    flags = ["--method", "magnitude", "--label", "attnprune/model-run=again"]
    names = submit_all(at, *flags)
    assert cli("delete", names[2], *at).returncode == 0
    again = submit_all(at, *flags)
    assert again[2] not in names
    assert again[:2] + again[3:] == names[:2] + names[3:]
    other = cli("submit", *ALL, *flags, "--sparsity", "0.7", *at)
    assert other.returncode == 4, "the same run, but not the same jobs"


def test_a_queue_that_fills_up_leaves_a_run_that_can_be_finished(server, tmp_path):
    server.kill()
    server.flags = ("--max-queued-jobs", "2")
    server.start()
    at = ["--server", server.address]
    slow = ["--method", "gd:steps=1000000"]
    refused = cli("submit", *ALL, *slow, *at, "--patience", "0s")
    assert refused.returncode == 4, refused.stderr
    created = refused.stdout.split()
    assert 2 <= len(created) < LAYERS
    label = re.search(r"--label (\S+)", refused.stderr).group(1)
    listed = json.loads(cli("list", "--json", "--label", label, *at).stdout)["jobs"]
    assert {job["name"] for job in listed} == set(created)
    server.kill()
    server.flags = ()
    server.start()
    finished = cli("submit", *ALL, *slow, "--label", label, *at)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split()[:len(created)] == created
    merged = cli("merge", "--model", MODEL, "--output", tmp_path / "out", "--label", label, *at)
    assert merged.returncode == 1 and "every job must have succeeded" in merged.stderr


def test_watching_all_layers_merges_the_best_and_gives_all_jobs_as_json(server, tmp_path):
    watched = cli("submit", *ALL, "--watch", "--json", "--method", "magnitude", "--method",
                  "sparsegpt", "--output", tmp_path / "best", "--server", server.address)
    assert watched.returncode == 0, watched.stderr
    jobs = json.loads(watched.stdout)["jobs"]
    assert [job["labels"]["attnprune/layer"] for job in jobs] == ["0", "1", "2", "3"]
    assert "layer 3 of 4" in watched.stderr
    assert "weights of sparsegpt: " in watched.stderr, "the best of every layer"
    assert (tmp_path / "best/model.safetensors").exists()


def test_merge_refuses_what_was_not_pruned_and_what_was_pruned_twice(server, tmp_path):
    at = ["--server", server.address]
    names = submit_all(at, "--method", "magnitude")
    twice = submit_all(at, "--method", "wanda")
    out = tmp_path / "out"

    def merge(*flags, model=MODEL, output=out):
        return cli("merge", "--model", model, "--output", output, *flags, *at)
    both = merge(*names, twice[3])
    assert both.returncode == 2
    assert names[3] in both.stderr and twice[3] in both.stderr and "layers.3" in both.stderr
    missing = merge(*names, "--method", "gd")
    assert missing.returncode == 1 and "magnitude" in missing.stderr

    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(MODEL / "config.json", other)
    tensors = safetensors.read(MODEL / "model.safetensors")
    name = "model.layers.2.self_attn.k_proj.weight"
    tensors[name] = (*tensors[name][:2], bytes(len(tensors[name][2])))
    safetensors.write(other / "model.safetensors", tensors)
    changed = merge(*names, model=other)
    assert changed.returncode == 2 and name in changed.stderr
    assert not out.exists(), "nothing was written"

    own = merge(*names, output=pathlib.Path(MODEL, "..", MODEL.name))
    assert own.returncode == 2 and "a file that is read" in own.stderr
    some = merge(*names[:2], twice[3])
    assert some.returncode == 0 and "no job pruned layer 2" in some.stderr


def test_merge_costs_nobody_a_model(server, tmp_path):
    at = ["--server", server.address]
    names = submit_all(at, "--method", "magnitude", "--method", "wanda")
    model = tmp_path / "par" / "wanda"
    shutil.copytree(MODEL, model)
    (model / "tokenizer.json").write_text("{}")
    before = {file.name: file.read_bytes() for file in model.iterdir()}

    def merge(*flags, source=model):
        return cli("merge", "--model", source, *names, *flags, *at)
    out = tmp_path / "out"
    refused = merge("--output", out, "--save-mask", model / "tokenizer.json")
    assert refused.returncode == 2 and "one of the model's folder" in refused.stderr
    refused = merge("--output", out, "--save-mask", out / "tokenizer.json")
    assert refused.returncode == 2 and "--save-mask must not be the file of --output" in refused.stderr
    refused = merge("--output", tmp_path / "par" / "{method}")
    assert refused.returncode == 2, "one of the folders is the model's own"
    assert [file.name for file in (tmp_path / "par").iterdir()] == ["wanda"], "nothing was written"
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before
    assert not out.exists()

    # The files of the source may not be written; a copy of them may, and again.
    (model / "tokenizer.json").chmod(0o444)
    for _ in range(2):
        assert merge("--output", out, "--save-mask", out / "masks.safetensors").returncode == 0
    assert (out / "tokenizer.json").stat().st_mode & 0o200

    # model.safetensors would be loaded in place of the shards that are written beside it.
    sharded = tmp_path / "sharded"
    write_shards(sharded)
    refused = merge("--output", out, source=sharded)
    assert refused.returncode == 2
    assert "without another model" in refused.stderr and "model.safetensors" in refused.stderr
    assert merge("--output", tmp_path / "shards", source=sharded).returncode == 0
    assert merge("--output", tmp_path / "shards").returncode == 2, "its index would stay"


def test_merge_refuses_a_product_that_the_model_has_no_tensor_of(server, tmp_path):
    at = ["--server", server.address]
    prefix = "model.layers.1.self_attn"
    name = cli("submit", "--weights", MODEL / "model.safetensors", "--fused-product",
               f"{prefix}.q_proj.weight,{prefix}.q_proj.weight", "--method", "magnitude",
               "--calibration", f"{MODEL}/calibration.safetensors:{prefix}.input",
               *at).stdout.strip()
    assert cli("watch", name, *at).returncode == 0
    refused = cli("merge", "--model", MODEL, "--output", tmp_path / "out", name, *at)
    assert refused.returncode == 2 and name in refused.stderr and "'w'" in refused.stderr
    assert not (tmp_path / "out").exists()


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
