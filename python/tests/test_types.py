"""The package by mypy, as strict as it can be told to be."""
import os
import pathlib
import subprocess
import sys

import pytest

import attnprune
from harness import LIMIT, ROOT

pytest.importorskip("mypy", reason="types are not checked: no python3-mypy")


def test_the_package_is_typed(tmp_path):
    folder = pathlib.Path(attnprune.__file__).parent
    assert (folder / "py.typed").exists()
    done = subprocess.run([sys.executable, "-m", "mypy", "--config-file",
                           ROOT / "python/pyproject.toml", "--cache-dir", tmp_path / "cache", "-p",
                           "attnprune"], cwd=folder.parent, text=True, capture_output=True,
                          timeout=LIMIT, check=False,
                          env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"})
    assert done.returncode == 0, done.stdout
