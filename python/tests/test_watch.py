"""Watches: through a kill, in a loop, awaited, interrupted; bars and curves."""
import asyncio
import signal
import subprocess
import sys

import pytest

import attnprune
from attnprune import progress as bars
from attnprune.watch import Watch
from harness import LIMIT, Server

GD = ("gd:steps=150",)


@pytest.fixture
def quick(tmp_path):
    """A server that writes a checkpoint ten times a second."""
    with Server(tmp_path / "data", "--checkpoint-interval", "100ms") as running:
        yield running


def kinds(events):
    return [event.WhichOneof("event") for event in events]


def test_a_watch_goes_on_through_a_kill_without_a_gap(quick, layer, batches):
    with attnprune.Client(quick.address) as client:
        job = client.submit(layer, batches, methods=["wanda", *GD])
        watch, events = job.watch(), []
        for event in watch:
            events.append(event)
            if event.progress.step >= 30 and watch.reconnects == 0:
                quick.kill()
                quick.start()
        log = list(Watch(client.connection, job.name, replay=True))
        assert watch.reconnects >= 1 and watch.ended == job.refresh().message
    sequences = [event.sequence for event in events if event.sequence]
    assert sequences == sorted(set(sequences))
    # What is no progress comes whole: the log has nothing else that was not shown.
    shown = {event.sequence for event in events}
    assert not [event for event in log if event.sequence not in shown
                and event.WhichOneof("event") not in ("progress", "phase")]
    assert kinds(events)[-1] == "terminal" and kinds(events).count("method_result") == 2


def test_a_wait_says_that_the_server_is_away_and_back(server, alone, layer, batches, monkeypatch, capsys):
    job, step = alone.submit(layer, batches, methods="gd:steps=30"), bars.Bars._step

    def kill_once(self, progress):
        if server.starts == 1:
            server.kill()
            server.start()
        step(self, progress)
    monkeypatch.setattr(bars.Bars, "_step", kill_once)
    job.wait()
    said = capsys.readouterr().err.splitlines()
    assert any("the job is not lost, trying again" in line for line in said)
    assert "the server is back" in said and said[-1].startswith("gd  done")


def test_a_watch_goes_on_from_a_sequence(client, layer, batches):
    job = client.submit(layer, batches, methods=["magnitude", "wanda"]).wait(False)
    events = list(job.watch())
    middle = events[len(events) // 2].sequence
    assert list(job.watch(after=middle)) == [one for one in events if one.sequence > middle]
    assert not list(job.watch(after=events[-1].sequence))


def test_a_watch_is_iterated_and_awaited_in_a_loop(client, layer, batches):
    jobs = [client.submit(layer, batches, methods=("gd:steps=20",)) for _ in range(2)]

    async def follow(job):
        return [event.WhichOneof("event") async for event in job.watch()]

    async def both():
        return await asyncio.gather(*map(follow, jobs)), await jobs[0].watch()
    seen, ended = asyncio.run(both())
    assert [events[-1] for events in seen] == ["terminal", "terminal"]
    assert ended.name == jobs[0].name and attnprune.Job(client, ended).state == "SUCCEEDED"


def test_a_watch_that_waits_holds_up_no_other(client, layer, batches):
    held = client.submit(layer, batches, methods=("gd:steps=1000000",))
    queued = client.submit(layer, batches, methods="wanda")

    async def many():
        waiting = [asyncio.ensure_future(queued.watch()._drain())  # pylint: disable=protected-access
                   for _ in range(100)]
        async for event in held.watch():
            if event.progress.step > 20:
                break
        held.cancel()
        return await asyncio.gather(*waiting)
    assert {job.name for job in asyncio.run(many())} == {queued.name}


def test_a_watch_that_is_cancelled_in_a_loop_ends(client, layer, batches):
    job = client.submit(layer, batches, methods=("gd:steps=1000000",))

    async def first_step():
        async for event in job.watch():
            if event.progress.step:
                return event.progress.step

    async def limited():
        follower = asyncio.ensure_future(job.watch()._drain())  # pylint: disable=protected-access
        await first_step()
        follower.cancel()
        with pytest.raises(asyncio.CancelledError):
            await follower
    asyncio.run(limited())  # waits for its threads: one that hung would hold it up
    assert job.refresh().state == "RUNNING"
    job.cancel()


def test_ctrl_c_leaves_the_job_running_and_says_its_name(client, layer, batches):
    job = client.submit(layer, batches, methods=("gd:steps=1000000",))
    script = ("import attnprune, sys\n"
              f"job = attnprune.Client('{client.target}').job('{job.name}')\n"
              "job.wait(lambda event: print(event.WhichOneof('event'), flush=True))\n")
    with subprocess.Popen([sys.executable, "-c", script], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as waiting:
        while "progress" not in waiting.stdout.readline():
            pass
        waiting.send_signal(signal.SIGINT)
        said = waiting.communicate(timeout=LIMIT)[1]
    assert waiting.returncode != 0 and f"Interrupted: {job.name} goes on" in said
    assert job.refresh().state == "RUNNING"
    job.cancel()


def test_a_bar_a_method_in_a_terminal(client, layer, batches, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    client.submit(layer, batches, methods=["gd:steps=20", "wanda"]).wait()
    said = capsys.readouterr().err
    assert "gd: 100%" in said and "20/20" in said and "wanda  done" in said


def test_lines_where_there_is_no_tqdm(client, layer, batches, monkeypatch, capsys):
    monkeypatch.setattr(bars, "_tqdm", lambda: None)
    client.submit(layer, batches, methods=["gd:steps=20", "wanda"]).wait()
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == ["gd", "wanda"]


def test_curves_of_a_job(client, layer, batches, held_out, tmp_path):
    pytest.importorskip("matplotlib")
    job = client.submit(layer, batches, held_out=held_out, methods=["gd:steps=20", "wanda"])
    job.wait(False)
    rows = job.progress_rows()
    assert [row["step"] for row in rows] == list(range(1, 21))
    figure = job.plot()
    losses, errors = figure.axes
    assert list(losses.lines[0].get_ydata()) == [row["loss"] for row in rows]
    assert errors.get_ylabel() == "held out error" and len(errors.lines) >= 2
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
