"""Models by the real programs: every family captured, a layer pruned by four methods,
the queries and keys of all by one, and evaluated; texts and tokens."""
import json
import math

import numpy
import pytest

import safetensors
from harness import MODEL, ROOT, Server, cli

GOLDEN = ROOT / "tests/data/models"


def one_of_each_family():
    """The first golden folder of each model_type; core_model_test runs them all."""
    first = {}
    for folder in sorted(path for path in GOLDEN.iterdir() if path.is_dir()):
        first.setdefault(json.loads((folder / "config.json").read_text())["model_type"], folder.name)
    return sorted(first.values())


FAMILIES = one_of_each_family()
MASKED = ("bert", "roberta")  # predict no next token
FUSED = {"gpt2": "transformer.h.{}.attn.c_attn.weight", "phi3": "model.layers.{}.self_attn.qkv_proj.weight",
         "falcon-40b-like": "transformer.h.{}.self_attention.query_key_value.weight"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens.npy"
    numpy.save(path, numpy.random.default_rng(0).integers(2, 64, (8, 24)).astype("<i4"))
    return path


@pytest.fixture(name="address", scope="module")
def address_(tmp_path_factory):
    """Of one server for all families, which saves a start for each."""
    with Server(tmp_path_factory.mktemp("server") / "data") as server:
        yield server.address


def done(*arguments):
    result = cli(*arguments)
    assert result.returncode == 0, result.stderr
    return result


def weights_of(folder):
    return {name: safetensors.array(tensor) for name, tensor in safetensors.read(folder / "model.safetensors").items()}


def changed_names(before, after):
    before, after = weights_of(before), weights_of(after)
    assert set(before) == set(after)
    return [key for key, value in before.items() if not numpy.array_equal(value, after[key])]


def maps(folder):
    """The names of its layers' linear maps: matrices that are no norm of heads."""
    return [key for key, value in weights_of(folder).items()
            if value.ndim == 2 and (".0." in key or ".1." in key) and "norm" not in key]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_captured_pruned_and_evaluated(name, tokens, address, tmp_path):
    model, layer, whole = GOLDEN / name, tmp_path / "layer", tmp_path / "whole"
    done("capture", "--model", model, "--tokens", tokens, "--output", tmp_path / "captured")
    captured = safetensors.read(tmp_path / "captured/calibration.safetensors")
    assert sorted(captured) == [f"model.layers.{i}.self_attn.input" for i in range(2)]
    methods = ["magnitude", "wanda", "sparsegpt", "gd:steps=5"]
    table = done("run", "--model", model, "--layer", "0", "--calibration", tmp_path / "captured",
                 "--held-out-fraction", "0.25", "--output", layer, *sum((["--method", m] for m in methods), [])).stdout
    assert "sparsegpt" in table and "magnitude" in table
    changed = changed_names(model, layer)
    assert changed and all(".0." in key for key in changed), "queries and keys of layer 0 were pruned"
    both = {*changed, *(key.replace(".0.", ".1.") for key in changed)}
    done("prune", "--model", model, "--tokens", tokens, "--attention-method", "wanda", "--order", "independent", "--quiet",
         *sum((["--skip", key] for key in maps(model) if key not in both), []), "--server", address, "--output", whole)
    assert set(changed_names(model, whole)) == both
    tensors = json.loads((whole / "report.json").read_text())["tensors"]
    assert {tensor["name"] for tensor in tensors if 0 < tensor["attentionCalibrationError"] < 1} == both

    if name in MASKED:
        result = cli("eval", "--model", model, "--model", layer, "--tokens", tokens)
        assert result.returncode == 2 and "masked model" in result.stderr
        return

    evaluated = done("eval", "--model", model, "--model", layer, "--model", whole, "--tokens", tokens, "--json")
    first, *others = json.loads(evaluated.stdout)["models"]
    assert first["differenceFromFirst"]["mean"] == 0
    assert len(others) == 2
    for other in others:
        assert first["tokens"] == other["tokens"] == 8 * 23
        assert math.isclose(other["natsPerToken"] - first["natsPerToken"], other["differenceFromFirst"]["mean"], abs_tol=1e-9)
        assert other["differenceFromFirst"]["standardErrorByRow"] > 0


@pytest.mark.parametrize("name", FUSED)
def test_only_queries_and_keys_of_a_fused_tensor_change(name, tokens, tmp_path):
    done("run", "--model", GOLDEN / name, "--layer", "0", "--tokens", tokens, "--method", "magnitude",
         "--output", tmp_path / "pruned", "--save-mask", tmp_path / "mask.safetensors")
    before, after = weights_of(GOLDEN / name), weights_of(tmp_path / "pruned")
    fused = FUSED[name].format(0)
    assert [key for key in before if not numpy.array_equal(before[key], after[key])] == [fused]
    removed = (after[fused] == 0) & (before[fused] != 0)
    heads, kv, dim = (4, 4, 8) if name == "gpt2" else (4, 2, 8)
    assert removed.sum() == (heads + kv) * dim * 32 // 2, "half of q and k, nothing of v"
    mask = safetensors.array(safetensors.read(tmp_path / "mask.safetensors")[fused]).astype(bool)
    assert numpy.array_equal(~mask, removed)


def test_the_loss_of_the_trained_model_is_that_of_the_numpy_script(tmp_path):
    out = done("eval", "--model", MODEL, "--tokens", MODEL / "held_out.safetensors", "--json").stdout
    model = json.loads(out)["models"][0]
    assert round(model["natsPerToken"], 4) == 1.4933
    assert math.isclose(model["perplexity"], math.exp(model["natsPerToken"]))


def changed_model(folder, golden, config=None, edit=None):
    """A copy of a golden model in `folder`."""
    folder.mkdir()
    settings = json.loads((GOLDEN / golden / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **(config or {})}))
    tensors = safetensors.read(GOLDEN / golden / "model.safetensors")
    if edit:
        tensors = edit(tensors)
    safetensors.write(folder / "model.safetensors", tensors)
    return folder


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.mlp.down_proj.weight"])
def test_a_model_with_a_weight_that_is_no_number_has_no_loss_and_no_inputs(name, tokens, tmp_path):
    def edit(tensors):
        dtype, shape, data = tensors[name]
        return {**tensors, name: (dtype, shape, numpy.float32("nan").tobytes() + data[4:])}
    model = changed_model(tmp_path / "model", "llama", edit=edit)
    result = cli("eval", "--model", model, "--tokens", tokens)
    assert result.returncode == 2
    assert "the loss is not finite" in result.stderr
    if ".0." in name:
        result = cli("capture", "--model", model, "--tokens", tokens, "--output", tmp_path / "captured")
        assert result.returncode == 2
        assert "layer 1: the input of its attention is not finite" in result.stderr


