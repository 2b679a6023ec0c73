#!/usr/bin/python3
"""Jobs and runs on replicas that are killed, over a database that crashes and a bucket that goes away.

    tests/bench/load/replicas.py [--replicas 3] [--jobs 60] [--kills 20] [--restarts 5] [--outages 5]
                                 [--outage-seconds 10] [--at-once 12] [--lease 3s] [--seed N] [--build build/release]

The replicas are processes of attnprune-server on one PostgreSQL 15 and one S3 server on loopback
(tests/support/s3_server.py). Jobs of every method and runs in both orders are made at any replica, --at-once of them
outstanding, each followed by a watcher that reconnects anywhere. Meanwhile, evenly over the jobs, random replicas are
killed (SIGKILL) and started again, PostgreSQL is stopped at once (-m immediate) and started, and the S3 server is away
for --outage-seconds.

Then every job must be there once, have ended once and SUCCEEDED, with each result once, a fence that its changes of state
account for, and the bits of an undisturbed server; and its watcher must have missed nothing. Exits with 1 otherwise.

Needs the release programs, PostgreSQL 15 and python3-grpcio, python3-protobuf, python3-numpy (./dev.sh setup).
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("replicas", 3), ("jobs", 60), ("kills", 20), ("restarts", 5), ("outages", 5), ("at-once", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--outage-seconds", type=float, default=10)
    parser.add_argument("--lease", default="3s")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    return parser.parse_args()


args = parse()
os.environ.setdefault("ATTNPRUNE_BIN", str(args.build / "bin"))
os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
sys.path[:0] = [str(ROOT / "tests/system"), str(args.build / "tests/system/stubs")]
from harness import BIN, MODEL, Client, Server  # pylint: disable=wrong-import-position
from postgres import Postgres  # pylint: disable=wrong-import-position
from replica_set import Replicas, Series, job_work, learn_undisturbed, run_work  # pylint: disable=wrong-import-position
from s3 import SmallS3  # pylint: disable=wrong-import-position
from attnprune.v1 import prune_service_pb2 as prune_api  # pylint: disable=wrong-import-position

# A method's parameters, so that it takes seconds, not minutes; others as they are by default.
PARAMETERS = {"gd": {"steps": 400}, "ste": {"steps": 300}, "joint": {"steps": 300}, "kfac": {"rounds": 2}}
RUN = ("--model", MODEL, "--tokens", MODEL / "held_out.safetensors", "--sparsity", "0.5", "--method", "alps")


def works_of(client, server):
    """A job of each method, one of several, and a run in each order."""
    methods = [method.name for method in client.jobs.GetServerInfo(prune_api.GetServerInfoRequest()).methods]
    works = [job_work(((name, PARAMETERS.get(name.partition("+")[0], {})),)) for name in methods]
    works.append(job_work((("magnitude", {}), ("gd", {"steps": 300}), ("alps", {}))))
    for order in ("sequential", "independent"):
        told = subprocess.run([BIN / "attnprune", "submit", "--run", *map(str, RUN), "--order", order, "--json", "--server",
                               server.address], check=True, text=True, capture_output=True).stdout
        works.append(run_work(client, json.loads(told)["name"], f"run, {order}"))
    return works


def main():
    dice = random.Random(args.seed)
    print(f"seed {args.seed}", flush=True)
    os.environ.update(SmallS3.keys)
    with tempfile.TemporaryDirectory(prefix="attnprune-replicas-", dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        with Server(folder / "alone") as server, Client(server.address) as client:
            works = works_of(client, server)
            learn_undisturbed(server, client, works)
        print(f"{len(works)} kinds: {', '.join(work.title for work in works)}", flush=True)
        with Postgres() as database, SmallS3() as bucket:
            flags = ("--store", database.url, "--blobs", bucket.url, "--lease", args.lease, "--checkpoint-interval", "500ms")
            with Replicas(folder, args.replicas, flags, dice) as replicas:
                begin = time.monotonic()
                series = Series(replicas, database, bucket, works, args.jobs, args.at_once)
                faults = series.run(args.kills, args.restarts, args.outages, args.outage_seconds)
                seconds = time.monotonic() - begin
                attempts = [int(value) for value in database.ask("SELECT attempt FROM attnprune.jobs")]
                moves = sum(watcher.moves for watcher in series.watchers.values())
                events = sum(len(watcher.events) for watcher in series.watchers.values())
    lost = sum("lost" in fault for fault in faults)
    print(f"{len(series.made)} jobs and runs in {seconds:.0f} s on {args.replicas} replicas, {args.kills} kills, "
          f"{args.restarts} crashes of PostgreSQL, {args.outages} outages of S3 of {args.outage_seconds:g} s; "
          f"{sum(attempts)} attempts, {max(attempts)} at most; {events} events seen by watchers that moved {moves} times")
    print(f"{lost} lost, {len(faults)} faults")
    for fault in faults[:50]:
        print(f"  {fault}"[:400])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
