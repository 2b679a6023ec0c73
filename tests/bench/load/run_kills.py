#!/usr/bin/python3
"""A run on a Llama-3.2-1B-shaped random model, undisturbed and with kill -9 on the way: the same files, and what a kill costs.

    tests/bench/load/run_kills.py [--build build/release] [--folder /var/tmp/llama-1b-2] [--layers 2] [--rows 8] [--tokens 512]
                                  [--method sparsegpt] [--kills 3] [--threads 2] [--seed 0]

Makes the model in bf16 where the folder lacks it. The server is killed with SIGKILL at moments drawn evenly over what the
undisturbed run took, and started again at once, while `submit --watch` follows. Prints the seconds of both runs from their
start to their end, and exits with 1 where a file of the pruned models differs but for the reports.
Debian packages: python3-grpcio python3-numpy.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
REPORTS = {"report.json", "report.md"}  # they tell the time


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/var/tmp/llama-1b-2"))
    for name, value in (("layers", 2), ("rows", 8), ("tokens", 512), ("kills", 3), ("threads", 2), ("seed", 0)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--method", default="sparsegpt")
    args = parser.parse_args()
    os.environ.setdefault("ATTNPRUNE_BIN", str(args.build / "bin"))
    sys.path[:0] = [str(ROOT / "tests/system"), str(ROOT / "tests/bench"), str(args.build / "tests/system/stubs")]
    return args


args = parse()
import numpy  # pylint: disable=wrong-import-position
import model_forward as model  # pylint: disable=wrong-import-position
from harness import Server  # pylint: disable=wrong-import-position


def attnprune(*words):
    return [args.build / "bin/attnprune", *words]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())
            if path.name not in REPORTS}


def seconds_of(run):
    moment = lambda text: datetime.datetime.fromisoformat(text.rstrip("Z")[:26])
    return (moment(run["endTime"]) - moment(run["startTime"])).total_seconds()


def run(server, tokens, output, moments):
    """Its seconds and files; the server is killed so many seconds after the run was made."""
    at = ["--server", server.address]
    name = subprocess.run(attnprune("submit", "--run", "--model", args.folder, "--tokens", tokens, "--sparsity", "0.5", "--method",
                                    args.method, *at), check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    start = time.monotonic()
    with subprocess.Popen(attnprune("watch", name, *at), stdout=subprocess.DEVNULL) as watch:
        for moment in moments:
            time.sleep(max(0, start + moment - time.monotonic()))
            if watch.poll() is not None:
                raise SystemExit(f"the run ended before it was killed at {moment:.0f} s")
            server.kill()
            server.start()
            print(f"killed at {moment:.1f} s", flush=True)
    if watch.returncode != 0:
        raise SystemExit(f"watch ended with {watch.returncode}")
    told = subprocess.run(attnprune("get", name, "--json", *at), check=True, stdout=subprocess.PIPE, text=True).stdout
    subprocess.run(attnprune("fetch", name, "--output", output, *at), check=True, stdout=subprocess.DEVNULL)
    return seconds_of(json.loads(told)), digests(output)


def main():
    model.make(args.folder, args.layers)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        folder = pathlib.Path(folder)
        numpy.save(folder / "tokens.npy",
                   numpy.random.default_rng(1).integers(0, model.VOCAB, (args.rows, args.tokens)).astype("i4"))
        with Server(folder / "data", "--workers", "1", "--http-listen", "", threads=args.threads) as server:
            whole, files = run(server, folder / "tokens.npy", folder / "whole", [])
            print(f"undisturbed {whole:.1f} s", flush=True)
            moments = sorted(random.Random(args.seed).uniform(0, whole) for _ in range(args.kills))
            killed, others = run(server, folder / "tokens.npy", folder / "killed", moments)
    print(f"with {args.kills} kills {killed:.1f} s: {(killed - whole) / max(1, args.kills):.1f} s a kill; "
          f"{'the same files' if files == others else 'OTHER FILES'}")
    return files != others


if __name__ == "__main__":
    sys.exit(main())
