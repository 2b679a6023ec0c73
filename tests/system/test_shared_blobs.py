"""Two servers of one PostgreSQL and one place of tensors: a folder, or a bucket of two S3-compatible servers."""
import hashlib
import http.client
import json
import os
import pathlib
import time

import grpc
import pytest

from harness import CHUNK, LIMIT, Client, Server, cli, digests, layer_job, submit, wait_for
from s3 import S3RVER, S3rver, SmallS3
from test_python_client import details
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import tensor_service_pb2 as tensor_api

class HttpServer(Server):
    def __init__(self, folder, *flags):
        self.port_file = folder.with_suffix(".http")
        super().__init__(folder, "--http-listen", "127.0.0.1:0", "--http-port-file", self.port_file, *flags)

    def get(self, path, headers=()):
        connection = http.client.HTTPConnection(f"127.0.0.1:{self.port_file.read_text().strip()}", timeout=LIMIT)
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse()


LONG = (("gd", {"steps": 200}),)
QUICK = (("magnitude", {}),)


@pytest.fixture(name="small_s3", scope="module")
def run_small_s3():
    with SmallS3() as server:
        yield server


@pytest.fixture(name="s3rver", scope="module")
def run_s3rver():
    if not S3RVER.exists():
        pytest.skip(f"{S3RVER} is not there: ./dev.sh test installs it, where npm's registry answers")
    with S3rver() as server:
        yield server


@pytest.fixture(name="keys")
def set_keys(small_s3, monkeypatch):
    for name, value in small_s3.keys.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(name="bucket")
def empty_bucket(small_s3, keys):
    del keys
    for name in (small_s3.folder / "objects").iterdir():
        name.unlink()
    return ("--blobs", small_s3.url)


