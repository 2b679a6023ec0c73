"""Inputs of attentions as a float64 forward pass has them; padding left out; nothing held."""
import gc
import weakref

import numpy
import pytest

import attnprune
from attnprune import safetensors
from conftest import expected_of

torch = pytest.importorskip("torch", reason="the part with torch is not tested: no python3-torch")
import modules  # noqa: E402  pylint: disable=wrong-import-position

FAMILIES = ("llama", "gpt2", "bert")


def ids_of(name):
    return torch.from_numpy(expected_of(name)["input_ids"].astype(numpy.int64))[None]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_hand_written_models_give_the_hidden_states_of_their_family(name):
    model, hidden = modules.golden(name), []
    layers = {"llama": lambda: model.model.layers, "gpt2": lambda: model.transformer.h,
              "bert": lambda: model.bert.encoder.layer}[name]()
    for layer in layers:
        layer.register_forward_hook(lambda _, __, out: hidden.append(out))
    with torch.no_grad():
        model(ids_of(name))
    for index, values in enumerate(hidden[:-1], 1):
        assert numpy.allclose(values[0].numpy(), expected_of(name)[f"hidden.{index}"], atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_inputs_give_the_queries_and_keys_of_the_family(name, tmp_path):
    model, expected = modules.golden(name), expected_of(name)
    with attnprune.capture(model, [ids_of(name)], folder=tmp_path) as taken:
        first, second = (safetensors.File(taken.file(one)) for one in taken.attentions)
    assert first.names == ["model.layers.0.self_attn.input"]
    assert numpy.allclose(first.array(first.names[0])[0], expected["layer.0.attn_in"], atol=1e-5)
    if name == "llama":
        return  # layer.1.q is after the rotary embedding
    x = second.array(second.names[0])[0]
    parameters = {field: value.detach().numpy() for field, (_, value) in
                  taken.attentions[1].parameters(model).items()}
    for part in "qk":
        y = x @ parameters[f"w_{part}"].T + parameters[f"b_{part}"]
        heads = y.reshape(len(x), 4, -1).transpose(1, 0, 2)
        assert numpy.allclose(heads, expected[f"layer.1.{part}"], atol=1e-5)


def test_batches_of_every_form_give_the_same(tmp_path):
    model, ids = modules.golden("gpt2"), ids_of("gpt2")
    forms = [[ids], [(ids,)], [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]]
    files = []
    for index, batches in enumerate(forms):
        taken = attnprune.capture(model, batches, folder=tmp_path / str(index))
        files.append(taken.file(taken.attentions[1]).read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out(side):
    ids = torch.randint(1, 60, (3, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :4 if side == "left" else None] = 0 if side == "left" else 1
    if side == "right":
        mask[1, 6:] = 0
    with attnprune.capture(modules.golden("llama"), [{"input_ids": ids, "attention_mask": mask}]) as taken, \
            attnprune.capture(modules.golden("llama"), [ids]) as whole:
        one = taken.attentions[0]
        rows = [tensor.ref.shape for tensor in taken.inputs(one)]
        assert [list(shape) for shape in rows] == [[1, 10, 32], [1, 6, 32], [1, 10, 32]]
        full = safetensors.File(whole.file(one))
        kept = safetensors.File(taken.file(one))
        span = slice(4, 10) if side == "left" else slice(0, 6)
        assert (kept.array(kept.names[1])[0] == full.array(full.names[0])[1, span]).all()


def test_a_mask_with_a_hole_is_refused():
    ids = torch.ones(1, 4, dtype=torch.int64)
    with pytest.raises(attnprune.InvalidArgument, match=r"side by side, got \[1, 0, 1, 1\]"):
        attnprune.capture(modules.golden("llama"),
                          [{"input_ids": ids, "attention_mask": torch.tensor([[1, 0, 1, 1]])}])


def test_a_mask_of_other_tokens_is_refused():
    model = modules.golden("llama")
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    with pytest.raises(attnprune.InvalidArgument, match=r"got \(2, 3\) for model.layers.0.self_attn's"):
        attnprune.capture(model, [{"input_ids": torch.ones(2, 4, dtype=torch.int64),
                                   "attention_mask": mask}])


def test_at_most_two_batches_are_held():
    alive, most = weakref.WeakSet(), []

    def batches():
        for seed in range(6):
            batch = torch.randint(0, 60, (2, 20), generator=torch.Generator().manual_seed(seed))
            alive.add(batch)
            gc.collect()
            most.append(len(alive))
            yield batch
            del batch
    seen = []
    model = modules.golden("gpt2")
    model.transformer.h[0].register_forward_hook(
        lambda _, __, out: (seen.append(weakref.ref(out)), None)[1])
    with attnprune.capture(model, batches()) as taken:
        (inputs,) = taken.inputs(taken.attentions[0])
        assert list(inputs.ref.shape) == [12, 20, 32]
    assert max(most) <= 2 and len(most) == 6
    gc.collect()
    assert not any(ref() is not None for ref in seen)


def test_the_model_is_left_as_it_was():
    model = modules.golden("bert").train()
    attnprune.capture(model, [ids_of("bert")]).close()
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())  # pylint: disable=protected-access
    with pytest.raises(attnprune.InvalidArgument, match="at least one batch, got none"):
        attnprune.capture(model, [])


def test_keys_of_another_input_are_refused():
    class Crossed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ask, self.answer = torch.nn.Linear(6, 8), torch.nn.Linear(6, 8)

        def forward(self, x):
            return self.ask(x) @ self.answer(x + 1).transpose(1, 2)
    one = attnprune.Attention("mine", 0, "ask", "answer", heads=4)
    with pytest.raises(attnprune.InvalidArgument, match="the same input, which mine does not"):
        attnprune.capture(Crossed(), [torch.ones(1, 3, 6)], attentions=[one])
