"""Torch modules pruned in place, and folders: the command line's bits."""
import copy
import subprocess

import numpy
import pytest

import attnprune
from attnprune import safetensors
from conftest import MODELS
from harness import BIN, LIMIT, MODEL, ROOT, Server, cli

torch = pytest.importorskip("torch", reason="the part with torch is not tested: no python3-torch")
import modules  # noqa: E402  pylint: disable=wrong-import-position


def tokens(seed, rows=6, length=20):
    return torch.randint(1, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def as_the_command_line(name, layer, calibration, folder, method):
    """Weights and masks of `attnprune run` on what was captured."""
    done = cli("run", "--model", MODELS / name, "--layer", layer, "--calibration", calibration,
               "--method", method, "--output", folder / f"{layer}.out.safetensors", "--save-mask",
               folder / f"{layer}.mask.safetensors")
    assert done.returncode == 0, done.stderr
    return [safetensors.File(folder / f"{layer}.{kind}.safetensors") for kind in ("out", "mask")]


def whole_mask(report, key):
    """Of a tensor; of GPT-2's c_attn, (in, out), v is kept whole."""
    if key in report.masks:
        return report.masks[key]
    q, k = report.masks[f"{key}[q]"], report.masks[f"{key}[k]"]
    return numpy.concatenate([q, k, numpy.ones_like(k)]).T


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_a_module_is_pruned_as_by_the_command_line(shared, name, tmp_path):
    model = modules.golden(name)
    before = copy.deepcopy(model.state_dict())
    report = attnprune.prune(model, [tokens(0), tokens(1)], client=shared, methods="sparsegpt",
                             folder=tmp_path, progress=False)
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    expected = set()
    for layer in range(2):
        weights, masks = as_the_command_line(name, layer, tmp_path / f"{layer}.safetensors",
                                             tmp_path, "sparsegpt")
        for key in masks.names:
            expected.add(key)
            assert (after[key].numpy() == weights.array(key)).all()
            assert (whole_mask(report, key) == masks.array(key)).all() and not masks.array(key).all()
    assert changed == expected and len(report.masks) == 4
    assert {row["layer"] for row in report.rows()} == {0, 1} and "sparsegpt" in str(report)


def test_the_best_method_is_written_by_what_is_held_out(shared):
    model = modules.golden("llama")
    report = attnprune.prune(model, [tokens(0)], client=shared, methods=["magnitude", "sparsegpt"],
                             held_out=[tokens(1)], sparsity=0.7, progress=False)
    for layer, (result, job) in enumerate(zip(report.results, report.jobs)):
        assert result.method == job.rows()[0]["method"]
        weight = model.model.layers[layer].self_attn.q_proj.weight.detach().numpy()
        assert (weight == result.weights["w_q"]).all() and (weight == 0).mean() > 0.69
        assert job.message.results[0].HasField("held_out") and job.message.labels["layer"] == str(layer)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_type_keep_it(shared, kind):
    model = modules.golden("llama")
    with attnprune.capture(model, [tokens(0)]) as taken:
        inputs = [taken.inputs(one) for one in taken.attentions]
        for attention, batches in zip(taken.attentions, inputs):
            half = copy.deepcopy(model).to(kind)
            before = half.state_dict()[f"{attention.q}.weight"].clone()
            job = shared.submit(attention.describe(half), batches, methods="magnitude")
            mask = torch.from_numpy(job.result().masks["w_q"])
            after = torch.from_numpy(job.result().weights["w_q"].copy()).to(kind)
            assert torch.equal(after, before * mask)


def test_write_false_leaves_the_module_alone(shared):
    model = modules.golden("gpt2")
    before = copy.deepcopy(model.state_dict())
    report = attnprune.prune(model, [tokens(0)], client=shared, methods="wanda", write=False,
                             progress=False)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert report.masks["transformer.h.1.attn.c_attn.weight[k]"].shape == (32, 32)


def test_a_refusal_names_the_attention(shared):
    with pytest.raises(attnprune.InvalidArgument, match="model.layers.0.self_attn: ") as refused:
        attnprune.prune(modules.golden("llama"), [tokens(0)], client=shared, sparsity=1.5)
    assert refused.value.field == "job.sparsity.fraction"
    with pytest.raises(attnprune.InvalidArgument, match="batches must be given for a torch model"):
        attnprune.prune(modules.golden("llama"))


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".safetensors"}


def test_a_folder_is_pruned_by_a_run_of_the_server(shared, tmp_path):
    flags = ("--samples", "4", "--sequence-length", "32")
    run = attnprune.prune(MODEL, text=MODEL / "calibration.txt", client=shared, output=tmp_path / "a",
                          methods="wanda", flags=flags, program=BIN / "attnprune", progress=False)
    assert run.state == "SUCCEEDED" and len(run.rows()) == 28
    done = cli("prune", "--model", MODEL, "--text", MODEL / "calibration.txt", "--sparsity", "0.5",
               "--method", "wanda", *flags, "--output", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "a")["model.safetensors"] == files_of(tmp_path / "b")["model.safetensors"]
    file = safetensors.File(tmp_path / "a" / "model.safetensors")
    name = "model.layers.3.mlp.down_proj.weight"
    assert (run.result().weights[name] == file.array(name)).all()
    assert not file.array(name)[~run.result().masks[name]].any()
    assert run.name in [one.name for one in shared.runs()]
    events = [event.WhichOneof("event") for event in run.watch()]
    assert events[-1] == "run_terminal" and events.count("run_result") >= 28


def test_a_folder_is_pruned_on_tokens(shared, tmp_path):
    ids = numpy.random.default_rng(0).integers(0, 128, (4, 32))
    run = attnprune.prune(MODEL, tokens=ids, client=shared, methods="magnitude", sparsity="2:4",
                          program=BIN / "attnprune", progress=False)
    mask = run.result().masks["model.layers.0.mlp.up_proj.weight"]
    assert (mask.reshape(-1, 4).sum(axis=1) == 2).all()
    with pytest.raises(attnprune.InvalidArgument, match="text must be given, or else tokens"):
        attnprune.prune(MODEL, client=shared)
    with pytest.raises(attnprune.InvalidArgument, match="attnprune submit: .*no-such-folder"):
        attnprune.prune(ROOT / "no-such-folder", tokens=ids, client=shared, program=BIN / "attnprune")


def test_a_folder_is_pruned_on_a_server_that_wants_a_token(tmp_path):
    made = subprocess.run([BIN / "attnprune-server", "token", "new", "--tenant", "a", "--role",
                           "submitter", "--token-file", tmp_path / "tokens"], text=True,
                          capture_output=True, timeout=LIMIT, check=True)
    with Server(tmp_path / "data", "--token-file", tmp_path / "tokens") as server, \
            attnprune.Client(server.address, token=made.stdout) as client:
        run = attnprune.prune(MODELS / "llama", tokens=numpy.arange(48).reshape(2, 24) % 60, client=client,
                              methods="magnitude", program=BIN / "attnprune", progress=False)
        assert run.state == "SUCCEEDED"