@pytest.fixture(name="blobs", params=["folder", "bucket", "s3rver"])
def any_place(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return ("--blobs", f"file://{tmp_path}/shared")
    if request.param == "bucket":
        return request.getfixturevalue("bucket")
    server = request.getfixturevalue("s3rver")
    for name, value in server.keys.items():
        monkeypatch.setenv(name, value)
    return ("--blobs", server.url)


@pytest.fixture(name="undisturbed", scope="module")
def run_undisturbed(tmp_path_factory):
    """What the job comes to on a server with its jobs and tensors in its folder."""
    with Server(tmp_path_factory.mktemp("undisturbed") / "data") as server, Client(server.address) as client:
        return digests(client.finish(submit(client, methods=LONG).name))


def running_one(database, servers):
    """Of the servers, the one that has the running job, and the other."""
    owner = wait_for(lambda: database.ask("SELECT lease_owner FROM attnprune.jobs WHERE state = 2"), "it runs")[0]
    first = owner.endswith((servers[0].folder / "folder-id").read_text().strip())
    return servers if first else servers[::-1]


def test_a_job_goes_on_at_the_other_server_with_the_same_bits(tmp_path, database, store, blobs, undisturbed):
    flags = (*store, *blobs, "--checkpoint-interval", "50ms", "--lease", "2s")
    with Server(tmp_path / "a", *flags) as a, Server(tmp_path / "b", *flags) as b:
        job, tensors = layer_job(methods=LONG)
        with Client(b.address) as client:
            client.upload_missing(tensors)
        with Client(a.address) as client:
            name = client.create(job).name
            client.wait_for_step(name, 60)
        runs, other = running_one(database, (a, b))
        runs.kill()
        with Client(other.address) as client:
            done = client.finish(name)
            assert done.state == job_api.SUCCEEDED and done.attempt == 2
            events = list(client.watch(name))
            assert not any(event.HasField("warning") for event in events)
            steps = [event.progress.step for event in events if event.HasField("progress")]
            assert steps.count(min(steps)) == 1, "it went on from its checkpoint"
            assert digests(done) == undisturbed
            assert client.download(done.results[0].matrices[0].mask.sha256)


def test_an_upload_goes_on_at_the_server_that_starts_again_and_at_another(tmp_path, store, bucket):
    data = os.urandom(18 << 20)
    header = {"upload_id": "u", "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "dtype": "F32"}

    def upload(client, begin, end):
        def messages():
            yield tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(offset=begin, **header))
            for start in range(begin, end, CHUNK):
                yield tensor_api.UploadTensorRequest(data=data[start:min(start + CHUNK, end)])
        return client.tensors.UploadTensor(messages())

    def committed(client):
        return client.tensors.QueryUpload(tensor_api.QueryUploadRequest(upload_id="u")).committed_bytes

    with Server(tmp_path / "a", *store, *bucket) as a, Server(tmp_path / "b", *store, *bucket) as b:
        with Client(a.address) as client, pytest.raises(grpc.RpcError) as ended:
            upload(client, 0, 10 << 20)
        assert ended.value.code() == grpc.StatusCode.INVALID_ARGUMENT, "bytes are missing"
        with Client(b.address) as client:
            assert committed(client) == 10 << 20
            with pytest.raises(grpc.RpcError):
                upload(client, 10 << 20, 17 << 20)
        a.kill()
        a.start()
        with Client(a.address) as client:
            assert committed(client) == 17 << 20
            upload(client, 17 << 20, len(data))
            assert client.download(header["sha256"]) == data
    del b


def test_a_bucket_that_is_away_is_told_and_costs_no_bit(tmp_path, database, store, small_s3, bucket, undisturbed):
    flags = (*store, *bucket, "--checkpoint-interval", "50ms")
    with Server(tmp_path / "a", *flags) as server, Client(server.address) as client:
        name = submit(client, methods=LONG).name
        client.wait_for_step(name, 30)
        health = ("health", "--server", server.address)
        with small_s3.stopped():
            wait_for(lambda: cli(*health).returncode == 3, "health says so")
            with pytest.raises(grpc.RpcError) as refused:
                submit(client, methods=QUICK)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert small_s3.endpoint in refused.value.details() and "RetryInfo" in details(refused.value)
            client.wait_for_step(name, 60)  # it solves on
        wait_for(lambda: cli(*health).returncode == 0, "health says that it is back")
        done = client.finish(name)
        assert done.state == job_api.SUCCEEDED
        assert digests(done) == undisturbed
        text = server.log + "".join(database.ask("SELECT encode(payload, 'escape') FROM attnprune.job_events"))
        assert "opensesame" not in text
        assert b"opensesame" not in pathlib.Path(f"/proc/{server.process.pid}/cmdline").read_bytes()


def test_a_job_that_cannot_read_its_tensors_waits_for_them(tmp_path, store, small_s3, bucket):
    with Server(tmp_path / "a", *store, *bucket, "--blob-cache-bytes", "0") as server:
        with Client(server.address) as client:
            job, tensors = layer_job(methods=QUICK)
            client.upload_missing(tensors)
            blocker = client.create(layer_job(methods=(("gd", {"steps": 1000000}),))[0]).name
            client.wait_for_step(blocker)
            name = client.create(job).name
            with small_s3.stopped():
                client.cancel(blocker)
                wait_for(lambda: client.get(name).attempt > 1, "it was tried and queued again")
            assert client.finish(name).state == job_api.SUCCEEDED


def start_download(client, digest):
    """The stream, and its first message's data."""
    stream = client.tensors.DownloadTensor(tensor_api.DownloadTensorRequest(sha256=digest))
    return stream, next(stream).data


def test_a_download_begins_while_its_object_is_fetched_and_holds_up_nothing(tmp_path, store, small_s3, bucket):
    data, small = os.urandom(12 << 20), os.urandom(1000)
    digest = hashlib.sha256(data).hexdigest()
    ref = job_api.TensorRef(sha256=digest, dtype=job_api.F32, shape=[3 << 20])
    other = job_api.TensorRef(sha256=hashlib.sha256(small).hexdigest(), dtype=job_api.F32, shape=[250])
    with HttpServer(tmp_path / "a", *store, *bucket) as server, Client(server.address) as client:
        client.upload(ref, data)
        (small_s3.folder / "fault").write_text(json.dumps({"method": "GET", "contains": digest, "hold": 8 << 20}))
        streams = [start_download(client, digest) for _ in range(6)]
        assert all(data.startswith(first) for _, first in streams)
        whole = server.get(f"/api/v1/tensors/{digest}")
        part = server.get(f"/api/v1/tensors/{digest}", {"Range": "bytes=0-999"})
        assert whole.read(1 << 20) == data[:1 << 20] and part.status == 206
        assert (small_s3.folder / "held").exists(), "the rest is still to come"
        client.upload(other, small)
        assert client.download(other.sha256) == small, "no thread waits"
        for stream, _ in streams[1:]:
            stream.cancel()
        (small_s3.folder / "held").unlink()
        assert b"".join([streams[0][1], *(message.data for message in streams[0][0])]) == data
        assert whole.read() == data[1 << 20:] and part.read() == data[:1000]
        assert server.terminate() == 0


def test_a_server_ends_though_a_bucket_says_nothing_more(tmp_path, store, small_s3, bucket):
    data = os.urandom(4 << 20)
    ref = job_api.TensorRef(sha256=hashlib.sha256(data).hexdigest(), dtype=job_api.F32, shape=[1 << 20])
    with Server(tmp_path / "a", *store, *bucket, "--drain-timeout", "1s") as server, Client(server.address) as client:
        client.upload(ref, data)
        (small_s3.folder / "fault").write_text(json.dumps({"method": "GET", "contains": ref.sha256, "hold": 2 << 20}))
        start_download(client, ref.sha256)
        begin = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begin < 10, "S3 is given 20 s to say something, four times"
    (small_s3.folder / "held").unlink()


def test_a_download_of_an_object_that_is_damaged_at_its_end_never_ends_well(tmp_path, store, small_s3, bucket):
    data = os.urandom(4 << 20)
    ref = job_api.TensorRef(sha256=hashlib.sha256(data).hexdigest(), dtype=job_api.F32, shape=[1 << 20])
    with HttpServer(tmp_path / "a", *store, *bucket) as server, Client(server.address) as client:
        client.upload(ref, data)
        (path,) = [path for path in (small_s3.folder / "objects").iterdir() if ref.sha256 in path.name]
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        got = bytearray()
        with pytest.raises(grpc.RpcError) as ended:
            for message in client.tensors.DownloadTensor(tensor_api.DownloadTensorRequest(sha256=ref.sha256)):
                got += message.data
        assert ended.value.code() == grpc.StatusCode.DATA_LOSS and ref.sha256 in ended.value.details()
        assert len(got) < len(data)
        for headers in ({}, {"Range": "bytes=0-999"}):
            with pytest.raises(http.client.IncompleteRead):
                server.get(f"/api/v1/tensors/{ref.sha256}", headers).read()
        path.write_bytes(data)
        assert client.download(ref.sha256) == data, "what was wrong is not kept"
        assert server.get(f"/api/v1/tensors/{ref.sha256}", {"Range": "bytes=5-9"}).read() == data[5:10]


def refusal(folder, *flags):
    return Server(folder, *flags).refuse()


def test_a_place_that_will_not_do_is_refused_with_its_name(tmp_path, store, small_s3, bucket, monkeypatch):
    data = tmp_path / "data"
    code, words = refusal(data, *bucket)
    assert code == 2 and "blobs must be given with store" in words
    code, words = refusal(data, *store, "--blobs", "ftp://x")
    assert code == 2 and "blobs must be file:///folder or s3://bucket" in words
    code, words = refusal(data, *store, "--blobs", bucket[1].replace("tensors", "missing"))
    assert code == 1 and "there is no bucket missing" in words
    code, words = refusal(data, *store, "--blobs", bucket[1].replace("us-east-1", "eu-west-1"))
    assert code == 1 and "must have region=us-east-1" in words
    code, words = refusal(data, *store, "--blobs", "s3://tensors?endpoint=http://127.0.0.1:1")
    assert code == 1 and "http://127.0.0.1:1 does not answer" in words
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "openbarley")
    code, words = refusal(data, *store, *bucket)
    assert code == 1 and "refuses the keys" in words and small_s3.endpoint in words
    assert "openbarley" not in words and "tester" not in words
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, words = refusal(data, *store, *bucket)
    assert code == 2 and "blobs must have keys for s3://" in words
    keys = tmp_path / "keys"
    keys.write_text("aws_access_key_id = tester\naws_secret_access_key = opensesame\n")
    with Server(data, *store, *bucket, "--blobs-credentials-file", keys) as server:
        with Client(server.address) as client:
            submit(client, methods=QUICK)


