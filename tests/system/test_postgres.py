"""A server whose jobs are in PostgreSQL: kills of either, and starts that are refused."""
import os
import pathlib
import subprocess

import grpc
import pytest

from harness import BIN, Client, PersistentWatcher, Server, digests, submit, wait_for
from test_python_client import details
from attnprune.v1 import job_pb2 as job_api

LONG = (("gd", {"steps": 300}),)
QUICK = (("magnitude", {}),)


def undisturbed(folder):
    """What the job comes to on a server with its jobs in its folder."""
    with Server(folder) as server, Client(server.address) as client:
        return digests(client.finish(submit(client, methods=LONG).name))


def test_kills_of_the_server_and_of_the_database_change_no_bit(tmp_path, database, store):
    flags = (*store, "--checkpoint-interval", "50ms")
    with Server(tmp_path / "data", *flags) as server:
        with Client(server.address) as client:
            name = submit(client, "the request", methods=LONG).name
            client.wait_for_step(name, 30)
        watcher = PersistentWatcher(server.address, name)
        watcher.start()
        wait_for(lambda: watcher.events, "the watcher sees something")
        server.kill()
        server.start()
        with Client(server.address) as client:
            client.wait_for_step(name, 90)
            with database.stopped():
                with pytest.raises(grpc.RpcError) as refused:
                    client.get(name)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "RetryInfo" in details(refused.value)
            job = watcher.ended()
            assert job.state == job_api.SUCCEEDED
            assert digests(job) == undisturbed(tmp_path / "other")
            assert submit(client, "the request", methods=LONG).name == name, "known by its request"
    sequences = watcher.sequences()
    assert sequences == sorted(set(sequences)), "no event came twice"
    assert database.ask("SELECT count(*) FROM attnprune.job_results") == ["1"]


def test_jobs_are_as_they_were_on_a_server_started_anew(tmp_path, store):
    with Server(tmp_path / "data", *store) as server:
        with Client(server.address) as client:
            job = client.finish(submit(client, methods=QUICK).name)
        assert server.terminate() == 0
        server.start()
        with Client(server.address) as client:
            assert client.get(job.name) == job
            mask = job.results[0].matrices[0].mask.sha256
            assert client.download(mask)


def test_a_password_from_a_file_is_seen_nowhere(tmp_path, database, store):
    secret = tmp_path / "secret"
    secret.write_text("opensesame\n")
    url = database.url.replace("user=attnprune", "user=guarded")
    del store
    with Server(tmp_path / "data", "--store", url, "--store-password-file", secret) as server:
        with Client(server.address) as client:
            submit(client, methods=QUICK)
        process = pathlib.Path(f"/proc/{server.process.pid}")
        assert "opensesame" not in (process / "cmdline").read_text()
        assert "opensesame" not in server.log


def refusal(folder, *flags, **variables):
    """Of a server that is to say why it does not start: (exit code, words)."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        return Server(folder, *flags).refuse()
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_store_that_will_not_do_is_refused_with_its_name(tmp_path, database, store):
    data = tmp_path / "data"
    code, words = refusal(data, "--store", "mysql://host/x")
    assert code == 2 and 'store must be a URL such as postgresql://' in words
    assert '"mysql://host/x"' in words
    code, words = refusal(data, "--store", "postgresql://127.0.0.1:1/x")
    assert code == 1 and "store: postgresql://127.0.0.1:1/x: " in words and "refused" in words
    code, words = refusal(data, "--store", "postgresql://me:secret@127.0.0.1:1/x")
    assert code == 2 and "no password on the command line" in words and "secret" not in words
    code, words = refusal(data, ATTNPRUNE_STORE="postgresql://me:secret@127.0.0.1:1/x")
    assert code == 1 and "store: postgresql://me:***@127.0.0.1:1/x: " in words
    assert "secret" not in words
    code, words = refusal(data, "--store-password-file", "/dev/null")
    assert code == 2 and "store_password_file must be given with store only" in words
    guarded = database.url.replace("user=attnprune", "user=guarded")
    wrong = tmp_path / "wrong"
    wrong.write_text("openbarley\n")
    code, words = refusal(data, "--store", guarded, "--store-password-file", wrong)
    assert code == 1 and "password authentication failed" in words and "openbarley" not in words
    del store


def test_a_database_goes_with_one_folder(tmp_path, store):
    with Server(tmp_path / "data", *store) as server:
        with Client(server.address) as client:
            submit(client, methods=QUICK)
        code, words = Server(tmp_path / "other", *store).refuse()
        assert code == 1 and "data_dir: must be the folder of the tensors" in words
        code, words = Server(tmp_path / "data", *store).refuse()
        assert code == 1 and "another server" in words


def test_a_folder_with_jobs_of_its_own_is_refused(tmp_path, store):
    with Server(tmp_path / "data") as server:
        assert server.terminate() == 0
    code, words = Server(tmp_path / "data", *store).refuse()
    assert code == 1 and "data_dir: must have no jobs of its own" in words


def test_a_folder_whose_jobs_are_in_a_database_begins_no_other_queue(tmp_path, store):
    with Server(tmp_path / "data", *store) as server:
        assert server.terminate() == 0
    code, words = Server(tmp_path / "data").refuse()
    assert code == 1 and "store: must be given" in words
    backup = subprocess.run([BIN / "attnprune-server", "backup", "--data-dir", tmp_path / "data",
                             "--output", tmp_path / "backup"], text=True, capture_output=True,
                            check=False)
    assert backup.returncode == 1 and "its jobs are in a PostgreSQL database" in backup.stderr


def test_a_newer_schema_is_refused(tmp_path, database, store):
    with Server(tmp_path / "data", *store) as server:
        assert server.terminate() == 0
    database.ask("UPDATE attnprune.store SET version = 9, usable_by = 9")
    code, words = Server(tmp_path / "data", *store).refuse()
    assert code == 1 and "got schema 9: made by a newer version of attnprune" in words
