#!/usr/bin/python3
"""What a server's memory is once hostile inputs are over: within 20 MiB of before, or exit code 1.

    tests/bench/load/hostile.py [--build build/release] [--only lists,names,...]

A server for each input, warmed up by what every client does: a job to its end, an upload, a list over HTTP. Then its resident memory
is read, the input is given, its connections are closed, and the memory is read again until it is within 20 MiB of before, for
40 s at most (the server gives memory back within 20 s of a burst). Inputs that stop a server and damage its folder (flip, links) are compared with what the folder's
next server takes.

- lists: five ListJobs with 300,000 labels;
- names: a job with a tensor name of 3.9 MB;
- headers: 10,000 uploads that send no byte;
- gzip: a message of 0.4 MB that unpacks to 400;
- encoding: 200 HTTP requests of an unknown Transfer-Encoding;
- flip: a flipped byte in the write-ahead log: refused, then started with --accept-loss;
- links: checkpoints/ and lock as links: refused, then started without them;
- sizes: 300 headers that name a stored tensor of 256 MiB with another size;
- escapes: 200 jobs whose labels are escape sequences;
- downloads: 150 of 4 MiB that nobody reads.
"""
import argparse
import contextlib
import gzip
import os
import pathlib
import socket
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIB = 1 << 20
ALLOWED = 20 * MIB
GIVEN_BACK = 40  # seconds


def load(build):
    """The stubs and what the system tests have for a client, once the build's folder is known."""
    global grpc, job_api, prune_api, tensor_api, harness
    os.environ["ATTNPRUNE_BIN"] = str(build / "bin")
    sys.path[:0] = [str(build / "tests/system/stubs"), str(ROOT / "tests/system")]
    import grpc
    import harness
    from attnprune.v1 import job_pb2 as job_api
    from attnprune.v1 import prune_service_pb2 as prune_api
    from attnprune.v1 import tensor_service_pb2 as tensor_api


def server_on(folder, *flags):
    server = harness.Server(folder, "--http-listen", "127.0.0.1:0", "--http-port-file", folder.with_suffix(".http"), *flags)
    server.start()
    return server


def http_port(server):
    return int(server.folder.with_suffix(".http").read_text())


def quick(client, **fields):
    return harness.submit(client, methods=(("magnitude", {}),), **fields)