def test_a_database_and_its_place_go_together(tmp_path, database, store):
    shared = ("--blobs", f"file://{tmp_path}/shared")
    with Server(tmp_path / "a", *store, *shared) as server:
        with Client(server.address) as client:
            client.finish(submit(client, methods=QUICK).name)
        code, words = refusal(tmp_path / "b", *store)
        assert code == 1 and "a database goes with one folder, or one place of shared tensors" in words
        code, words = refusal(tmp_path / "c", *store, "--blobs", f"file://{tmp_path}/unmounted")
        assert code == 1 and "which has no object \"place\"" in words
        assert server.terminate() == 0
    code, words = refusal(tmp_path / "a")
    assert code == 1 and "store: must be given" in words
    database.ask("DROP SCHEMA attnprune CASCADE")
    code, words = refusal(tmp_path / "d", *store, *shared)
    assert code == 1 and "which is another's" in words


def test_a_tensor_that_no_job_uses_goes_after_its_grace_and_once(tmp_path, store):
    shared = ("--blobs", f"file://{tmp_path}/shared")
    flags = (*store, *shared, "--tensor-grace", "1s", "--collect-interval", "100ms")
    with Server(tmp_path / "a", *flags) as a, Server(tmp_path / "b", *flags) as b:
        data = os.urandom(1000)
        ref = job_api.TensorRef(sha256=hashlib.sha256(data).hexdigest(), dtype=job_api.F32, shape=[250])
        with Client(a.address) as client, Client(b.address) as other:
            done = client.finish(submit(client, methods=QUICK).name)
            client.upload(ref, data)
            missing = tensor_api.FindMissingTensorsRequest(sha256=[ref.sha256])
            objects = tmp_path / "shared/sha256"
            wait_for(lambda: not list(objects.glob(f"*/{ref.sha256}.*")), "it is collected")
            assert list(other.tensors.FindMissingTensors(missing).missing) == [ref.sha256]
            time.sleep(1.2)  # more than the grace: what the job refers to stays
            assert other.download(done.results[0].matrices[0].mask.sha256)