def test_a_model_without_a_head_is_captured_and_not_evaluated(tokens, tmp_path):
    edit = lambda tensors: {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    model = changed_model(tmp_path / "model", "llama", edit=edit)
    done("capture", "--model", model, "--tokens", tokens, "--output", tmp_path / "captured")
    result = cli("eval", "--model", model, "--tokens", tokens)
    assert result.returncode == 2 and "lm_head.weight" in result.stderr


def test_sizes_that_no_tensor_has_are_refused_at_once(tokens, tmp_path):
    huge = {"n_head": 2**31 - 1, "hidden_size": 2**31 - 1}
    model = changed_model(tmp_path / "model", "bloom", huge)
    result = cli("run", "--model", model, "--layer", "0", "--calibration", tokens, "--method", "wanda")
    assert result.returncode == 2 and "must have the shape that config.json gives" in result.stderr


def test_the_tensor_that_is_named_is_read(tmp_path):
    rows = numpy.random.default_rng(3).integers(32, 127, (2, 2, 40)).astype("<i8")
    tensor = lambda a: ("I64", list(a.shape), a.tobytes())
    both = tmp_path / "both.safetensors"
    safetensors.write(both, {"tokens": tensor(rows[0]), "input_ids": tensor(rows[1])})
    loss = lambda where: json.loads(done("eval", "--model", MODEL, "--tokens", where, "--json").stdout)["models"][0]
    assert loss(both) == loss(f"{both}:tokens") != loss(f"{both}:input_ids")


def test_a_mask_is_not_token_ids(tmp_path):
    numpy.save(tmp_path / "mask.npy", numpy.ones((2, 8), bool))
    result = cli("eval", "--model", MODEL, "--tokens", tmp_path / "mask.npy")
    assert result.returncode == 2 and "must be token ids, got BOOL" in result.stderr


def test_windows_are_of_two_tokens_at_least_and_told_where_they_are_too_long(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 40)
    result = cli("eval", "--model", MODEL, "--text", text, "--sequence-length", "1")
    assert result.returncode == 2 and "at least 2" in result.stderr
    told = done("eval", "--model", MODEL, "--text", text, "--sequence-length", "257").stderr
    assert "--sequence-length 257 is above the 256 positions" in told


def test_a_text_is_cut_into_windows_and_its_bits_a_byte_are_told(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 40)
    out = json.loads(done("eval", "--model", MODEL, "--text", text, "--sequence-length", "100", "--json").stdout)
    assert (out["sequenceLength"], out["sequences"]) == (100, 18)
    model = out["models"][0]
    assert math.isclose(model["bitsPerByte"], model["natsPerToken"] / math.log(2)), "a token is a byte here"


def test_one_command_prunes_a_layer_from_a_text(tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"Line {i} of a corpus that is long enough."}) + "\n" for i in range(100)))
    result = done("run", "--model", MODEL, "--layer", "1", "--text", text, "--samples", "8", "--sequence-length", "64",
                  "--held-out-fraction", "0.25", "--method", "wanda")
    assert "wanda" in result.stdout
    assert "split off the calibration set" in result.stdout


