#!/usr/bin/python3
"""Whether the embedded form, SQLite and a folder, got slower: the servers of two builds in turn.

    tests/bench/builds.py BUILD OLD_BUILD [--rounds 7] [--creates 300] [--jobs 200] [--mib 256]

- create: CreateJob while a job runs, so that those made only wait, the median of a round.
- job: from the first CreateJob of so many jobs of 8 x 8 weights to the end of the last: each is created, claimed, solved
  in no time, its results stored, and finished.
- upload, download: a tensor by the first build's client library (tensor_client).

Prints each build's median of the rounds and the ratio, new to old, of each round: its median and its ends. The folders are
in TMPDIR: on a disk, not in memory. The stubs are those of the first build; the second needs attnprune-server alone.
"""
import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2, type=lambda path: pathlib.Path(path).resolve())
    for name, value in (("rounds", 7), ("creates", 300), ("jobs", 200), ("mib", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


args = parse()
os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
sys.path[:0] = [str(ROOT / "tests/system"), str(args.builds[0] / "tests/system/stubs")]
import harness  # pylint: disable=wrong-import-position
from attnprune.v1 import job_pb2 as job_api  # pylint: disable=wrong-import-position


def little_job():
    """(job, its tensors to upload)."""
    dice, tensors = random.Random(0), []
    for name in ("w_q", "w_k", "x"):
        data = dice.randbytes(8 * 8 * 2)  # of float16 some are not finite
        data = bytes(byte & 0x3b if i % 2 else byte for i, byte in enumerate(data))
        tensors.append((harness.tensor_ref(name, "F16", [8, 8], data), data))
    w_q, w_k, x = (ref for ref, _ in tensors)
    problem = job_api.Problem(projections=job_api.ProjectionProblem(w_q=w_q, w_k=w_k, heads=1, kv_heads=1))
    return job_api.Job(problem=problem, calibration=[x], sparsity=job_api.Sparsity(fraction=0.5),
                       methods=[job_api.Method(name="magnitude")]), tensors


def seconds(action):
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def measure_jobs(client):
    job, tensors = little_job()
    client.upload_missing(tensors)
    client.finish(client.create(job).name)

    def work():
        names = [client.create(job).name for _ in range(args.jobs)]
        for name in names:
            assert client.finish(name).state == job_api.SUCCEEDED
    return seconds(work) / args.jobs


def measure_creates(client):
    job, _ = little_job()
    blocker, tensors = harness.layer_job(methods=[("gd", {"steps": 1000000})])
    client.upload_missing(tensors)
    client.wait_for_step(client.create(blocker).name)
    return statistics.median(seconds(lambda: client.create(job)) for _ in range(args.creates))


def transfer(server, *arguments):
    program = args.builds[0] / "bin/tensor_client"
    return float(subprocess.run([program, server.address, *arguments], check=True, text=True,
                                stdout=subprocess.PIPE).stdout)


def measure(build, tensor, digest):
    """Milliseconds by what is measured."""
    harness.BIN = build / "bin"
    with tempfile.TemporaryDirectory() as name:
        with harness.Server(pathlib.Path(name) / "data") as server, harness.Client(server.address) as client:
            times = {"job": measure_jobs(client), "create": measure_creates(client)}
        with harness.Server(pathlib.Path(name) / "tensors") as server:
            times["upload"] = transfer(server, "upload", tensor)
            times["download"] = min(transfer(server, "download", digest) for _ in range(3))
    return {what: 1e3 * value for what, value in times.items()}


def main():
    rounds = {build: [] for build in args.builds}
    with tempfile.NamedTemporaryFile() as file:
        data = os.urandom(args.mib << 20)
        file.write(data)
        file.flush()
        digest = harness.tensor_ref("", "F32", [], data).sha256
        for number in range(args.rounds):
            for build in args.builds if number % 2 else args.builds[::-1]:
                rounds[build].append(measure(build, file.name, digest))
    new, old = (rounds[build] for build in args.builds)
    for what in new[0]:
        ratios = sorted(a[what] / b[what] for a, b in zip(new, old))
        print(f"{what}: {statistics.median(a[what] for a in new):.2f} ms, before "
              f"{statistics.median(b[what] for b in old):.2f}: {statistics.median(ratios):.2f} of it "
              f"({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
