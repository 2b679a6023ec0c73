"""What is found in a torch model is what the command line reads from its folder: every golden model."""
import json

import numpy
import pytest

import attnprune
from attnprune import problem, tensors
from attnprune.v1 import job_pb2
from conftest import MODELS
from harness import cli

torch = pytest.importorskip("torch", reason="the part with torch is not tested: no python3-torch")
import modules  # noqa: E402  pylint: disable=wrong-import-position

GOLDEN = sorted(path.name for path in MODELS.iterdir() if path.is_dir())
BY_HAND = {"bloom", "falcon-40b-like", "falcon-7b-like", "falcon-rw-like", "gpt-neox",
           "gpt-neox-sequential", "gptj", "stablelm-parallel-qknorm"}


def command_lines_problem(shared, folder, name, layer):
    """The problem of a job that `attnprune submit --model` makes."""
    width = json.loads((MODELS / name / "config.json").read_text())
    size = width.get("hidden_size") or width.get("n_embd") or width.get("word_embed_proj_dim")
    numpy.save(folder / "x.npy", numpy.random.default_rng(0).standard_normal((9, size)).astype("f4"))
    done = cli("submit", "--server", shared.target, "--model", MODELS / name, "--layer", layer,
               "--calibration", folder / "x.npy", "--method", "magnitude")
    assert done.returncode == 0, done.stderr
    return shared.get_job(done.stdout.strip()).problem


@pytest.mark.parametrize("name", [name for name in GOLDEN if name not in BY_HAND])
def test_a_layer_is_the_command_lines(shared, tmp_path, name):
    model = modules.skeleton(name)
    found = attnprune.find_attentions(model)
    assert [one.layer for one in found] == list(range(len(found))) and found
    for one in found[:2]:
        expected = command_lines_problem(shared, tmp_path, name, one.layer)
        assert one.describe(model).problem()[0] == expected


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_what_is_not_known_is_refused(name):
    with pytest.raises(attnprune.InvalidArgument, match="attnprune.Attention"):
        attnprune.find_attentions(modules.skeleton(name))


def test_a_model_without_config_is_described_by_hand():
    model = torch.nn.Module()
    model.ask, model.answer = torch.nn.Linear(6, 8), torch.nn.Linear(6, 4, bias=False)
    with pytest.raises(attnprune.InvalidArgument, match="got no config") as refused:
        attnprune.find_attentions(model)
    assert refused.value.field == "attentions"
    one = attnprune.Attention("mine", 0, "ask", "answer", heads=4, kv_heads=2, rope=100.0,
                              attention="window:5", scale=0.5)
    made, uploads = one.describe(model).problem()
    assert made.scale == 0.5 and made.projections.rope.theta == 100
    assert made.attention == problem.attention_mask("window:5")
    assert [tensor.ref.name for tensor in uploads] == ["ask.weight", "answer.weight", "ask.bias"]


def test_what_sees_and_hears_is_left_alone():
    model = modules.skeleton("llama")
    model.vision_tower = modules.skeleton("llama").model
    assert len(attnprune.find_attentions(model)) == 2


def test_torch_tensors_of_every_type_keep_their_bits(shared):
    values = torch.linspace(-3, 3, 12).reshape(3, 4)
    for kind, dtype in ((torch.float64, job_pb2.F64), (torch.float32, job_pb2.F32),
                        (torch.float16, job_pb2.F16), (torch.bfloat16, job_pb2.BF16)):
        before = values.to(kind)
        one = tensors.tensor(before.t())
        assert one.ref.dtype == dtype and list(one.ref.shape) == [4, 3]
        (ref,) = shared.upload(before.t())
        after = torch.from_numpy(shared.download(ref).copy()).to(kind)
        assert torch.equal(after, before.t())
