"""Uploads through kills of the server and of the client: resumed, whole, nothing sent twice."""
import hashlib
import json
import struct
import subprocess
import threading

import grpc
import numpy

from harness import BIN, CHUNK, LIMIT, Client, CountingProxy, Server, cli, tensor_ref, wait_for
from attnprune.v1 import tensor_service_pb2 as tensor_api

MIB = 1 << 20


def random_tensor(mib, dice):
    data = numpy.random.default_rng(dice.randrange(2**32)).bytes(mib * MIB)
    return tensor_ref("w", "F32", [mib * MIB // 4096, 1024], data), data


def committed(client, ref):
    return client.tensors.QueryUpload(
        tensor_api.QueryUploadRequest(upload_id=ref.sha256)).committed_bytes


def test_an_upload_survives_kills_of_the_server_at_random_offsets(tmp_path, dice):
    ref, data = random_tensor(64, dice)
    with Server(tmp_path / "data") as server:
        offset, kills = 0, 0
        while kills < 6:
            kill_at = min(offset + dice.randrange(1, 12) * MIB + dice.randrange(MIB), len(data) - 1)
            with Client(server.address) as client:
                offset = send_until_killed(server, client, ref, data, offset, kill_at)
            kills += 1
            server.start()
            with Client(server.address) as client:
                after = committed(client, ref)
                assert after >= offset - CHUNK, "at most the chunk in flight is lost"
                offset = after
        with Client(server.address) as client:
            client.upload(ref, data, offset=offset)
            assert client.download(ref.sha256) == data


def send_until_killed(server, client, ref, data, offset, kill_at):
    """Sends chunk by chunk, waiting until each is on the server; kills it from `kill_at` on.

    Returns what the server had committed, as far as it said so before it died."""
    acknowledged = offset
    reached = threading.Event()

    def messages():
        nonlocal acknowledged
        yield tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(
            upload_id=ref.sha256, sha256=ref.sha256, size_bytes=len(data), offset=offset,
            dtype=ref.dtype))
        for start in range(offset, len(data), CHUNK):
            yield tensor_api.UploadTensorRequest(data=data[start:start + CHUNK])
            if start + CHUNK < kill_at:
                acknowledged = start + CHUNK
                wait_for(lambda: committed(client, ref) >= acknowledged, "the chunk arrives")
            else:
                reached.set()
    call = client.tensors.UploadTensor.future(messages())
    assert reached.wait(LIMIT)
    server.kill()
    assert isinstance(call.exception(), grpc.RpcError)
    return acknowledged


def test_a_kill_of_the_server_under_a_streaming_client_costs_one_chunk_at_most(tmp_path, dice):
    ref, data = random_tensor(96, dice)
    weights = tmp_path / "w.safetensors"
    write_weights(weights, data, ref.shape)
    with Server(tmp_path / "data") as server:
        # What has been sent is less than the tensor at each of them: the upload is under way.
        kills = 6
        proxy = CountingProxy(server, dice.sample(range(MIB, len(data)), kills))
        done = cli(*submit_arguments(weights, proxy.address))
        assert done.returncode == 0, done.stderr
        assert not proxy.kill_at, "every kill hit the upload"
        with Client(server.address) as own:
            assert own.download(ref.sha256) == data
        # Beside the chunk that is in flight: gRPC's window of 64 KiB, headers, the job itself, and
        # of what is sent once HTTP/2's 9 bytes a frame of 16 KiB.
        framing = len(data) // (16 << 10) * 9
        allowed = kills * (CHUNK + (96 << 10)) + (1 << 16) + framing
        assert proxy.sent_bytes - len(data) <= allowed


def submit_arguments(weights, address):
    return ["submit", "--weights", weights, "--q", "q", "--k", "k", "--heads",
            "1", "--calibration", f"{weights}:x", "--method", "magnitude", "--patience", "60s",
            "--server", address]


def test_the_command_line_goes_on_with_an_upload_that_its_killed_predecessor_began(tmp_path, dice):
    # A layer whose weights take a while to send, as a file that the command line reads.
    ref, data = random_tensor(48, dice)
    weights = tmp_path / "w.safetensors"
    write_weights(weights, data, ref.shape)
    with Server(tmp_path / "data") as server, Client(server.address) as client:
        arguments = submit_arguments(weights, server.address)
        kills = 0
        for _ in range(5):
            before = committed(client, ref)
            aim = before + dice.randrange(1, 8) * MIB
            process = subprocess.Popen([BIN / "attnprune", *map(str, arguments)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: committed(client, ref) >= aim or process.poll() is not None,
                     "the upload goes on")
            kills += process.poll() is None
            process.kill()
            process.wait()
            assert committed(client, ref) >= before or is_there(client, ref), "nothing is lost"
        assert kills >= 1, "no kill hit an upload under way"
        done = cli(*arguments)
        assert done.returncode == 0, done.stderr
        assert client.download(ref.sha256) == data


def is_there(client, ref):
    request = tensor_api.FindMissingTensorsRequest(sha256=[ref.sha256])
    return not client.tensors.FindMissingTensors(request).missing


def write_weights(path, data, shape):
    """Queries and keys of the same bytes, which are one upload."""
    x = numpy.ones((8, shape[1]), "<f4").tobytes()
    header = json.dumps({
        "q": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, len(data)]},
        "k": {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), 2 * len(data)]},
        "x": {"dtype": "F32", "shape": [8, shape[1]],
              "data_offsets": [2 * len(data), 2 * len(data) + len(x)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data + data + x)


def test_an_upload_of_the_wrong_bytes_never_counts(client, dice):
    ref, data = random_tensor(2, dice)
    spoiled = data[:-1] + bytes([data[-1] ^ 1])
    try:
        client.upload(ref, spoiled)
        raise AssertionError("accepted")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert hashlib.sha256(spoiled).hexdigest() in error.details()
    assert not is_there(client, ref)
