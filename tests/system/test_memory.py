"""A job's memory: predicted before it runs, kept within --memory-budget, no result depending on it."""
import json
import re
import threading

import numpy
import pytest

import safetensors
from attnprune.v1 import job_pb2 as job_api
from harness import Client, Server, cli

GD = "gd:steps=2"


def gaussian(rng, shape, deviation):
    return "F32", list(shape), rng.normal(0, deviation, shape).astype("<f4").tobytes()


def layer(folder, d, heads, kv_heads, tokens, batches, dim=None):
    """Job flags of a projection layer with random weights and data; heads of d / heads features."""
    rng = numpy.random.default_rng(1)
    dim = dim or d // heads
    safetensors.write(folder / "w.safetensors", {
        "q": gaussian(rng, (heads * dim, d), d**-0.5), "k": gaussian(rng, (kv_heads * dim, d), d**-0.5),
        "norms.q": gaussian(rng, (dim,), 1), "norms.k": gaussian(rng, (dim,), 1)})
    safetensors.write(folder / "x.safetensors", {"x": gaussian(rng, (batches, tokens, d), 1)})
    return ["--weights", folder / "w.safetensors", "--q", "q", "--k", "k", "--heads", heads,
            "--kv-heads", kv_heads, "--rope-theta", "10000",
            "--calibration", folder / "x.safetensors:x"]


@pytest.fixture(scope="module", name="job")
def fixture_job(tmp_path_factory):
    # 16 heads, 4 batches of 1,024 tokens: some 270 MB, of which 120 are dense attention.
    return layer(tmp_path_factory.mktemp("layer"), 1024, 16, 4, 1024, 4)


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

    rebuilt, rebuilding, less = run_measured(tmp_path / "rebuilt", job, "230MiB")
    assert rebuilding["memoryKeepingAttentionBytes"] == keeping["memoryBytes"]
    assert 0.8 * int(rebuilding["memoryBytes"]) < less < 1.2 * int(rebuilding["memoryBytes"])
    assert less < 0.7 * taken

    # Same bits: what the results are stored under is the digest of their bytes.
    assert [m["mask"]["sha256"] for m in kept["results"][0]["matrices"]] == [
        m["mask"]["sha256"] for m in rebuilt["results"][0]["matrices"]]
    assert kept["results"][0]["relativeError"] == rebuilt["results"][0]["relativeError"]


def test_a_layer_with_norms_takes_the_memory_predicted_for_it(tmp_path, job):
    options = ["--q-norm", "norms.q", "--k-norm", "norms.k", "--clip-qkv", 3, "--softcap", 30]
    with Server(tmp_path / "plain", "--memory-budget", "8GiB") as server:
        plain = json.loads(cli("submit", *job, "--method", GD, "--validate-only", "--json",
                               "--server", server.address).stdout)["estimate"]
    _, estimate, taken = run_measured(tmp_path / "norms", [*job, *options], "8GiB")
    assert int(estimate["memoryBytes"]) > int(plain["memoryBytes"])
    assert 0.8 * int(estimate["memoryBytes"]) < taken < 1.2 * int(estimate["memoryBytes"])


