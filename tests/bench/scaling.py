#!/usr/bin/python3
"""Time of a gd step against n, d, k, heads and threads, one changed at a time, with fitted exponents.

    tests/bench/scaling.py [--build build/release] [--rounds 5]

Base: projections, d = 512, 8 heads of 64, 2 kv heads, n = 512, k = 4, one thread. The exponent is the slope of
log time against log of what changes, by least squares over the row.
"""
import argparse
import pathlib
import statistics
import tempfile

import numpy

from compare import AttnpruneStep, Size, in_a_row, make_data

BASE = {"d": 512, "n": 512, "k": 4, "heads": 8, "kv_heads": 2}
ROWS = {
    "n (tokens a batch)": [{"n": n} for n in (128, 256, 512, 1024, 2048)],
    "d (features; heads of 64)": [
        {"d": d, "heads": d // 64, "kv_heads": d // 256} for d in (256, 512, 1024, 2048)],
    "k (batches)": [{"k": k} for k in (1, 2, 4, 8, 16)],
    "heads (of d / heads)": [{"heads": h, "kv_heads": h // 4} for h in (4, 8, 16, 32)],
    "threads": [{"threads": t} for t in (1, 2)],
}


def seconds(change, rounds, program):
    options = {**BASE, **change}
    threads = options.pop("threads", 1)
    size = Size("", **options)
    with tempfile.TemporaryDirectory() as name:
        make_data(size, pathlib.Path(name))
        ours = AttnpruneStep(program, name, size, threads)
        count = in_a_row(float(ours.ask("step 2")))
        times = [float(ours.ask(f"step {count}")) for _ in range(rounds)]
        ours.close()
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    program = str(pathlib.Path(args.build) / "bin" / "step_timer")
    print("| what changes | values | ms a step | exponent |")
    print("|---|---|---|---|")
    for name, changes in ROWS.items():
        values = [next(iter(change.values())) for change in changes]
        times = [seconds(change, args.rounds, program) for change in changes]
        slope = numpy.polyfit(numpy.log(values), numpy.log(times), 1)[0]
        print(f"| {name} | {', '.join(map(str, values))} | "
              f"{', '.join(f'{1e3 * t:.3g}' for t in times)} | {slope:.2f} |", flush=True)


if __name__ == "__main__":
    main()
