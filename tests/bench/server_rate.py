#!/usr/bin/python3
"""A gd job's steps through the server against the library's, and what evaluations cost.

    tests/bench/server_rate.py [--build build/release] [--rounds 5] [--threads 1,2]

In turn, on the same data: the method in a program of the library, with and without an evaluation of the binary
mask every 10 steps; and a job of the server with those evaluations, while `attnprune submit --watch` follows it.
All are the seconds that the method's result tells. The tests' harness must be built (./dev.sh test once).
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

import numpy

from compare import AttnpruneStep, Size, make_data

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = [  # and steps that take some 20 s: several of a job's checkpoints, one every 5 s
    (Size("projections d=128 8h/4kv n=128 k=16", 128, 128, 16, 8, 4), 5000),
    (Size("projections d=512 8h/2kv n=512 k=4", 512, 512, 4, 8, 2), 600),
    (Size("projections d=2048 32h/8kv n=512 k=2", 2048, 512, 2, 32, 8), 110),
]


def job_flags(size, folder, data):
    import safetensors  # of tests/system
    as_tensor = lambda array: ("F32", list(array.shape), array.astype("<f4").tobytes())
    path = folder / "job.safetensors"
    safetensors.write(path, {name: as_tensor(array) for name, array in data.items()})
    return ["--weights", path, "--q", "w_q", "--k", "w_k", "--heads", size.heads, "--kv-heads", size.kv_heads,
            "--rope-theta", 10000, "--calibration", f"{path}:x"]


def through_the_server(cli, server, flags, steps, every):
    done = cli("submit", *flags, "--method", f"gd:steps={steps}", "--evaluate-every", every, "--watch", "--json",
               "--server", server.address)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)["results"][0]["seconds"] / steps


def measure(size, steps, threads, rounds, program):
    from harness import Server, cli
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = make_data(size, folder)
        library = AttnpruneStep(program, folder, size, threads)
        library.ask("gd 2 0")
        times = {"plain": [], "library": [], "server": []}
        with Server(folder / "data", threads=threads) as server:
            flags = job_flags(size, folder, data)
            through_the_server(cli, server, flags, 2, -1)
            for _ in range(rounds):
                times["plain"].append(float(library.ask(f"gd {steps} 0")))
                times["library"].append(float(library.ask(f"gd {steps} 10")))
                times["server"].append(through_the_server(cli, server, flags, steps, 10))
        library.close()
    ratio = lambda a, b: statistics.median(x / y for x, y in zip(times[a], times[b]))
    return statistics.median(times["library"]), ratio("library", "server"), ratio("library", "plain")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    args = parser.parse_args()
    build = pathlib.Path(args.build).resolve()
    os.environ["ATTNPRUNE_BIN"] = str(build / "bin")
    sys.path[:0] = [str(ROOT / "tests/system"), str(build / "tests/system/stubs")]
    print("| size | threads | a step in the library, ms | the server's steps per second | a step with evaluations |")
    print("|---|---|---|---|---|")
    for size, steps in SIZES:
        for threads in map(int, args.threads.split(",")):
            seconds, served, evaluated = measure(size, steps, threads, args.rounds, str(build / "bin/step_timer"))
            print(f"| {size.name} | {threads} | {1e3 * seconds:.3g} | {100 * served:.1f} % of the library's | "
                  f"{evaluated:.3f} x one without |", flush=True)


if __name__ == "__main__":
    main()