class LargestAnonymous:
    """The most memory that was a server's own, not a file's, while it was looked at."""

    def __init__(self, server):
        self.server, self.most, self.over = server, 0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(0.01):
            self.most = max(self.most, self.server.memory_bytes("RssAnon"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_tokens_that_do_not_fit_stay_in_a_file_and_the_result_is_the_same(tmp_path):
    # 128 batches of 128 tokens: 67 MB of tokens, where little else is large.
    job = layer(tmp_path, 1024, 2, 1, 128, 128, dim=64) + ["--held-out-fraction", "0.25"]
    peaks, results = [], []
    for budget in ("8GiB", "100MiB"):
        with Server(tmp_path / budget, "--memory-budget", budget) as server:
            at = ["--server", server.address]
            submit = ["submit", *job, "--method", "gd:steps=2", "--method", "ste:steps=4", "--json", *at]
            estimate = json.loads(cli(*submit, "--validate-only").stdout)["estimate"]
            before = server.memory_bytes("RssAnon")
            with LargestAnonymous(server) as largest:
                done = cli(*submit, "--watch")
            assert done.returncode == 0, done.stderr
            peaks.append(largest.most - before)
            results.append(json.loads(done.stdout)["results"])
            folder = tmp_path / budget
            left = {entry.name for entry in folder.iterdir() if entry.is_file()}
            assert left <= {"lock", "jobs.reserve", "jobs.sqlite3", "jobs.sqlite3-wal", "jobs.sqlite3-shm", "jobs.watermark"}, left
            assert not list((folder / "uploads").iterdir())
    assert int(estimate["memoryRebuildingAttentionBytes"]) > 100 << 20 > int(estimate["memoryBytes"])
    assert peaks[1] < 1.2 * int(estimate["memoryBytes"]), (peaks, estimate)
    assert peaks[1] < 0.7 * peaks[0], peaks
    for kept, streamed in zip(*results):
        assert [m["mask"]["sha256"] for m in kept["matrices"]] == [
            m["mask"]["sha256"] for m in streamed["matrices"]]
        assert kept["calibration"] == streamed["calibration"]
        assert kept["heldOut"] == streamed["heldOut"]


@pytest.mark.parametrize("budget", ["8GiB", "230MiB"])
def test_a_search_over_many_parts_takes_no_more_than_one_over_all_batches(tmp_path, budget):
    """ste learns from 4 of 128 batches at a time: 24 parts, which share what they work in."""
    job = layer(tmp_path, 64, 16, 16, 128, 128, dim=64)
    with Server(tmp_path / "data", "--memory-budget", budget) as server:
        submit = ["submit", *job, "--method", "ste:steps=2", "--json", "--server", server.address]
        estimate = json.loads(cli(*submit, "--validate-only").stdout)["estimate"]
        before = server.memory_bytes("RssAnon")
        with LargestAnonymous(server) as largest:
            done = cli(*submit, "--watch")
        assert done.returncode == 0, done.stderr
    assert largest.most - before < 1.2 * int(estimate["memoryBytes"]), (largest.most - before, estimate)


def measured(folder, job, *flags):
    """(bytes that the job took, its estimate) on a server of its own."""
    with Server(folder, *flags) as server:
        submit = ["submit", *job, "--json", "--server", server.address]
        estimate = int(json.loads(cli(*submit, "--validate-only").stdout)["estimate"]["memoryBytes"])
        before = server.memory_bytes()
        done = cli(*submit, "--watch")
        assert done.returncode == 0, done.stderr
        return server.memory_bytes("VmHWM") - before, estimate


@pytest.mark.parametrize("method", ["alps:steps=8", "gd:steps=8", "ste:steps=8", "joint:long=1,steps=8",
                                    "wanda+refit:refit_steps=8"])
def test_a_solver_s_own_memory_is_predicted(tmp_path, method):
    """Where W is large and the data small, with a checkpoint every 200 ms."""
    job = [*large_w(tmp_path), "--method", method]
    taken, estimate = measured(tmp_path / "data", job, "--checkpoint-interval", "200ms")
    assert 0.8 * estimate < taken < 1.2 * estimate, (taken / 1e6, estimate / 1e6)


@pytest.mark.parametrize("method", ["kfac:rounds=1,steps=8", "kfac:rounds=0,steps=8", "joint:steps=8,rounds=1"])
def test_the_memory_of_a_method_with_curvature_is_predicted(tmp_path, method):
    job = [*layer(tmp_path, 768, 2, 1, 128, 4, dim=192), "--method", method]
    taken, estimate = measured(tmp_path / "data", job, "--checkpoint-interval", "200ms")
    assert 0.8 * estimate < taken < 1.2 * estimate, (taken / 1e6, estimate / 1e6)


def large_w(folder, d=1536):
    rng = numpy.random.default_rng(1)
    safetensors.write(folder / "w.safetensors", {"w": gaussian(rng, (d, d), 1 / d)})
    safetensors.write(folder / "x.safetensors", {"x": gaussian(rng, (4, 32, d), 1)})
    return ["--weights", folder / "w.safetensors", "--fused", "w", "--calibration",
            folder / "x.safetensors:x"]


def test_second_moments_of_earlier_judgements_are_predicted(tmp_path):
    held_out = ["--held-out", tmp_path / "x.safetensors:x"]
    job = [*large_w(tmp_path), *held_out, "--method", "wanda", "--method", "joint:long=1,steps=8"]
    taken, estimate = measured(tmp_path / "data", job, "--checkpoint-interval", "200ms")
    assert 0.8 * estimate < taken < 1.2 * estimate, (taken / 1e6, estimate / 1e6)


@pytest.mark.parametrize("budget", ["8GiB", "200MiB"])
def test_second_moments_of_narrow_projections_are_predicted(tmp_path, budget):
    # 2 x 100 MB where they are kept, else one; all weights take 2 MB.
    job = layer(tmp_path, 3584, 1, 1, 16, 2, dim=64)
    job += ["--held-out", tmp_path / "x.safetensors:x", "--method", "gd:steps=3"]
    taken, estimate = measured(tmp_path / "data", job, "--memory-budget", budget)
    assert 0.8 * estimate < taken < 1.2 * estimate, (taken / 1e6, estimate / 1e6)


@pytest.mark.parametrize("method", ["joint:long=1,steps=60", "gd+refit:steps=30,refit_steps=60"])
def test_a_job_that_goes_on_from_a_checkpoint_takes_no_more(tmp_path, method):
    with Server(tmp_path / "data", "--checkpoint-interval", "100ms") as server:
        idle = server.memory_bytes()
        job = ["submit", *large_w(tmp_path), "--method", method, "--json", "--server", server.address]
        estimate = int(json.loads(cli(*job, "--validate-only").stdout)["estimate"]["memoryBytes"])
        name = json.loads(cli(*job).stdout)["name"]
        with Client(server.address) as client:
            client.wait_for_step(name, 45)  # of a refit's, some have been taken
        server.kill()
        server.start()
        with Client(server.address) as client:
            assert client.finish(name).state == job_api.SUCCEEDED
            steps = [event.progress.step for event in client.watch(name) if event.HasField("progress")]
        assert steps.count(1) == 1, "it went on from its checkpoint"
        assert server.memory_bytes("VmHWM") - idle < 1.2 * estimate


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
