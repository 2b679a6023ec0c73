"""What goes wrong with the machine: full disk, full queue, read-only folder, a second server, a
damaged database, a missing tensor. Each is a clear error, and nothing accepted is lost."""
import contextlib
import hashlib
import os
import shutil
import subprocess
import threading

import grpc
import pytest

from harness import LIMIT, Client, Server, layer_job, submit, wait_for
from test_python_client import details
from test_uploads import random_tensor
from attnprune.v1 import errors_pb2 as errors_api
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api
from attnprune.v1 import tensor_service_pb2 as tensor_api

FOREVER = (("gd", {"steps": 1000000}),)
QUICK = (("magnitude", {}),)


@contextlib.contextmanager
def small_disk(folder, size):
    """A tmpfs of `size` at `folder`: a disk that can be filled. Needs root, as CI has."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_new_work_and_loses_none_that_was_accepted(tmp_path, dice):
    with small_disk(tmp_path / "disk", "96M"), Server(tmp_path / "disk" / "data") as server:
        with Client(server.address) as client:
            running = submit(client, "running", methods=FOREVER).name
            queued = submit(client, "queued", methods=QUICK).name
            client.wait_for_step(running)
            ref, data = random_tensor(48, dice)
            with pytest.raises(grpc.RpcError) as refused:
                client.upload(ref, data)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "disk is full" in refused.value.details()
            fill(tmp_path / "disk" / "filler")
            with pytest.raises(grpc.RpcError) as refused:
                create_until_refused(client)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "RetryInfo" in details(refused.value)
            assert client.get(running).state == job_api.RUNNING, "it goes on"
            assert client.get(queued).state == job_api.QUEUED
            (tmp_path / "disk" / "filler").unlink()
            client.cancel(running)
            assert client.finish(running).state == job_api.CANCELLED
            assert client.finish(queued).state == job_api.SUCCEEDED
        server.kill()
        server.start()
        with Client(server.address) as client:
            listed = client.jobs.ListJobs(prune_api.ListJobsRequest(page_size=1000)).jobs
            assert {running, queued} <= {job.name for job in listed}


def test_a_disk_that_fills_in_the_middle_of_an_upload_ends_that_upload_alone(tmp_path, dice):
    with small_disk(tmp_path / "disk", "128M"), Server(tmp_path / "disk" / "data") as server:
        uploads, filler = tmp_path / "disk" / "data" / "uploads", tmp_path / "disk" / "filler"
        ref, data = random_tensor(32, dice)
        filled = threading.Event()
        with Client(server.address) as client:
            ended = submit(client, "ended", methods=QUICK).name
            assert client.finish(ended).state == job_api.SUCCEEDED
            running = submit(client, "running", methods=FOREVER).name
            client.wait_for_step(running)
            silent = [client.tensors.UploadTensor.future(header_only(filled, 50 << 20, i))
                      for i in range(10)]

            def messages():
                yield tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(
                    upload_id="u", sha256=ref.sha256, size_bytes=len(data), dtype=ref.dtype))
                for start in range(0, len(data), 1 << 20):
                    if start == 8 << 20:
                        filled.wait(LIMIT)
                    yield tensor_api.UploadTensorRequest(data=data[start:start + (1 << 20)])
            upload = client.tensors.UploadTensor.future(messages())
            query = tensor_api.QueryUploadRequest(upload_id="u")
            wait_for(lambda: client.tensors.QueryUpload(query).committed_bytes == 8 << 20, "it is half there")
            assert {path.name for path in uploads.iterdir()} == {"u.data", "u.spec"}
            fill(filler)
            filled.set()
            assert upload.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "disk is full: there is no room for the next" in upload.details()
            assert "RetryInfo" in details(upload)
            assert not list(uploads.iterdir())
            for one in silent:
                one.cancel()
            client.cancel(running)
            assert client.finish(running).state == job_api.CANCELLED
            client.jobs.DeleteJob(prune_api.DeleteJobRequest(name=ended))
        server.kill()
        server.start()
        filler.unlink()
        with Client(server.address) as client:
            assert [job.name for job in client.jobs.ListJobs(prune_api.ListJobsRequest()).jobs] == [running]
            assert client.upload(ref, data).sha256 == ref.sha256


def header_only(until, size, number):
    """An upload that says its size and sends nothing."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    yield tensor_api.UploadTensorRequest(header=tensor_api.UploadHeader(
        upload_id=f"silent-{number}", sha256=digest, size_bytes=size, dtype=job_api.F32))
    until.wait(LIMIT)


def fill(path):
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))


def create_until_refused(client):
    job, _ = layer_job(methods=QUICK)
    for _ in range(10000):  # room that the log already has may take a few
        client.create(job)


def test_a_full_queue_says_when_to_come_back(tmp_path):
    with Server(tmp_path / "data", "--max-queued-jobs", "2") as server:
        with Client(server.address) as client:
            running = submit(client, methods=FOREVER).name
            client.wait_for_step(running)
            kept = [submit(client, f"r{i}", methods=QUICK).name for i in range(2)]
            with pytest.raises(grpc.RpcError) as refused:
                submit(client, "r2", methods=QUICK)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            retry = errors_api.RetryInfo.FromString(details(refused.value)["RetryInfo"])
            assert retry.retry_delay.seconds > 0
            # A request that was accepted stays accepted.
            assert submit(client, "r1", methods=QUICK).name == kept[1]
            client.cancel(running)
            assert [client.finish(name).state for name in kept] == [job_api.SUCCEEDED] * 2


