"""Inputs after public bug reports, each made from data/tiny-llama: what the programs say of them.

A whole model is pruned on its own hidden states, so no data of one layer can be given to all (04)."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess

import numpy
import pytest

import safetensors
from harness import BIN, LIMIT, MODEL, Server, cli, wait_for

INPUT = "model.layers.1.self_attn.input"
DATA = MODEL / "calibration.safetensors"
QUICK = ("--sparsity", "0.7", "--method", "wanda", "--quiet")


def f32(values):
    return ("F32", list(values.shape), numpy.ascontiguousarray(values, "<f4").tobytes())


def floats(tensor):
    dtype, shape, data = tensor
    if dtype == "BF16":
        bits = numpy.frombuffer(data, "<u2").astype("<u4") << 16
        return bits.view("<f4").reshape(shape)
    return safetensors.array(tensor).astype("<f4")


def tokens(layer=1):
    return floats(safetensors.read(DATA)[f"model.layers.{layer}.self_attn.input"])


@pytest.fixture(name="model")
def model_(tmp_path):
    """Makes a copy of tiny-llama with keys of its config changed and its tensors edited."""
    def make(config=None, edit=None):
        folder = tmp_path / "model"
        folder.mkdir()
        settings = {**json.loads((MODEL / "config.json").read_text()), **(config or {})}
        (folder / "config.json").write_text(json.dumps(settings))
        tensors = safetensors.read(MODEL / "model.safetensors")
        if edit:
            edit(tensors)
        safetensors.write(folder / "model.safetensors", tensors)
        return folder
    return make


def run(*flags, model=MODEL, layer=1, data=DATA):
    return cli("run", "--model", model, "--layer", layer, "--calibration", data, *QUICK, *flags)


def refused(ended, code, *phrases):
    assert ended.returncode == code, ended
    for phrase in phrases:
        assert phrase in ended.stderr, ended.stderr


def done(ended, *phrases):
    assert ended.returncode == 0, ended
    for phrase in phrases:
        assert phrase in ended.stderr, ended.stderr
    return ended


def figures(ended):
    """The only row of the table: held out, mask only, calibration, linear."""
    row = next(line for line in ended.stdout.splitlines() if line.startswith("wanda   "))
    return row.split()[1:5]


def test_01_calibration_of_zeros_says_nothing(tmp_path):
    zeros = tokens()
    zeros = numpy.concatenate([zeros[:1], 0 * zeros[1:2]])
    safetensors.write(tmp_path / "x.safetensors", {INPUT: f32(zeros)})
    refused(run(data=tmp_path / "x.safetensors"), 1,
            "job.calibration[0] must have rows that differ, got", "rows of zeros at batch 1")
    refused(run("--held-out", tmp_path / "x.safetensors"), 1, "job.held_out[0] must have rows")


def test_02_sequences_of_one_token_are_refused(tmp_path):
    flat = tokens().reshape(-1, 1, 128)
    safetensors.write(tmp_path / "x.safetensors", {INPUT: f32(flat)})
    ended = run(data=tmp_path / "x.safetensors")
    refused(ended, 4, "job.calibration must have a sequence of at least 2 tokens, since attention over "
            "one key is constant, got", "x 1 x 128")


def test_03_padding_is_left_out_by_its_mask_and_noted_without_one(tmp_path):
    padded = tokens()
    mask = numpy.ones(padded.shape[:2], "<i8")
    for row in range(0, len(padded), 2):
        padded[row, 64:], mask[row, 64:] = padded[row, 63], 0
    whole, masked = tmp_path / "w.safetensors", tmp_path / "m.safetensors"
    safetensors.write(whole, {INPUT: f32(padded)})
    safetensors.write(masked, {INPUT: f32(padded),
                               "attention_mask": ("I64", list(mask.shape), mask.tobytes())})
    plain = done(run(data=whole), "sequences end in equal tokens: padding?")
    assert figures(done(run(data=masked))) != figures(plain)


def test_04_a_file_of_another_layer_is_refused(tmp_path):
    name = "model.layers.0.self_attn.input"
    safetensors.write(tmp_path / "x.safetensors", {name: f32(tokens(0))})
    refused(run(data=tmp_path / "x.safetensors"), 2, "must be of layer 1", name)


def test_05_and_06_tensors_named_by_hand_are_checked(model):
    prefix = "model.layers.1.self_attn."

    def edit(tensors):
        for part in "qk":
            weight = numpy.linspace(0.5, 3, 16, dtype="<f4")
            tensors[f"{prefix}{part}_norm.weight"] = f32(weight)
    file = model(edit=edit) / "model.safetensors"
    flags = ("run", "--weights", file, "--calibration", f"{DATA}:{INPUT}", "--heads", "8", *QUICK)
    q, k = f"{prefix}q_proj.weight", f"{prefix}k_proj.weight"
    refused(cli(*flags, "--q", q, "--k", q), 2, "--k", q)
    refused(cli(*flags, "--q", q, "--k", k), 2, "k_norm.weight", "--no-qk-norm")


def test_05_a_fused_tensor_is_not_q_and_k(model):
    prefix = "model.layers.1.self_attn."
    fused = f"{prefix}qkv_proj.weight"

    def edit(tensors):
        rows = [floats(tensors.pop(f"{prefix}{part}_proj.weight")) for part in "qkv"]
        tensors[fused] = f32(numpy.concatenate(rows))
    file = model(edit=edit) / "model.safetensors"
    flags = ("run", "--weights", file, "--calibration", f"{DATA}:{INPUT}", "--heads", "8", *QUICK)
    refused(cli(*flags, "--q", fused, "--k", fused), 2, "--k", fused)


def test_07_all_that_is_not_weights_travels(model, tmp_path):
    folder = model()
    files = ("modeling_x.py", "LICENSE", "x.tiktoken", "merges.txt", "README.md",
             "additional_chat_templates/tools.jinja", "1_Pooling/config.json")
    for name in (*files, ".git/HEAD", "pytorch_model.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    done(run("--output", tmp_path / "out", model=folder),
         f"note: not copied to {tmp_path}/out, as other weights: pytorch_model.bin")
    assert [(tmp_path / "out" / name).read_text() for name in files] == list(files)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json", "model.safetensors", "additional_chat_templates", "1_Pooling", *files[:5]}


def test_08_and_17_config_keys_mean_what_they_say(model):
    causal = figures(done(run()))
    folder = model({"rope_scaling": {"type": "linear", "factor": 1.0}, "use_sliding_window": True,
                    "max_window_layers": 4})
    assert figures(done(run(model=folder))) == causal, "these keys change nothing"
    shutil.rmtree(folder)
    full = figures(done(run(model=model({"is_causal": False}))))
    assert full != causal and full == figures(done(run("--attention", "full")))


def test_09_a_dtype_that_is_only_copied(model, tmp_path):
    scales = ("F8_E8M0", [16], bytes(range(16)))
    packed = ("F4", [3, 2], b"abc")
    folder = model(edit=lambda t: t.update({"scales": scales, "packed": packed}))
    done(run("--output", tmp_path / "out", model=folder))
    copied = safetensors.read(tmp_path / "out/model.safetensors")
    assert (copied["scales"], copied["packed"]) == (scales, packed)
    ended = cli("run", "--weights", folder / "model.safetensors", "--fused", "packed",
                "--calibration", f"{DATA}:{INPUT}", *QUICK)
    refused(ended, 2, "tensor 'packed' must be F64, F32, F16 or BF16, got F4")


def test_10_good_layers_are_kept_where_one_fails(model, tmp_path):
    key = "model.layers.3.self_attn.q_proj.weight"

    def spoil(tensors):
        values = floats(tensors[key]).copy()
        values[0, 0] = numpy.nan
        tensors[key] = f32(values)
    folder = model(edit=spoil)
    rest = [part for role in ("v", "o", "gate", "up", "down") for part in ("--skip", role)]
    prune = ("prune", "--model", folder, "--tokens", f"{DATA}:tokens", "--attention-method",
             "wanda", "--order", "independent", "--output", tmp_path / "out", *rest)
    ended = cli(*prune, "--data-dir", tmp_path / "data")
    refused(ended, 1, f"failed: block 3: {key}: weights.w_q must be finite", "attnprune resume",
            f"note: the results are kept; start\n  attnprune-server --data-dir {tmp_path}/data")
    assert not (tmp_path / "out").exists()
    name = re.search(r"(runs/\S+) failed", ended.stderr).group(1)
    with Server(tmp_path / "data") as server:
        at = ("--server", server.address)
        shown = done(cli("get", name, *at)).stdout
        table = shown[shown.index("\nblock "):].splitlines()[2:5]
        assert [row.split()[0] for row in table] == ["0", "1", "2"]
        resumed = cli("resume", name, *at)
        refused(resumed, 1, "block 3: ")
        assert "running, attempt 2\n" in resumed.stdout
        for block in range(3):
            told = [line for line in resumed.stdout.splitlines()
                    if line.startswith(f"block {block}  q ")]
            assert len(told) == 1, "what is done is never done again"

    done(cli(*prune, "--skip", "*.layers.3.*"))
    before, after = (safetensors.read(path / "model.safetensors") for path in
                     (folder, tmp_path / "out"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"model.layers.{layer}.self_attn.{part}_proj.weight"
                       for layer in (0, 1, 2) for part in "qk"}


def test_10_results_outlive_an_output_that_cannot_be_written(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    command = ["run", "--model", MODEL, "--layer", "1", "--calibration", DATA, "--method", "gd:steps=200",
               "--output", disk / "out"]
    try:
        with subprocess.Popen([BIN / "attnprune", *command], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE,
                              env={**os.environ, "TMPDIR": str(tmp_path)}) as run:
            wait_for(lambda: run.stdout.readline().startswith("gd"), "it has begun")
            with contextlib.suppress(OSError), open(disk / "another's", "wb", 0) as filler:
                while filler.write(bytes(1 << 16)):
                    pass
            _, said = run.communicate(timeout=LIMIT)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert run.returncode == 1, said
    assert "No space left" in said and "note: the results are kept; start\n  attnprune-server" in said
    kept = said.split("--data-dir ")[1].split("\n")[0]
    with Server(kept) as server:
        job = cli("list", "--server", server.address, "--json")
        name = json.loads(job.stdout)["jobs"][0]["name"]
        done(cli("fetch", name, "--server", server.address, "--output", tmp_path / "out"))
    assert (tmp_path / "out/model.safetensors").exists()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1489040\n"
PAGE = "<!doctype html><html><title>Sign in</title></html>\n"


@pytest.mark.parametrize("file", ("model.safetensors", "config.json", "x.npy", "x.safetensors"))
def test_11_and_12_what_stands_in_a_files_place_is_named(model, tmp_path, file):
    folder = model()
    data = tmp_path / file if file.startswith("x") else DATA
    path = data if file.startswith("x") else folder / file
    for text, said in ((POINTER, "Git LFS pointer"), (PAGE, "HTML page")):
        path.write_text(text)
        refused(run(model=folder, data=data), 2, str(path), said)


def test_11_a_folder_of_other_weights_says_how_to_convert_them(model):
    folder = model()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(run(model=folder), 2, "pytorch_model.bin", "safe_serialization=True")


def test_13_and_14_and_16_config_files_are_read(model):
    folder = model({"quantization_config": {}, "max_position_embeddings": 131072, "rope_scaling": {
        "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"}})
    file = folder / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert figures(done(run(model=folder))) != figures(done(run())), "llama3 turns otherwise"


def test_15_two_shards_and_an_absent_one(model, tmp_path):
    folder = model()
    tensors = safetensors.read(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shard = {name: "b" if ".3." in name else "q" if "q_proj" in name else "a" for name in tensors}
    for part in "abq":
        safetensors.write(folder / f"{part}.safetensors",
                          {name: t for name, t in tensors.items() if shard[name] == part})
    (folder / "model.safetensors.index.json").write_text(json.dumps(
        {"weight_map": {name: f"{part}.safetensors" for name, part in shard.items()}}))
    (folder / "b.safetensors").unlink()
    out = tmp_path / "x.safetensors"
    done(run("--output", out, model=folder), "the pruned tensors only, as they come from 2 files")
    assert out.is_file() and set(safetensors.read(out)) == {
        f"model.layers.1.self_attn.{part}_proj.weight" for part in "qk"}
    refused(run(model=folder, layer=3), 2, "shard 'b.safetensors'", "No such file")
    refused(run("--output", tmp_path / "out", model=folder), 2, "b.safetensors", "--output")


def test_what_else_is_told_of_flags(tmp_path):
    done(run("--held-out", DATA), "note: --held-out:", "has the very bytes of", "--calibration")
    ended = cli("run", "--model", "nobody/nothing", "--layer", 0, "--calibration", DATA,
                "--method", "gd:stepz=3", "--data-dir", tmp_path / "data")
    refused(ended, 2, "--method gd:stepz=3", 'no parameter "stepz"')
    assert not (tmp_path / "data").exists()
    ended = done(run("--method", "gd:steps=3", "--method", "gd:steps=4,lambda=0.5"))
    assert "gd: steps=3\ngd#2: lambda=0.5, steps=4\n" in ended.stdout
    assert "loss" not in ended.stdout, "no progress with --quiet"
    assert "1:4 removes one of every four" in " ".join(cli("run", "--help").stdout.split())


def test_another_methods_result_is_replaced_only_where_that_is_asked_for(tmp_path):
    output = tmp_path / "pruned.safetensors"
    done(run("--output", output))
    done(run("--output", output))  # its own
    first = output.read_bytes()
    magnitude = ("run", "--model", MODEL, "--layer", 1, "--calibration", DATA, "--sparsity", "0.7",
                 "--quiet", "--method", "magnitude", "--output", output)
    refused(cli(*magnitude), 2, "pruned.safetensors", "result of wanda", "--overwrite")
    assert output.read_bytes() == first
    done(cli(*magnitude, "--overwrite"))
    assert output.read_bytes() != first


def test_the_same_command_goes_on_with_what_it_has_left_in_its_folder(tmp_path):
    command = [BIN / "attnprune", "run", "--model", MODEL, "--layer", "1", "--calibration", DATA,
               "--data-dir", tmp_path / "data",
               "--method", "gd:steps=100000,loss_tolerance=0,gradient_tolerance=0"]
    said = []
    for _ in range(2):
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        wait_for(lambda p=running: p.stdout.readline().startswith("gd"), "the run shows progress")
        running.send_signal(signal.SIGINT)
        said.append(running.communicate(timeout=LIMIT)[1])
        assert running.returncode == 130, said
    first, second = (re.search(r"interrupted; (jobs/\S+) goes on", text).group(1) for text in said)
    assert first == second and f"note: goes on with {first}" in said[1]
    with Server(tmp_path / "data") as server:
        jobs = cli("list", "--json", "--server", server.address).stdout
        assert jobs.count('"name": "jobs/') == 1


def test_info_without_a_server_is_that_of_run():
    shown = cli("info", env={k: v for k, v in os.environ.items() if k != "ATTNPRUNE_SERVER"})
    if "no server at" in shown.stderr:  # else somebody's listens on the default port
        assert "is the one of `run`" in shown.stderr
        assert "no limit on a tensor" in shown.stdout
        refused(cli("info", "--server", "127.0.0.1:50051", "--patience", "0s"), 3, "50051")
    assert shown.returncode == 0 and "sparsegpt" in shown.stdout
    refused(cli("info", "--server", "127.0.0.1:1", "--patience", "0s"), 3, "127.0.0.1:1")