def upload_of(client, size):
    data = b"\1" * size
    ref = harness.tensor_ref("x", "F32", [size // 4], data)
    client.upload(ref, data)
    return ref


def warm_up(server):
    with harness.Client(server.address) as client:
        for _ in range(3):
            client.finish(quick(client).name)
        client.download(upload_of(client, 4 * MIB).sha256)
        client.jobs.ListJobs(prune_api.ListJobsRequest())
    urllib.request.urlopen(f"http://127.0.0.1:{http_port(server)}/api/v1/jobs", timeout=60).read()


def refused(call, *arguments, **options):
    try:
        call(*arguments, timeout=60, **options)
    except grpc.RpcError as error:
        return error.code().name
    return "taken"


def raw(client, method):
    return client.channel.unary_unary(f"/attnprune.v1.PruneService/{method}", request_serializer=lambda x: x,
                                      response_deserializer=lambda x: x)


# --- The inputs: each says what came of it ---

def lists(server):
    with harness.Client(server.address, **{"grpc.max_send_message_length": -1}) as client:
        said = []
        for i in range(5):
            labels = (b"%x" % j for j in range(300000 - i))
            body = b"".join(b"\x22" + bytes([len(k) + 2]) + b"\x0a" + bytes([len(k)]) + k for k in labels)
            said.append(refused(raw(client, "ListJobs"), body))
    return f"{len(said)} x {said[0]}"


def names(server):
    with harness.Client(server.address) as client:
        job, tensors = harness.layer_job(methods=(("magnitude", {}),))
        client.upload_missing(tensors)
        job.problem.projections.w_q.name = "n" * 3_900_000
        said = refused(client.jobs.CreateJob, prune_api.CreateJobRequest(job=job))
        client.jobs.ListJobs(prune_api.ListJobsRequest(page_size=1000))
    return said


def headers(server):
    def one(number):
        yield tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(
            upload_id=f"s{number}", sha256=f"{number:064x}", size_bytes=4, dtype=job_api.F32))
    with harness.Client(server.address) as client:
        said = [refused(client.tensors.UploadTensor, one(i)) for i in range(10000)]
    return f"{len(said)} x {said[0]}"


def gzip_bomb(server):
    with harness.Client(server.address, **{"grpc.max_send_message_length": -1}) as client:
        body = b"\x0a\x80\x80\x80\xc8\x01" + b"j" * (400 << 20)
        return refused(raw(client, "GetJob"), body, compression=grpc.Compression.Gzip)


def encoding(server):
    answers = set()
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", http_port(server)), timeout=10) as one:
            one.sendall(b"POST /api/v1/jobs/x:cancel HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: xchunked\r\n\r\n"
                        b"GET /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            with contextlib.suppress(OSError):
                answer = b""
                while data := one.recv(65536):
                    answer += data
            answers.add((answer[9:12].decode(), answer.count(b"HTTP/1.1 ")))
    return f"200 requests, answered once each, code {answers.pop()[0]}" if len(answers) == 1 else f"unlike answers: {answers}"


def restarted(server, damage, mend):
    """Refused while damaged, and started once it is mended."""
    server.kill()
    damage()
    code, said = server.refuse()
    mend()
    server.start()
    return f"refused with {code}: {said.strip().splitlines()[-1][-60:]}"


def flip(server):
    log = server.folder / "jobs.sqlite3-wal"

    def damage():
        data = bytearray(log.read_bytes())
        data[5845] ^= 1
        log.write_bytes(data)

    def mend():
        server.flags += ("--accept-loss",)
    return restarted(server, damage, mend)


def links(server):
    elsewhere, checkpoints = server.folder.with_name("elsewhere"), server.folder / "checkpoints"

    def damage():
        elsewhere.mkdir()
        (elsewhere / "thesis.tex").write_text("x")
        checkpoints.rmdir()
        checkpoints.symlink_to(elsewhere)

    def mend():
        checkpoints.unlink()
        assert (elsewhere / "thesis.tex").exists()
    return restarted(server, damage, mend)


def sizes(server):
    with harness.Client(server.address) as client:
        ref = upload_of(client, 256 * MIB)
        calls = [client.tensors.UploadTensor.future(iter([tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(
            upload_id=f"a{i}", sha256=ref.sha256, size_bytes=4, dtype=job_api.F32))])) for i in range(300)]
        codes = {call.code().name for call in calls}
    return f"300 x {codes}"


def escapes(server):
    with harness.Client(server.address) as client:
        for _ in range(200):
            quick(client, labels={"a": "\x1b]0;pwn\x07\nstate     succeeded"})
        harness.wait_for(lambda: not client.jobs.ListJobs(prune_api.ListJobsRequest(
            states=[job_api.QUEUED, job_api.RUNNING])).jobs, "all have ended", 600)
        said = harness.cli("list", "--server", server.address).stdout
    return f"200 listed, raw escapes: {said.count(chr(27))}"


def downloads(server):
    with harness.Client(server.address) as client:
        request = tensor_api.DownloadTensorRequest(sha256=upload_of(client, 4 * MIB).sha256)
        streams = [client.tensors.DownloadTensor(request) for _ in range(150)]
        next(streams[0])
        time.sleep(4)  # all have what they may
        for stream in streams:
            stream.cancel()
    return "150 unread"


INPUTS = {"lists": lists, "names": names, "headers": headers, "gzip": gzip_bomb, "encoding": encoding, "flip": flip,
          "links": links, "sizes": sizes, "escapes": escapes, "downloads": downloads}


def settled(server, seconds, enough):
    """The least resident memory within so many seconds, or the first that is enough."""
    end, least = time.monotonic() + seconds, server.memory_bytes()
    while least > enough and time.monotonic() < end:
        time.sleep(0.5)
        least = min(least, server.memory_bytes())
    return least


def measure(folder, name):
    server = server_on(folder / "data")
    try:
        warm_up(server)
        before = settled(server, 25, 0)
        said = INPUTS[name](server)
        peak = server.memory_bytes("VmHWM")
        after = settled(server, GIVEN_BACK, before + ALLOWED // 20)
    finally:
        server.kill()
    within = after <= before + ALLOWED
    print(f"{name:10} {before / MIB:5.0f} MiB before, {peak / MIB:5.0f} at most, {after / MIB:5.0f} after  "
          f"{'' if within else 'MORE THAN 20 MiB: '}{said}", flush=True)
    return within


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--only", default=",".join(INPUTS))
    args = parser.parse_args()
    load(args.build.resolve())
    within = []
    for name in args.only.split(","):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            within.append(measure(pathlib.Path(folder), name))
    sys.exit(0 if all(within) else 1)


if __name__ == "__main__":
    main()