def test_a_read_only_folder_is_refused_at_the_start(tmp_path):
    with small_disk(tmp_path / "disk", "8M"):
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        code, said = Server(tmp_path / "disk" / "data").refuse()
    assert code == 1
    assert str(tmp_path / "disk") in said and "ead-only" in said


def test_a_second_server_on_the_folder_is_refused_and_the_first_goes_on(server, client):
    code, said = Server(server.folder).refuse()
    assert code == 1
    assert "another" in said and str(server.folder) in said
    assert client.finish(submit(client, methods=QUICK).name).state == job_api.SUCCEEDED


def test_a_port_that_is_taken_is_refused_and_says_so(server, tmp_path):
    other = Server(tmp_path / "other")
    ended = subprocess.run(other.command(server.port), text=True, capture_output=True, timeout=LIMIT,
                           check=False)
    assert ended.returncode == 1
    assert "in use" in ended.stderr and str(server.port) in ended.stderr


def test_a_damaged_database_is_refused_and_left_as_it_is(tmp_path):
    with Server(tmp_path / "data") as server:
        with Client(server.address) as client:
            client.finish(submit(client, methods=QUICK).name)
        server.terminate()
        database = server.folder / "jobs.sqlite3"
        whole = database.read_bytes()
        middle = len(whole) // 2
        database.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096:])
        damaged = database.read_bytes()
        code, said = server.refuse()
        assert code == 1
        assert "jobs.sqlite3" in said
        assert database.read_bytes() == damaged
        database.write_bytes(whole)
        server.start()  # and the good one serves again


def blob(folder, sha256):
    return folder / "tensors" / "sha256" / sha256[:2] / sha256


def test_a_job_whose_tensor_has_gone_fails_and_names_it(server, client):
    running = submit(client, methods=FOREVER, priority=1).name
    client.wait_for_step(running)
    job, tensors = layer_job(methods=QUICK, layer=2)
    client.upload_missing(tensors)
    waiting = client.create(job).name
    lost = job.problem.projections.w_q.sha256
    blob(server.folder, lost).unlink()
    client.cancel(running)
    ended = client.finish(waiting)
    assert ended.state == job_api.FAILED
    assert lost in ended.failure.message and "w_q" in ended.failure.message
    wait_for(lambda: "w_q" in server.log, "the log says so too")


def test_a_job_whose_tensor_has_rotted_fails_and_the_tensor_can_be_brought_again(server, client):
    running = submit(client, methods=FOREVER, priority=1).name
    client.wait_for_step(running)
    job, tensors = layer_job(methods=QUICK, layer=2)
    client.upload_missing(tensors)
    waiting = client.create(job).name
    path = blob(server.folder, job.problem.projections.w_k.sha256)
    rotten = bytearray(path.read_bytes())
    rotten[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(rotten)
    client.cancel(running)
    ended = client.finish(waiting)
    assert ended.state == job_api.FAILED
    assert ended.failure.code == grpc.StatusCode.DATA_LOSS.value[0]
    client.upload_missing(tensors)
    assert client.finish(client.create(job).name).state == job_api.SUCCEEDED


def test_wrong_flags_exit_with_two_and_name_the_flag(tmp_path):
    typo = tmp_path / "typo.toml"
    typo.write_text("worker = 7\n")
    for flags, word in ((["--workers", "0"], "workers"), (["--config", str(typo)], "worker"),
                        (["--listen", "127.0.0.1:99999"], "listen"), (["--nonsense"], "nonsense"),
                        (["--http-listen", "0.0.0.0:0"], "--allow-unauthenticated-network"),
                        (["--lease", "soon"], "must be a duration"), (["--max-tensor-bytes", "5X"], "tensor"),
                        (["--config", str(tmp_path / "missing.toml")], "missing.toml")):
        code, said = Server(tmp_path / "data", *flags).refuse()
        assert code == 2, (flags, said)
        assert word in said, (flags, said)


def test_a_config_file_sets_what_flags_set(tmp_path):
    config = tmp_path / "server.toml"
    config.write_text('max-queued-jobs = 7\nworkers = 2\nlog-format = "json"\n')
    with Server(tmp_path / "data", "--config", str(config)) as server:
        with Client(server.address) as client:
            info = client.jobs.GetServerInfo(prune_api.GetServerInfoRequest())
        assert (info.limits.max_queued_jobs, info.workers) == (7, 2)
        wait_for(lambda: '"message":"server.start"' in server.log, "the log is JSON")


def test_a_folder_copied_while_nothing_runs_serves_as_the_original(tmp_path):
    with Server(tmp_path / "data") as server:
        with Client(server.address) as client:
            name = client.finish(submit(client, methods=QUICK).name).name
        server.terminate()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    with Server(tmp_path / "copy") as copy, Client(copy.address) as client:
        job = client.get(name)
        assert job.state == job_api.SUCCEEDED
        client.download(job.results[0].matrices[0].weights.sha256)
