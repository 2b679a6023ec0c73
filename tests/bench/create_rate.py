#!/usr/bin/python3
"""What CreateJob takes with the servers of two builds, in turn: median and 99th percentile in milliseconds.

    tests/bench/create_rate.py BUILD OTHER_BUILD [--creates 300] [--rounds 5]

A job runs all the while, so that those made only wait. The folders are in TMPDIR: on a disk, not in memory. The stubs
are those of the first build (./dev.sh test once).
"""
import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def measure(build, creates):
    import harness
    harness.BIN = build / "bin"
    with tempfile.TemporaryDirectory() as name:
        with harness.Server(pathlib.Path(name) / "data") as server, harness.Client(server.address) as client:
            job, tensors = harness.layer_job(methods=[("gd", {"steps": 1000000})])
            client.upload_missing(tensors)
            client.wait_for_step(client.create(job).name)
            times = []
            for _ in range(creates):
                begin = time.perf_counter()
                client.create(job)
                times.append(1e3 * (time.perf_counter() - begin))
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2, type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--creates", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests/system"), str(args.builds[0] / "tests/system/stubs")]
    times = {build: [] for build in args.builds}
    for _ in range(args.rounds):
        for build in args.builds:
            times[build].append(measure(build, args.creates))
    for build, rounds in times.items():
        medians = sorted(statistics.median(of_round) for of_round in rounds)
        late = sorted(statistics.quantiles(of_round, n=100)[98] for of_round in rounds)
        print(f"{build}: median {statistics.median(medians):.2f} ({medians[0]:.2f} to {medians[-1]:.2f}), "
              f"99th percentile {statistics.median(late):.1f}")


if __name__ == "__main__":
    os.environ["OPENBLAS_CORETYPE"] = "Haswell"
    main()
