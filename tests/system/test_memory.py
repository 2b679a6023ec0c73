"""A job's memory: predicted before it runs, kept within --memory-budget, no result depending on it."""
import json
import re

import numpy
import pytest

import safetensors
from harness import Server, cli

GD = "gd:steps=5"


def layer(folder, d, heads, kv_heads, tokens, batches):
    """Job flags of a projection layer with random weights and data."""
    rng = numpy.random.default_rng(1)
    draw = lambda shape, deviation: ("F32", list(shape),
                                     rng.normal(0, deviation, shape).astype("<f4").tobytes())
    dim = d // heads
    safetensors.write(folder / "w.safetensors", {
        "q": draw((heads * dim, d), d**-0.5), "k": draw((kv_heads * dim, d), d**-0.5)})
    safetensors.write(folder / "x.safetensors", {"x": draw((batches, tokens, d), 1)})
    return ["--weights", folder / "w.safetensors", "--q", "q", "--k", "k", "--heads", heads,
            "--kv-heads", kv_heads, "--rope-theta", "10000",
            "--calibration", folder / "x.safetensors:x"]


@pytest.fixture(scope="module", name="job")
def fixture_job(tmp_path_factory):
    # 16 heads, 8 batches of 1,024 tokens: some 290 MB of dense attention, 250 MB without it.
    return layer(tmp_path_factory.mktemp("layer"), 1024, 16, 4, 1024, 8)


def run_measured(folder, job, budget):
    """(the job, its estimate, bytes that it took) on a server of its own."""
    with Server(folder, "--memory-budget", budget) as server:
        at = ["--server", server.address]
        estimate = json.loads(cli("submit", *job, "--method", GD, "--validate-only", "--json",
                                  *at).stdout)["estimate"]
        before = server.memory_bytes()
        done = cli("submit", *job, "--method", GD, "--watch", "--json", *at)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), estimate, server.memory_bytes("VmHWM") - before


def test_a_job_takes_the_memory_predicted_for_it_and_less_where_attention_is_rebuilt(tmp_path, job):
    kept, keeping, taken = run_measured(tmp_path / "kept", job, "8GiB")
    assert keeping["memoryBytes"] == keeping["memoryKeepingAttentionBytes"]
    assert 0.8 * int(keeping["memoryBytes"]) < taken < 1.2 * int(keeping["memoryBytes"])

    rebuilt, rebuilding, less = run_measured(tmp_path / "rebuilt", job, "400MiB")
    assert rebuilding["memoryKeepingAttentionBytes"] == keeping["memoryBytes"]
    assert 0.8 * int(rebuilding["memoryBytes"]) < less < 1.2 * int(rebuilding["memoryBytes"])
    assert less < 0.7 * taken

    # Same bits: what the results are stored under is the digest of their bytes.
    assert [m["mask"]["sha256"] for m in kept["results"][0]["matrices"]] == [
        m["mask"]["sha256"] for m in rebuilt["results"][0]["matrices"]]
    assert kept["results"][0]["relativeError"] == rebuilt["results"][0]["relativeError"]


def test_a_job_that_cannot_fit_is_refused_with_the_number(tmp_path, job):
    with Server(tmp_path / "data", "--memory-budget", "32MiB") as server:
        refused = cli("submit", *job, "--method", GD, "--server", server.address)
    assert refused.returncode == 4
    assert re.search(r"must need at most 33554432 bytes of memory.*estimated to need \d+",
                     refused.stderr), refused.stderr


def test_run_takes_a_budget_too(job):
    refused = cli("run", *job, "--method", GD, "--memory-budget", "32MiB")
    assert refused.returncode == 4 and "33554432" in refused.stderr, refused.stderr
    for budget in ("lots", "-1", "99999999999GiB"):
        wrong = cli("run", *job, "--method", GD, "--memory-budget", budget)
        assert wrong.returncode == 2 and "--memory-budget" in wrong.stderr, wrong.stderr
