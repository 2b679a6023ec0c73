"""Fixtures: a server, a client of it, a layer of tiny-llama. The server is tests/system's."""
import json
import types

import numpy
import pytest

import attnprune
from attnprune import safetensors
from harness import BIN, MODEL, ROOT, Server

MODELS = ROOT / "tests/data/models"
INPUT = "model.layers.1.self_attn.input"


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "data") as running:
        yield running


@pytest.fixture
def alone(server):  # pylint: disable=redefined-outer-name
    """A client of `server`, which no other test has."""
    with attnprune.Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def shared():
    """A server for all tests of a file, on every core."""
    with attnprune.local(server=BIN / "attnprune-server") as connected:
        yield connected


@pytest.fixture
def client(shared):  # pylint: disable=redefined-outer-name
    with attnprune.Client(shared.target) as connected:
        yield connected


def arrays(name):
    file = safetensors.File(MODEL / f"{name}.safetensors")
    return {tensor: file.array(tensor) for tensor in file.names}


@pytest.fixture(scope="session")
def layer():
    weights = arrays("model")
    prefix = "model.layers.1.self_attn."
    return attnprune.Layer(weights[f"{prefix}q_proj.weight"], weights[f"{prefix}k_proj.weight"],
                           heads=8, kv_heads=4, rope=10000.0)


@pytest.fixture(scope="session")
def batches():
    return [arrays("calibration")[INPUT]]


@pytest.fixture(scope="session")
def held_out():
    return [arrays("held_out")[INPUT]]


def config_of(name):
    """A golden model's config, with the options as attributes, as transformers has them."""
    return types.SimpleNamespace(**json.loads((MODELS / name / "config.json").read_text()))


def expected_of(name):
    """What a float64 forward pass of a golden model gives."""
    file = safetensors.File(MODELS / name / "expected.safetensors")
    return {tensor: file.array(tensor).astype(numpy.float64) for tensor in file.names}