def test_padding_is_neither_learned_from_nor_scored(tmp_path):
    rng = numpy.random.default_rng(1)
    ids = rng.integers(32, 127, (4, 32)).astype("<i8")
    mask = numpy.ones_like(ids)
    mask[1, 20:] = 0
    mask[2, :5] = 0

    def write(path, fill):
        padded = numpy.where(mask == 1, ids, fill)
        tensor = lambda a: ("I64", list(a.shape), a.astype("<i8").tobytes())
        safetensors.write(path, {"tokens": tensor(padded), "attention_mask": tensor(mask)})
        done("capture", "--model", MODEL, "--tokens", path, "--layers", "1", "--output", path.with_suffix(".out"))
        job = done("run", "--model", MODEL, "--layer", "1", "--calibration", path.with_suffix(".out"), "--method",
                   "wanda", "--json").stdout
        evaluated = done("eval", "--model", MODEL, "--tokens", path, "--json").stdout
        return json.loads(job)["results"][0]["relativeError"], json.loads(evaluated)["models"][0]

    zeros, others = write(tmp_path / "a.safetensors", 0), write(tmp_path / "b.safetensors", 100)
    assert zeros == others
    assert zeros[1]["tokens"] == 31 + 19 + 26 + 31


@pytest.mark.parametrize("arguments, code, message", [
    (["eval", "--model", MODEL], 2, "one of --text FILE and --tokens FILE is required"),
    (["eval", "--model", "gpt2-xl", "--tokens", "x.npy"], 2, "gpt2-xl: no such folder"),
    (["eval", "--model", "org/model", "--tokens", "x.npy"], 2, "hf download org/model --local-dir DIR"),
    (["capture", "--model", MODEL, "--tokens", MODEL / "held_out.safetensors", "--layers", "2-9", "--output", "OUT"], 2,
     "--layers must name layers of the model, 0 to 3, got 2-9"),
    (["capture", "--model", GOLDEN / "opt", "--tokens", MODEL / "held_out.safetensors", "--output", "OUT"], 2,
     "must have at most 64 tokens, the model's learned positions, got 129"),
    (["run", "--model", MODEL, "--layer", "1", "--text", "x.txt", "--calibration", "y.npy", "--method", "wanda"], 2,
     "--calibration goes without --text and --tokens"),
])
def test_wrong_usage_is_told(arguments, code, message, tmp_path):
    result = cli(*(tmp_path / "out" if a == "OUT" else a for a in arguments))
    assert result.returncode == code
    assert message in result.stderr
