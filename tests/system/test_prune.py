"""Whole models in one run: what is pruned, what is written, and that no end of a process loses any
of it."""
import filecmp
import json
import signal
import subprocess
import sys

import numpy
import pytest

import safetensors
from harness import BIN, LIMIT, MODEL, ROOT, cli

sys.path.insert(0, str(ROOT / "tests/quality"))
from model_loss import Model, read_tokens  # pylint: disable=wrong-import-position

TEXT = ["--text", MODEL / "calibration.txt", "--samples", "8", "--sequence-length", "128"]
RUN = ["--model", MODEL, *TEXT, "--held-out-tokens", MODEL / "held_out.safetensors"]


def done(*arguments, **options):
    result = cli(*arguments, **options)
    assert result.returncode == 0, result.stderr
    return result


def is_linear_map(name):
    return name.endswith("_proj.weight")


def weights(folder):
    return safetensors.read(folder / "model.safetensors")


def report(folder):
    return json.loads((folder / "report.json").read_text())


def check_same_files(one, other, but=()):
    names = {path.name for path in one.iterdir()}
    assert names == {path.name for path in other.iterdir()}
    compared = sorted(names - set(but))
    assert filecmp.cmpfiles(one, other, compared, shallow=False) == (compared, [], [])


REPORTS = ("report.json", "report.md")  # they name the run and its times


def test_every_linear_map_is_pruned_and_the_report_has_the_losses_of_the_loss_script(tmp_path):
    out = tmp_path / "pruned"
    done("prune", *RUN, "--sparsity", "0.5", "--method", "magnitude", "--output", out,
         "--save-mask", tmp_path / "masks.safetensors")
    before, after = weights(MODEL), weights(out)
    masks = safetensors.read(tmp_path / "masks.safetensors")
    assert set(before) == set(after)
    assert set(masks) == {name for name in before if is_linear_map(name)}
    for name, tensor in before.items():
        if not is_linear_map(name):
            assert after[name] == tensor, f"{name} is byte for byte what it was"
            continue
        old, new, kept = (safetensors.array(x) for x in (tensor, after[name], masks[name]))
        assert (new == numpy.where(kept, old, 0)).all(), "magnitude moves no weight"
        assert numpy.count_nonzero(kept) == pytest.approx(old.size / 2, abs=1), name
    assert (out / "config.json").read_bytes() == (MODEL / "config.json").read_bytes()

    tokens = read_tokens(str(MODEL / "held_out.safetensors"))
    loss = report(out)["model"]["loss"]
    for name, folder in (("dense", MODEL), ("pruned", out)):
        assert loss[name]["natsPerToken"] == pytest.approx(Model(folder).losses(tokens).mean(),
                                                           abs=1e-4)
    assert "not smaller or faster by itself" in (out / "report.md").read_text()


def test_rules_and_skips_say_what_becomes_of_each_map(tmp_path):
    out = tmp_path / "pruned"
    done("prune", *RUN, "--sparsity", "2:4", "--skip", "*.layers.0.*", "--rule", "down=wanda@0.3",
         "--rule", "q=@0.7", "--output", out)
    got = {tensor["name"]: (tensor["method"], tensor["asked"]) for tensor in report(out)["tensors"]}
    assert {name.split(".")[2] for name in got} == {"1", "2", "3"}
    assert got["model.layers.1.mlp.down_proj.weight"] == ("wanda", "0.3")
    assert got["model.layers.1.self_attn.q_proj.weight"] == ("alps", "0.7")
    assert got["model.layers.3.mlp.gate_proj.weight"] == ("alps", "2:4")


def test_a_time_chooses_the_recipe_that_fits_it(tmp_path):
    def chosen(time):
        told = done("prune", *RUN, "--sparsity", "0.7", "--time", time, "--quiet", "--overwrite",
                    "--sampled-rows", 0, "--reconstruct", "off", "--distill", "off",
                    "--output", tmp_path / "out")
        return report(tmp_path / "out")["provenance"], told.stderr

    best, told = chosen("1h")
    assert (best["curvature"], best["allocation"]) == ("on:labels=32768", "loss")
    assert "--time 1h: --recipe best, about " in told
    least, told = chosen("1ns")
    assert "curvature" not in least and least["method"] == "alps"
    assert "--recipe linear, about " in told and "no recipe takes less" in told


def test_what_is_kept_is_trained_to_predict_what_the_dense_model_does(tmp_path):
    out = tmp_path / "out"
    done("prune", *RUN, "--sparsity", "0.5", "--method", "wanda", "--reconstruct", "on:steps=4",
         "--distill", "on:steps=6", "--output", out)
    blocks = report(out)["reconstructed"]
    assert [(block["block"], block["steps"]) for block in blocks] == [(i, 4) for i in range(4)]
    assert all(block["bestLoss"] < block["startLoss"] for block in blocks)
    assert (out / "report.md").read_text().count("reconstructed") == 4
    model = report(out)["model"]
    assert (model["distilled"]["steps"], model["distilled"]["bestStep"]) == (6, 6)
    assert model["distilled"]["bestLoss"] < 0.9 * model["distilled"]["startLoss"]
    tokens = read_tokens(str(MODEL / "held_out.safetensors"))
    assert model["loss"]["pruned"]["natsPerToken"] == pytest.approx(
        Model(out).losses(tokens).mean(), abs=1e-4), "the folder has the trained weights"


