#!/usr/bin/python3
"""A tensor through a server to S3 and back, beside curl to and from the same S3 server: the figures of docs/scale.md.

    tests/bench/load/s3_transfer.py [--mib 512] [--rounds 5] [--folder /var/tmp] [--build build/release]

In each round a new tensor, one transfer after the other: curl to S3, the C++ client library to a server, curl from S3 into a
file and into nothing, the first download and the second by the library from that server, into memory and hashed, and both by
curl over HTTP from another server into a file. A first download finds no copy in the server's cache. Prints each as a share
of curl's rate to or from S3, median of the rounds, and what memory the first server took for them.

PostgreSQL, tests/support/s3_server.py and the servers are processes of this machine, which all share its cores.
Needs the release programs, the benches (ATTNPRUNE_BUILD_BENCHMARKS), curl and ./dev.sh setup.
"""
import argparse
import hashlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
UP = ("curl to S3", "upload")
NOTHING = pathlib.Path("/dev/null")
DOWN = ("curl from S3", "first, gRPC", "second, gRPC", "first, HTTP", "second, HTTP", "curl into nothing")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/var/tmp"), help="of all files")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    return parser.parse_args()


args = parse()
os.environ.setdefault("ATTNPRUNE_BIN", str(args.build / "bin"))
sys.path[:0] = [str(ROOT / "tests/system"), str(args.build / "tests/system/stubs")]
from harness import BIN, Server  # pylint: disable=wrong-import-position
from postgres import Postgres  # pylint: disable=wrong-import-position
from s3 import SmallS3  # pylint: disable=wrong-import-position


def run(*command):
    return subprocess.run(list(map(str, command)), check=True, text=True, stdout=subprocess.PIPE).stdout


def curl(path, *arguments):
    """Seconds to get or send what becomes a new file at `path`."""
    if path != NOTHING:
        path.unlink(missing_ok=True)
    return float(run("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output", path, "--write-out",
                     "%{time_total}", *arguments))


def client(server, *arguments):
    """Seconds."""
    return float(run(BIN / "tensor_client", server.address, *arguments))


class HttpServer(Server):
    def __init__(self, folder, *flags):
        self.port_file = folder.with_suffix(".http")
        super().__init__(folder, "--http-listen", "127.0.0.1:0", "--http-port-file", self.port_file, *flags)

    def url(self, digest):
        return f"http://127.0.0.1:{self.port_file.read_text().strip()}/api/v1/tensors/{digest}"


class Transfers:
    def __init__(self, bucket, servers, folder):
        self.bucket, self.servers, self.folder = bucket, servers, folder

    def s3(self, path, digest, *arguments):
        """By curl, of an object of its own; digest: of what it sends."""
        name, secret = self.bucket.keys.values()
        return curl(path, "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{name}:{secret}", "--header",
                    f"x-amz-content-sha256: {digest}", *arguments, f"{self.bucket.endpoint}/tensors/by-curl")

    def round(self, tensor):
        """Seconds by transfer."""
        sent, got = self.folder / "sent", self.folder / "got"
        sent.write_bytes(tensor)
        digest, of_nothing = hashlib.sha256(tensor).hexdigest(), hashlib.sha256().hexdigest()
        grpc, http = self.servers
        times = {"curl to S3": self.s3(NOTHING, digest, "--upload-file", sent),
                 "upload": client(grpc, "upload", sent),
                 "curl from S3": self.s3(got, of_nothing),
                 "first, gRPC": client(grpc, "download", digest),
                 "second, gRPC": client(grpc, "download", digest),
                 "first, HTTP": curl(got, http.url(digest)),
                 "second, HTTP": curl(got, http.url(digest)),
                 "curl into nothing": self.s3(NOTHING, of_nothing)}
        assert hashlib.sha256(got.read_bytes()).hexdigest() == digest
        return times


def measure(transfers):
    tensor = bytearray(os.urandom(args.mib << 20))
    transfers.round(os.urandom(8 << 20))  # connections, allocators, code
    server = transfers.servers[0]
    before = server.memory_bytes()
    pathlib.Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak is of what follows
    rounds = []
    for number in range(args.rounds):
        tensor[:8] = number.to_bytes(8, "little")
        rounds.append(transfers.round(tensor))
        print("  ".join(f"{name} {seconds:.2f} s" for name, seconds in rounds[-1].items()), flush=True)
    report(rounds)
    print(f"memory: {(server.memory_bytes('VmHWM') - before) / 2**20:.0f} MiB at most, above {before / 2**20:.0f} MiB")


def report(rounds):
    for curls, *ours in (UP, DOWN):
        rate = args.mib / statistics.median(times[curls] for times in rounds)
        print(f"{curls}: {rate:.0f} MiB/s")
        for name in ours:
            shares = [times[curls] / times[name] for times in rounds]
            print(f"{name}: {statistics.median(shares):.0%} of it ({min(shares):.0%} to {max(shares):.0%})")


def main():
    with tempfile.TemporaryDirectory(prefix="attnprune-transfer-", dir=args.folder) as name:
        folder = tempfile.tempdir = name  # the S3 server's files too
        print(f"{args.mib} MiB, load before: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores", flush=True)
        with Postgres() as database, SmallS3() as bucket:
            os.environ.update(bucket.keys)
            flags = ("--store", database.url, "--blobs", bucket.url)
            first, second = (HttpServer(pathlib.Path(folder) / side, *flags) for side in ("grpc", "http"))
            with first, second:
                measure(Transfers(bucket, (first, second), pathlib.Path(folder)))


if __name__ == "__main__":
    main()
