"""attnprune-server backup, of a server that runs, and what a server makes of it."""
import subprocess

from harness import BIN, LIMIT, Client, PersistentWatcher, Server, cli, digests, submit, wait_for
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

LONG = (("gd", {"steps": 1000}),)
QUICK = (("gd", {"steps": 30}), ("wanda", {}))
FLAGS = ("--checkpoint-interval", "100ms")


def backup(data_dir, output, *flags):
    return subprocess.run([BIN / "attnprune-server", "backup", "--data-dir", data_dir, "--output",
                           output, *flags], text=True, capture_output=True, timeout=LIMIT,
                          check=False)


def names(client):
    return [job.name for job in client.jobs.ListJobs(prune_api.ListJobsRequest()).jobs]


def test_a_server_on_the_backup_has_every_job_and_goes_on_with_the_running_one(tmp_path):
    with Server(tmp_path / "data", *FLAGS) as server, Client(server.address) as client:
        ended = client.finish(submit(client, methods=QUICK).name)
        running = submit(client, methods=LONG).name
        queued = submit(client, methods=QUICK).name
        client.wait_for_step(running, 100)
        wait_for(lambda: list((tmp_path / "data" / "checkpoints").iterdir()), "a checkpoint")
        made = backup(server.folder, tmp_path / "backup", "--verify")
        assert made.returncode == 0, made.stderr
        assert "3 jobs and runs" in made.stdout and "0 bytes are copies" in made.stdout
        assert client.get(running).state == job_api.RUNNING, "the server has noticed nothing"
        undisturbed = client.finish(running)
    with Server(tmp_path / "backup", *FLAGS) as restored, Client(restored.address) as client:
        assert names(client) == [queued, running, ended.name]
        assert client.get(ended.name) == ended
        for mask, weights in digests(ended).values():
            client.download(mask)
            client.download(weights)
        watcher = PersistentWatcher(restored.address, running)
        watcher.start()
        again = watcher.ended()
        assert digests(again) == digests(undisturbed), "bit for bit"
        assert watcher.sequences() == sorted(set(watcher.sequences()))
        said = [event.state_change.reason for event in watcher.events
                if event.HasField("state_change")]
        assert any("goes on from its checkpoint" in reason for reason in said), said
        assert client.finish(queued).state == job_api.SUCCEEDED
        fetched = cli("fetch", ended.name, "--method", "gd", "--output", tmp_path / "pruned",
                      "--server", restored.address)
        assert fetched.returncode == 0, fetched.stderr


def test_backups_of_a_busy_server_are_all_whole(tmp_path):
    with Server(tmp_path / "data", *FLAGS, "--workers", "2", "--tensor-grace", "1s",
                "--collect-interval", "50ms", "--keep-finished", "1s") as server:
        with Client(server.address) as client:
            for number in range(10):
                submit(client, methods=(("gd", {"steps": 100}), ("wanda", {})))
                made = backup(server.folder, tmp_path / f"backup-{number}", "--verify")
                assert made.returncode == 0, made.stderr
                listed = names(client)
        server.kill()
    with Server(tmp_path / "backup-9") as restored, Client(restored.address) as client:
        assert set(names(client)) >= set(listed[:1])
        for name in names(client):
            assert client.finish(name).state == job_api.SUCCEEDED


def test_what_cannot_be_backed_up_is_refused_with_the_reason(server, tmp_path):
    into_itself = backup(server.folder, server.folder)
    assert into_itself.returncode == 2 and "output must be empty" in into_itself.stderr
    of_nothing = backup(tmp_path / "none", tmp_path / "backup")
    assert of_nothing.returncode == 1 and "not a server's data folder" in of_nothing.stderr
    without = subprocess.run([BIN / "attnprune-server", "backup"], capture_output=True, text=True,
                             check=False)
    assert without.returncode == 2 and "--data-dir" in without.stderr
    assert not (tmp_path / "backup").exists()