def test_a_bitmask_folder_is_smaller_and_unpacks_to_the_dense_one_bit_for_bit(server, tmp_path):
    at = ["--server", server.address]
    name = done("submit", "--run", *RUN, "--method", "wanda", *at).stdout.strip()
    done("watch", name, "--quiet", *at)
    done("fetch", name, "--output", tmp_path / "dense", *at)
    done("fetch", name, "--output", tmp_path / "packed", "--format", "bitmask", *at)
    done("unpack", tmp_path / "packed", "--output", tmp_path / "unpacked")
    check_same_files(tmp_path / "dense", tmp_path / "unpacked")
    dense, packed = ((tmp_path / folder / "model.safetensors").stat().st_size
                     for folder in ("dense", "packed"))
    assert packed < 0.65 * dense


def test_compare_makes_a_model_for_each_method_and_a_table_of_their_losses(tmp_path):
    out = tmp_path / "out"
    told = done("prune", *RUN, "--sparsity", "0.7", "--method", "magnitude", "--method",
                "sparsegpt", "--compare", "--quiet", "--output", out).stdout
    rows = [line.split() for line in told.splitlines()]
    losses = {row[0]: float(row[2]) for row in rows
              if len(row) == 7 and row[0] in ("dense", "magnitude", "sparsegpt")}
    assert losses["dense"] < losses["sparsegpt"] < losses["magnitude"]
    for method in ("magnitude", "sparsegpt"):
        assert report(out / method)["model"]["loss"]["pruned"]["natsPerToken"] == pytest.approx(
            losses[method], abs=1e-4)


def test_interrupted_the_same_command_goes_on_and_gives_the_same_model(tmp_path):
    flags = ["prune", *RUN, "--method", "alps", "--output"]
    done(*flags, tmp_path / "whole")
    again = [*flags, tmp_path / "again", "--data-dir", tmp_path / "data"]
    with subprocess.Popen([BIN / "attnprune", *map(str, again)], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        for line in process.stdout:
            if line.startswith("block 1 "):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, err
    assert "the same command again" in err
    assert not (tmp_path / "again").exists()
    assert "goes on with runs/r-" in done(*again).stderr
    check_same_files(tmp_path / "whole", tmp_path / "again", but=REPORTS)
    assert report(tmp_path / "again")["provenance"]["attempts"] >= 2


@pytest.mark.parametrize("how", [["--method", "alps"],
                                 ["--method", "alps:steps=10", "--attention-method", "kfac:rounds=1,steps=10",
                                  "--sparsity", "0.5", "--allocation", "owl"],
                                 ["--recipe", "fast", "--allocation", "loss"],
                                 ["--method", "alps", "--order", "independent"]],
                         ids=["alps", "kfac and owl", "fast by loss", "independent"])
def test_a_server_that_is_killed_ends_no_run_and_a_watch_goes_on(server, tmp_path, how):
    at = ["--server", server.address]
    flags = [*RUN, *how]
    done("prune", *flags, "--output", tmp_path / "whole")
    name = done("submit", "--run", *flags, *at).stdout.strip()
    with subprocess.Popen([BIN / "attnprune", "watch", name, *at], text=True,
                          stdout=subprocess.PIPE) as watch:
        lines = []
        for line in watch.stdout:
            lines.append(line)
            if line.startswith("block 1 ") and server.starts == 1:
                server.kill()
                server.start()
    assert watch.returncode == 0
    tensors = [line.split()[1] for line in lines if " error " in line and "held out" in line]
    assert len(tensors) == 4 * 7, "each tensor's result once"
    done("fetch", name, "--output", tmp_path / "fetched", *at)
    check_same_files(tmp_path / "whole", tmp_path / "fetched", but=REPORTS)


def test_a_cancelled_run_is_resumed_behind_its_last_result(server, tmp_path):
    at = ["--server", server.address]
    flags = [*RUN, "--method", "alps"]
    name = done("submit", "--run", *flags, "--label", "who=me", *at).stdout.strip()
    with subprocess.Popen([BIN / "attnprune", "watch", name, *at], text=True,
                          stdout=subprocess.PIPE) as watch:
        for line in watch.stdout:
            if line.startswith("block 0 "):
                done("cancel", name, *at)
                break
        watch.stdout.read()
    assert watch.returncode == 1
    listed = json.loads(done("list", "--runs", "--label", "who=me", "--json", *at).stdout)["runs"]
    assert [(run["name"], run["state"]) for run in listed] == [(name, "CANCELLED")]
    assert 0 < listed[0]["resultsDone"] < listed[0]["resultsTotal"]
    assert cli("fetch", name, "--output", tmp_path / "out", *at).returncode == 1
    resumed = done("resume", name.removeprefix("runs/"), *at).stdout
    told = [line for line in resumed.splitlines() if line.startswith("block 0  q ")]
    assert len(told) == 1, "what is done is never done again"
    done("fetch", name, "--output", tmp_path / "out", *at)
    done("delete", name, *at)
    assert cli("get", name, *at).returncode == 4


def test_a_folder_that_cannot_be_made_is_refused_before_the_run_starts(tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file/x", "/proc/x/y"):  # root too, who may write anywhere
        refused = cli("prune", *RUN, "--sparsity", "0.5", "--method", "magnitude", "--output", output)
        assert refused.returncode == 2, refused.stderr
        assert "--output must lie in a folder that can be written" in refused.stderr
        assert "pruning" not in refused.stderr and "runs/" not in refused.stderr
