"""The README's Python part, as it stands, and its result: the command line's bits."""
import os
import resource
import subprocess
import sys

import numpy
import pytest

from attnprune import safetensors
from harness import BIN, LIMIT, MODEL, ROOT, cli

torch = pytest.importorskip("torch", reason="README's part is not tested: no python3-torch")
RUN = """
import runpy, numpy
kept = runpy.run_path("readme.py")
values = {f"mask {name}": mask for name, mask in kept["report"].masks.items()}
values.update({name: value.numpy() for name, value in kept["model"].state_dict().items()})
numpy.savez("result.npz", **values)
"""


def snippet():
    section = (ROOT / "README.md").read_text().split("\n## In Python\n")[1].split("\n## ")[0]
    return section.split("```python\n")[1].split("```")[0]


def cpu_seconds():
    """Of all processes that were waited for, the server too: whatever else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_snippet(folder):
    """In a folder that has what a clone has; returns what came of it and the CPU's seconds."""
    for name in ("data", "examples"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "readme.py").write_text(snippet())
    start = cpu_seconds()
    done = subprocess.run([sys.executable, "-c", RUN], cwd=folder, text=True, capture_output=True,
                          timeout=LIMIT, check=False,
                          env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["layer", "method"] and len(
        done.stdout.splitlines()) == 9
    return numpy.load(folder / "result.npz"), cpu_seconds() - start


def test_the_readme_prunes_tiny_llama_to_the_command_lines_bits(tmp_path):
    assert len([line for line in snippet().splitlines() if line]) <= 10
    result, seconds = run_snippet(tmp_path)
    print(f"{seconds:.1f} s of CPU")
    for layer in (0, 3):
        out, masks = tmp_path / "out.safetensors", tmp_path / "masks.safetensors"
        done = cli("run", "--model", MODEL, "--layer", layer, "--calibration",
                   tmp_path / f"captured/{layer}.safetensors", "--held-out-fraction", 0.25, "--method",
                   "joint", "--output", out, "--save-mask", masks, "--overwrite")
        assert done.returncode == 0, done.stderr
        for part in "qk":
            name = f"model.layers.{layer}.self_attn.{part}_proj.weight"
            # The folder's weights are float16, the module's the same ones in float32.
            assert (result[name].astype("f2") == safetensors.File(out).array(name)).all()
            assert (result[f"mask {name}"] == safetensors.File(masks).array(name)).all()
            assert (result[name] == 0).mean() == pytest.approx(0.5, abs=0.01)
