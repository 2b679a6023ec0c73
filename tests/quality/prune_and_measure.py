#!/usr/bin/python3
"""What pruning W_Q and W_K of every layer does to a model's loss: a Markdown table of means and, in
brackets, their distance from the dense model, paired by token, with its standard errors
(model_loss.Distance).

    prune_and_measure.py --method magnitude --method joint --sparsity 0.5 --sparsity 2:4

Starts a server of its own; for each sparsity `attnprune submit --layer all` with all methods, then
`attnprune merge`, then model_loss.py on each merged model.
"""
import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

from model_loss import Distance, Model, read_tokens

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("ATTNPRUNE_BIN", ROOT / "build/release/bin"))
START_LIMIT = 60  # seconds


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "data/tiny-llama")
    parser.add_argument("--calibration", help="default: MODEL/calibration.safetensors")
    parser.add_argument("--held-out", help="default: MODEL/held_out.safetensors")
    parser.add_argument("--tokens", help="of the loss; default: those of --held-out")
    parser.add_argument("--method", action="append", required=True, dest="methods",
                        metavar="NAME[:PARAMETER=NUMBER,...]")
    parser.add_argument("--sparsity", action="append", dest="sparsities",
                        help="default: 0.5, 0.7 and 0.9")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="keep the models here")
    arguments = parser.parse_args()
    arguments.calibration = arguments.calibration or arguments.model / "calibration.safetensors"
    arguments.held_out = arguments.held_out or arguments.model / "held_out.safetensors"
    arguments.sparsities = arguments.sparsities or ["0.5", "0.7", "0.9"]
    return arguments


@contextlib.contextmanager
def server(folder):
    """Its address, HOST:PORT, until the block ends."""
    port = folder / "port"
    command = [BIN / "attnprune-server", "--listen", "127.0.0.1:0", "--data-dir", folder / "data",
               "--port-file", port]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_LIMIT
        while not port.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"no server: {(folder / 'server.log').read_text()}")
            time.sleep(0.02)
        yield f"127.0.0.1:{port.read_text().strip()}"
    finally:
        process.terminate()
        process.wait()


def attnprune(address, *arguments):
    """Its standard output; an error ends the program with what it said."""
    command = [BIN / "attnprune", *map(str, arguments), "--server", address]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stderr}")
    return done.stdout


def prune(address, arguments, sparsity, folder):
    """One model for each method: {method as given: its folder}."""
    methods = [part for method in arguments.methods for part in ("--method", method)]
    jobs = json.loads(attnprune(
        address, "submit", "--json", "--model", arguments.model, "--layer", "all", "--calibration",
        arguments.calibration, "--held-out", arguments.held_out, "--sparsity", sparsity,
        "--evaluate-every", -1, *methods))["jobs"]
    for job in jobs:
        attnprune(address, "watch", job["name"])
    attnprune(address, "merge", "--model", arguments.model, "--output", folder / "{method}",
              *[job["name"] for job in jobs])
    labels = [method["label"] for method in jobs[0]["methods"]]
    return {method: folder / label for method, label in zip(arguments.methods, labels)}


def measure(address, arguments, folder):
    """Losses of each token: the dense ones, and {method: those at each sparsity}."""
    tokens = read_tokens(str(arguments.tokens or arguments.held_out))
    losses = {}
    for sparsity in arguments.sparsities:
        models = prune(address, arguments, sparsity, folder / sparsity.replace(":", "of"))
        for method, model in models.items():
            losses.setdefault(method, []).append(Model(model).losses(tokens))
    return Model(arguments.model).losses(tokens), losses


def table(sparsities, dense, losses):
    def cell(values):
        return f"{values.mean():.4f} ({Distance(values, dense)})"
    rows = [[f"nats per token, of {dense.size}", *sparsities], ["---", *["---:"] * len(sparsities)],
            ["dense", *[f"{dense.mean():.4f}"] * len(sparsities)]]
    rows += [[f"`{method}`", *map(cell, values)] for method, values in losses.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        with server(temporary) as address:
            dense, losses = measure(address, arguments, arguments.keep or temporary)
    print(table(arguments.sparsities, dense, losses))


if __name__ == "__main__":
    main()
