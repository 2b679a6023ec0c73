#!/usr/bin/python3
"""What each recipe and published method costs a model: held-out loss less the dense model's, as a Markdown table.

    tests/quality/recipe_table.py [--model DIR] [--calibration FILE[:NAME]] [--held-out FILE[:NAME]]
                                  [--sparsities 0.5,0.7,...] [--seeds 1,2,3] [--rows best,alps] [--build build/release]

Nats a token and, after ±, the mean of the standard errors by row; in brackets the range over the seeds, of what draws
random numbers. The last column: seconds of `attnprune prune`, all its cells' mean. Needs the release programs.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "data/tiny-llama"
# (row, flags, whether it draws random numbers)
ROWS = (("wanda", ["--method", "wanda"], False),
        ("sparsegpt", ["--method", "sparsegpt"], False),
        ("alps", ["--method", "alps"], False),
        ("`--recipe linear`", ["--recipe", "linear"], False),
        ("`--recipe fast`", ["--recipe", "fast"], True),
        ("`--recipe best`", ["--recipe", "best"], True))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=DATA)
    parser.add_argument("--calibration", default=str(DATA / "calibration.safetensors"))
    parser.add_argument("--held-out", default=str(DATA / "held_out.safetensors"))
    parser.add_argument("--sparsities", default="0.5,0.7,0.8,0.9,2:4,4:8")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rows", help="of the table, by method or recipe: best,alps; default: all")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    return parser.parse_args()


def prune(args, flags, sparsity, seed):
    """(difference, its error by row, seconds)"""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        subprocess.run([args.build / "bin/attnprune", "prune", "--model", args.model, "--tokens", args.calibration,
                        "--held-out-tokens", args.held_out, "--sparsity", sparsity, "--seed", seed, "--quiet",
                        "--output", f"{folder}/out", *flags],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**os.environ, "OPENBLAS_CORETYPE": "Haswell"})
        seconds = time.monotonic() - begin
        loss = json.loads(pathlib.Path(f"{folder}/out/report.json").read_text())["model"]["loss"]["difference"]
    return loss["mean"], loss["standardErrorByRow"], seconds


def cell(runs):
    mean, error = (statistics.mean(run[i] for run in runs) for i in (0, 1))
    text = f"{mean:+.4f} ± {error:.4f}"
    if len(runs) == 1:
        return text
    return f"{text} [{min(run[0] for run in runs):+.4f}, {max(run[0] for run in runs):+.4f}]"


def main():
    args = parse()
    sparsities, seeds = args.sparsities.split(","), args.seeds.split(",")
    print("| |", " | ".join(sparsities), "| seconds |")
    print("|---" * (len(sparsities) + 2) + "|")
    wanted = args.rows.split(",") if args.rows else None
    for row, flags, draws in ROWS:
        if wanted and flags[1] not in wanted:
            continue
        runs = [[prune(args, flags, sparsity, seed) for seed in (seeds if draws else seeds[:1])]
                for sparsity in sparsities]
        seconds = statistics.mean(run[2] for of_sparsity in runs for run in of_sparsity)
        print("|", row, "|", " | ".join(map(cell, runs)), f"| {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
