#!/usr/bin/python3
"""What one PostgreSQL carries for several servers: the figures of docs/scale.md.

    tests/bench/load/scale.py [rates throughput latency queue] [--seconds 5] [--queued 10000 100000] [--build build/release]

- rates: creates, claims, renewals, events and looks at the queue a second, over 1 and 8 servers' stores (job_store_rate).
- throughput: jobs of 0.5 s on 1, 2, 4 and 8 servers of one worker, as a share of what they could do (job_store_rate).
- latency: from a step's write at one server to its watchers at another; from a cancel at a third to the end that they see.
- queue: with so many jobs that wait, CreateJob through gRPC, and the CPU that a server and the database take by waiting.

PostgreSQL 15 with fsync in /var/tmp, the S3 server of tests/support and the servers are processes of this machine: figures
are of all of them together. Needs the release programs, the benches (ATTNPRUNE_BUILD_BENCHMARKS) and ./dev.sh setup.
"""
import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
PARTS = ("rates", "throughput", "latency", "queue")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seconds", type=int, default=5, help="that each rate is measured")
    parser.add_argument("--queued", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    return parser.parse_args()


args = parse()
os.environ.setdefault("ATTNPRUNE_BIN", str(args.build / "bin"))
os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
sys.path[:0] = [str(ROOT / "tests/system"), str(args.build / "tests/system/stubs")]
from harness import layer_job, submit  # pylint: disable=wrong-import-position
from postgres import Postgres  # pylint: disable=wrong-import-position
from replica_set import Replicas  # pylint: disable=wrong-import-position
from s3 import SmallS3  # pylint: disable=wrong-import-position

ENDLESS = (("gd", {"steps": 1_000_000}),)


def milliseconds(values):
    tail = statistics.quantiles(values, n=100)
    return f"median {1e3 * statistics.median(values):.1f} ms, 99 % {1e3 * tail[98]:.1f} ms ({len(values)})"


# --- the store alone ---

def store_rate(database, folder, **flags):
    database.ask("DROP SCHEMA IF EXISTS attnprune CASCADE")
    told = subprocess.run([args.build / "bin/job_store_rate", f"--store={database.url}", f"--folder={folder}",
                           f"--seconds={args.seconds}", *(f"--{name}={value}" for name, value in flags.items())],
                          check=True, text=True, stdout=subprocess.PIPE).stdout
    print(told, end="", flush=True)


def rates(database, folder):
    for stores in (1, 8):
        print(f"-- 8 threads, {stores} servers, {args.queued[0]} queued")
        store_rate(database, folder, stores=stores, queued=args.queued[0])


def throughput(database, folder):
    print("-- jobs of 0.5 s, progress every 0.1 s")
    for stores in (1, 2, 4, 8):
        store_rate(database, folder, stores=stores, threads=stores, queued=40 * stores * args.seconds, job_ms=500)


# --- whole servers ---

def follow(client, name, seen, wanted):
    """Seconds from each write, by the database's clock, to here."""
    newest = 0
    for event in client.watch(name):
        written = event.time.ToNanoseconds()
        if event.HasField("progress") and written > newest:  # the first of each write
            seen.append(time.time() - written / 1e9)
            newest = written
        if len(seen) >= wanted or event.WhichOneof("event") == "terminal":
            return


def latency(replicas):
    here, there, third = replicas.clients
    seen = [[] for _ in range(8)]
    name = submit(here, methods=ENDLESS).name
    here.wait_for_step(name)
    threads = [threading.Thread(target=follow, args=(there, name, of_one, 20 * args.seconds)) for of_one in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    third.cancel(name)
    print(f"-- 3 servers; 8 watchers at one of them: {milliseconds([value for of_one in seen for value in of_one])}")
    cancels = []
    for _ in range(20):
        name = submit(here, methods=ENDLESS).name
        here.wait_for_step(name, 3)
        stream = there.watch(name)
        next(stream)
        begin = time.monotonic()
        third.cancel(name)
        list(stream)
        cancels.append(time.monotonic() - begin)
    print(f"from a cancel to the end that a watcher elsewhere sees: {milliseconds(cancels)}")


def cpu_seconds(processes):
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for process in processes:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / ticks


def backends(database):
    leader = pathlib.Path(f"{database.data}/postmaster.pid").read_text().split()[0]
    return [leader, *pathlib.Path(f"/proc/{leader}/task/{leader}/children").read_text().split()]


# A job with all its rows, so many times.
COPIES = """
CREATE TEMP TABLE copies AS SELECT number AS of, nextval('attnprune.job_numbers') AS copy
  FROM attnprune.jobs, generate_series(1, {count}) WHERE id = '{id}';
INSERT INTO attnprune.jobs SELECT (jsonb_populate_record(jobs, jsonb_build_object(
  'number', copy, 'id', 'copy' || copy, 'request_id', NULL))).* FROM attnprune.jobs JOIN copies ON number = of;
INSERT INTO attnprune.job_specs SELECT copy, spec FROM attnprune.job_specs JOIN copies ON job = of;
INSERT INTO attnprune.job_tensors SELECT copy, digest FROM attnprune.job_tensors JOIN copies ON job = of;
"""


def queue(replicas, database):
    here = replicas.clients[0]
    blocker = submit(here, methods=ENDLESS).name
    here.wait_for_step(blocker)
    # Nobody has it any more, and nobody computes, but it counts as the one that may run (--max-running-per-tenant).
    database.ask("UPDATE attnprune.jobs SET fence = fence + 1, lease_owner = 'nobody', lease_until = 2 * lease_until "
                 f"WHERE id = '{blocker[5:]}'")
    job, _ = layer_job(methods=(("magnitude", {}),))
    first = here.create(job).name[5:]
    waiting = 1
    for count in args.queued:
        database.ask(COPIES.format(count=count - waiting, id=first))
        database.ask("VACUUM ANALYZE attnprune.jobs")
        waiting = count
        times = []
        for _ in range(300):
            begin = time.monotonic()
            here.create(job)
            times.append(time.monotonic() - begin)
        waiting += len(times)
        before = cpu_seconds(backends(database)), time.monotonic()
        time.sleep(40)  # more than a lease: passes of upkeep at every server
        after = cpu_seconds(backends(database)), time.monotonic()
        share = (after[0] - before[0]) / (after[1] - before[1])
        begin = time.monotonic()
        here.get(f"jobs/{first}")
        print(f"-- {count} queued, 3 servers: CreateJob {milliseconds(times)}; GetJob of one that waits "
              f"{time.monotonic() - begin:.2f} s; the database takes {100 * share:.0f} % of a core", flush=True)


def whole_servers(database, folder, parts):
    database.ask("DROP SCHEMA IF EXISTS attnprune CASCADE")
    with SmallS3() as bucket:
        os.environ.update(bucket.keys)
        flags = ("--store", database.url, "--blobs", bucket.url, "--max-queued-jobs", "1000000",
                 "--max-running-per-tenant", "1")
        with Replicas(folder, 3, flags, random.Random(0)) as replicas:
            connections = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            if "latency" in parts:
                latency(replicas)
            print(f"connections of 3 servers: {database.ask(connections)[0]}", flush=True)
            if "queue" in parts:
                queue(replicas, database)


def main():
    with tempfile.TemporaryDirectory(prefix="attnprune-scale-", dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        print(f"load before: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores", flush=True)
        with Postgres(fsync=True, parent="/var/tmp") as database:
            if "rates" in args.parts:
                rates(database, folder)
            if "throughput" in args.parts:
                throughput(database, folder)
            if {"latency", "queue"} & set(args.parts):
                whole_servers(database, folder, args.parts)
        print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
