"""Fixtures: a folder for a server, a running server, a client of it, a database; the seed of random tests."""
import os
import random

import pytest

from harness import Client, Server
from postgres import Postgres


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def server(data_dir):
    with Server(data_dir) as running:
        yield running


@pytest.fixture
def client(server):  # pylint: disable=redefined-outer-name
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(name="database", scope="module")
def run_postgres():
    with Postgres() as database:
        yield database


@pytest.fixture
def store(database):
    """Flags of a server of the database, which is empty."""
    database.ask("DROP SCHEMA IF EXISTS attnprune CASCADE")
    return ("--store", database.url)


@pytest.fixture
def dice():
    """Random numbers; ATTNPRUNE_TEST_SEED repeats a run."""
    seed = int(os.environ.get("ATTNPRUNE_TEST_SEED", random.randrange(2**32)))
    print(f"ATTNPRUNE_TEST_SEED={seed}")
    return random.Random(seed)
