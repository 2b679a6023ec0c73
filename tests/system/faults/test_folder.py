"""What happens to the data folder from outside: bytes flipped in its log, files moved away, links and
locks removed, modes too wide; and to the server: stopped for longer than its lease."""
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest

from harness import LIMIT, Client, Server, cli, digests, submit, wait_for
from test_refusals import create_until_refused, fill, small_disk
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

FOREVER = (("gd", {"steps": 1000000}),)
QUICK = (("magnitude", {}),)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("lock", "jobs.sqlite3-shm")}


def killed_with_three_jobs(folder):
    with Server(folder, "--checkpoint-interval", "100ms") as server:
        with Client(server.address) as client:
            names = [submit(client, f"r{i}", methods=FOREVER).name for i in range(3)]
            client.wait_for_step(names[0], 30)
            wait_for(lambda: list((folder / "checkpoints").iterdir()), "a checkpoint")
        server.kill()
    return names


def test_a_flipped_byte_in_the_log_is_noticed_and_nothing_is_unlinked(tmp_path):
    killed_with_three_jobs(tmp_path / "data")
    log = tmp_path / "data" / "jobs.sqlite3-wal"
    damaged = bytearray(log.read_bytes())
    damaged[5845] ^= 1
    log.write_bytes(damaged)
    before = files(tmp_path / "data")
    server = Server(tmp_path / "data", "--tensor-grace", "1s", "--collect-interval", "1s")
    code, said = server.refuse()
    assert code == 1
    assert "3 accepted jobs of 3" in said and "jobs.sqlite3" in said and "--accept-loss" in said
    assert files(tmp_path / "data") == before
    server.flags += ("--accept-loss",)
    with server, Client(server.address) as client:
        assert not client.jobs.ListJobs(prune_api.ListJobsRequest()).jobs
        assert "store.warning" in server.log and "3 accepted jobs of 3" in server.log
        kept = submit(client, methods=QUICK).name
        client.finish(kept)
        server.terminate()
        server.flags = ()
        server.start()  # the loss is accepted once and for all
        assert client.get(kept).state == job_api.SUCCEEDED


def test_an_older_copy_of_the_database_is_noticed(tmp_path):
    with Server(tmp_path / "data") as server:
        with Client(server.address) as client:
            client.finish(submit(client, "first", methods=QUICK).name)
        server.terminate()
        shutil.copy(tmp_path / "data" / "jobs.sqlite3", tmp_path / "older")
        server.start()
        with Client(server.address) as client:
            client.finish(submit(client, "second", methods=QUICK).name)
        server.terminate()
        shutil.copy(tmp_path / "older", tmp_path / "data" / "jobs.sqlite3")
        code, said = server.refuse()
        assert code == 1 and "1 accepted job of 2" in said, said


def health_of(address):
    return cli("health", "--server", address).returncode


def healthz(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=LIMIT) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("moved", ("", "jobs.sqlite3", "jobs.sqlite3-wal", "tensors"))
def test_what_is_moved_away_under_a_server_is_noticed_and_not_made_again(tmp_path, moved):
    http_port = tmp_path / "http"
    with Server(tmp_path / "data", "--http-listen", "127.0.0.1:0", "--http-port-file",
                str(http_port)) as server, Client(server.address) as client:
        kept = client.finish(submit(client, methods=QUICK).name).name
        port = int(http_port.read_text())
        assert (health_of(server.address), healthz(port)) == (0, 200)
        path, away = tmp_path / "data" / moved, tmp_path / "away"
        path.rename(away)
        with pytest.raises(grpc.RpcError) as refused:
            submit(client, "again", methods=QUICK, layer=2)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "was removed while the server uses it" in refused.value.details()
        wait_for(lambda: health_of(server.address) == 3 and healthz(port) == 503, "NOT_SERVING")
        assert not path.exists()
        assert client.get(kept).state == job_api.SUCCEEDED, "what is open is still read"
        away.rename(path)
        wait_for(lambda: health_of(server.address) == 0 and healthz(port) == 200, "SERVING again")
        assert client.finish(submit(client, "again", methods=QUICK).name).state == job_api.SUCCEEDED
        assert server.log.count("server.place") == 2


def test_a_second_server_is_refused_although_the_lock_file_was_removed(tmp_path):
    with Server(tmp_path / "data") as server, Client(server.address) as client:
        (tmp_path / "data" / "lock").unlink()
        code, said = Server(tmp_path / "data").refuse()
        assert code == 1 and "in use by another server" in said
        assert client.finish(submit(client, methods=QUICK).name).state == job_api.SUCCEEDED


def modes(folder):
    return {path: path.lstat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}


def test_folders_are_0700_and_files_0600_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with Server(tmp_path / "data", "--checkpoint-interval", "50ms") as server:
            with Client(server.address) as client:
                client.finish(submit(client, methods=QUICK).name)
                name = submit(client, methods=FOREVER).name
                client.wait_for_step(name, 30)
                wait_for(lambda: list((tmp_path / "data/checkpoints").iterdir()), "a checkpoint")
            server.kill()
            found = modes(tmp_path / "data")
    finally:
        os.umask(before)
    for path, mode in found.items():
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))
    assert len(found) > 15


def test_a_folder_that_others_could_read_is_closed_to_them(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    with Server(tmp_path / "data") as server:
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert "had mode 0755: now 0700" in server.log


def test_a_server_that_was_stopped_beyond_its_lease_goes_on_and_does_nothing_twice(tmp_path):
    methods = [("gd", {"steps": 400})]
    with Server(tmp_path / "undisturbed") as server, Client(server.address) as client:
        expected = digests(client.finish(submit(client, methods=methods).name))
    with Server(tmp_path / "data", "--lease", "1s") as server, Client(server.address) as client:
        name = submit(client, methods=methods).name
        client.wait_for_step(name, 20)
        server.process.send_signal(signal.SIGSTOP)
        subprocess.run(["sleep", "2.5"], check=True)  # two leases and more, seen from outside
        code, said = Server(tmp_path / "data").refuse()
        assert code == 1 and "in use by another server" in said
        server.process.send_signal(signal.SIGCONT)
        job = client.finish(name)
        assert (job.state, job.attempt) == (job_api.SUCCEEDED, 1)
        assert digests(job) == expected


def test_on_a_full_disk_jobs_are_cancelled_and_deleted_and_a_server_starts(tmp_path):
    filler = tmp_path / "data" / "filler"
    with small_disk(tmp_path / "data", "96M"), Server(tmp_path / "data") as server:
        with Client(server.address) as client:
            running = submit(client, "running", methods=FOREVER).name
            queued = [submit(client, f"queued-{i}", methods=QUICK).name for i in range(12)]
            client.wait_for_step(running)
            fill(filler)
            with pytest.raises(grpc.RpcError) as refused:
                create_until_refused(client)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            fill(tmp_path / "data" / "more")
            for name in queued:
                assert client.cancel(name).state == job_api.CANCELLED
            for name in queued[:6]:
                client.jobs.DeleteJob(prune_api.DeleteJobRequest(name=name))
        server.kill()
        fill(tmp_path / "data" / "rest")
        server.start()
        with Client(server.address) as client:
            assert client.get(queued[-1]).state == job_api.CANCELLED
            client.cancel(running)
            assert client.finish(running).state == job_api.CANCELLED
            for left in ("filler", "more", "rest"):
                (tmp_path / "data" / left).unlink()
            assert client.finish(submit(client, methods=QUICK).name).state == job_api.SUCCEEDED
