#!/usr/bin/python3
"""What pruning W_Q and W_K of every layer does to a model's loss: a Markdown table of means and, in
brackets, their distance from the dense model, paired by token, with its standard errors
(model_loss.Distance).

    prune_and_measure.py --method magnitude --method joint --sparsity 0.5 --sparsity 2:4

For each sparsity and method `attnprune prune --attention-method METHOD`, every layer on its inputs in
the dense model and all other maps left dense, then model_loss.py on the pruned model.
"""
import argparse
import os
import pathlib
import subprocess
import tempfile

from model_loss import Distance, Model, read_tokens

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("ATTNPRUNE_BIN", ROOT / "build/release/bin"))
OTHER_MAPS = ("v", "o", "gate", "up", "down")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "data/tiny-llama")
    parser.add_argument("--calibration", help="tokens; default: MODEL/calibration.safetensors:tokens")
    parser.add_argument("--held-out", help="tokens of the loss; default: MODEL/held_out.safetensors")
    parser.add_argument("--method", action="append", required=True, dest="methods",
                        metavar="NAME[:PARAMETER=NUMBER,...]")
    parser.add_argument("--sparsity", action="append", dest="sparsities",
                        help="default: 0.5, 0.7 and 0.9")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="keep the models here")
    arguments = parser.parse_args()
    arguments.calibration = arguments.calibration or \
        f"{arguments.model}/calibration.safetensors:tokens"
    arguments.held_out = arguments.held_out or arguments.model / "held_out.safetensors"
    arguments.sparsities = arguments.sparsities or ["0.5", "0.7", "0.9"]
    return arguments


def attnprune(*arguments):
    """An error ends the program with what it said."""
    command = [BIN / "attnprune", *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stderr}")


def prune(arguments, method, sparsity, folder):
    rest = [part for role in OTHER_MAPS for part in ("--skip", role)]
    attnprune("prune", "--model", arguments.model, "--tokens", arguments.calibration,
              "--attention-method", method, *rest, "--order", "independent", "--sparsity", sparsity,
              "--output", folder, "--quiet")
    return folder


def measure(arguments, folder):
    """Losses of each token: the dense ones, and {method: those at each sparsity}."""
    tokens = read_tokens(str(arguments.held_out))
    losses = {method: [] for method in arguments.methods}
    for place, sparsity in enumerate(arguments.sparsities):
        for number, method in enumerate(arguments.methods):
            model = prune(arguments, method, sparsity, folder / f"{place}-{number}")
            losses[method].append(Model(model).losses(tokens))
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
        dense, losses = measure(arguments, arguments.keep or temporary)
    print(table(arguments.sparsities, dense, losses))


if __name__ == "__main__":
    main()
