"""A job's events for other programs: TensorBoard, CSV, JSON lines; live, after the end, again."""
import csv
import json
import os
import resource
import signal
import subprocess

import numpy
import pytest

import tfevents
from harness import BIN, LIMIT, MODEL, Client, Server, cli, submit, wait_for

JOB = ["--model", MODEL, "--layer", "1", "--calibration", MODEL / "calibration.safetensors",
       "--held-out", MODEL / "held_out.safetensors"]
ENDED = (("gd", {"steps": 40}), ("wanda", {}))
FOREVER = (("gd", {"steps": 1000000}),)
# data.tfrecord of the npm package "tfrecord" 0.2.0: an Example (answer: 42, pi: 3.14, name: "ABC").
FOREIGN = bytes.fromhex(
    "34000000000000005e33175c0a320a0f0a06616e7377657212051a030a012a0a0e0a027069120812060a04c3f548400a"
    "0f0a046e616d6512070a050a03414243f9516db6")


def exported(server, name, *flags, **options):
    return cli("export", name, "--server", server.address, *flags, **options)


def watching(server, name, *flags):
    return subprocess.Popen([BIN / "attnprune", "watch", name, "--server", server.address,
                             *map(str, flags)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps_of(folder, tag="attention_loss"):
    return [step for step, _, _ in tfevents.scalars(folder).get(tag, [])]


def only_grows(steps):
    return all(a < b for a, b in zip(steps, steps[1:]))


def test_the_reader_reads_what_other_programs_write_and_sees_every_flipped_bit():
    assert tfevents.crc32c(b"123456789") == 0xE3069283
    assert tfevents.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    (body,) = tfevents.records(FOREIGN)
    assert b"answer" in body and b"ABC" in body
    for bit in range(8 * len(FOREIGN)):
        damaged = bytearray(FOREIGN)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            list(tfevents.records(bytes(damaged)))


def test_tensorboard_has_every_figure_of_the_job_once_at_its_own_time(server, client, tmp_path):
    name = submit(client, methods=ENDED).name
    client.finish(name)
    for _ in range(2):  # the second time replaces the first
        done = exported(server, name, "--tensorboard", tmp_path / "runs")
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["gd", "wanda"]
    curves = tfevents.scalars(tmp_path / "runs/gd")
    (file,) = tfevents.event_files(tmp_path / "runs/gd")
    assert file.name.endswith(".attnprune-" + name.split("/")[1])
    assert file.name.startswith("events.out.tfevents.")
    events = list(client.watch(name))
    progress = [event for event in events if event.HasField("progress")]
    assert len(progress) > 10
    float32 = lambda value: float(numpy.float32(value))  # noqa: E731
    when = lambda event: event.time.seconds + event.time.nanos * 1e-9  # noqa: E731

    def points(get, has=lambda progress: True):
        return [(event.progress.step, float32(get(event.progress)), when(event))
                for event in progress if has(event.progress)]
    assert curves["attention_loss"] == points(lambda p: p.attention_loss)
    assert curves["gradient_norm"] == points(lambda p: p.gradient_norm)
    assert curves["relative_error/held_out"] == points(
        lambda p: p.held_out_error, lambda p: p.HasField("held_out_error"))
    assert curves["relative_error/calibration"] == points(
        lambda p: p.calibration_error, lambda p: p.HasField("calibration_error"))
    results = {event.method_result.method: event for event in events
               if event.HasField("method_result")}
    gd, wanda = results["gd"].method_result, results["wanda"].method_result
    assert curves["result/held_out"] == [(40, float32(gd.relative_error.held_out),
                                          when(results["gd"]))]
    assert curves["sparsity"][0][:2] == (40, 0.5)
    one_shot = tfevents.scalars(tmp_path / "runs/wanda")
    assert one_shot["relative_error/held_out"] == [
        (0, float32(wanda.relative_error.held_out), when(results["wanda"]))]


def test_csv_and_json_lines_say_what_the_log_says(server, client, tmp_path):
    name = submit(client, methods=ENDED).name
    client.finish(name)
    done = exported(server, name, "--csv", tmp_path / "new/p.csv", "--jsonl", tmp_path / "e.jsonl")
    assert done.returncode == 0, done.stderr
    watched = cli("watch", name, "--json", "--server", server.address)
    assert (tmp_path / "e.jsonl").read_text() == watched.stdout
    text = (tmp_path / "new/p.csv").read_bytes()  # its folder was made
    assert text.count(b"\r\n") == text.count(b"\n")
    rows = list(csv.DictReader(text.decode().splitlines()))
    progress = [event for event in map(json.loads, watched.stdout.splitlines())
                if "progress" in event]
    assert len(rows) == len(progress)
    for row, event in zip(rows, progress):
        figures = event["progress"]
        assert (row["sequence"], row["method"]) == (event["sequence"], figures["method"])
        assert int(row["step"]) == figures["step"]
        assert float(row["attention_loss"]) == figures["attentionLoss"], "to the last bit"
        evaluated = figures.get("heldOutError")
        assert row["held_out_error"] == "" if evaluated is None else (
            float(row["held_out_error"]) == evaluated)
    assert {row["held_out_error"] == "" for row in rows} == {True, False}


def test_a_watch_shows_points_while_the_job_runs_and_taken_up_again_none_twice(server, client,
                                                                               tmp_path):
    name = submit(client, methods=FOREVER).name
    run = tmp_path / "runs/gd"
    watch = watching(server, name, "--tensorboard", tmp_path / "runs")
    wait_for(lambda: run.exists() and len(steps_of(run)) >= 3, "the first points")
    seen = len(steps_of(run))
    wait_for(lambda: len(steps_of(run)) > seen, "more points, while the job runs")
    assert client.get(name).state == 2
    watch.send_signal(signal.SIGINT)
    _, said = watch.communicate(timeout=LIMIT)
    assert watch.returncode == 130
    assert f"--tensorboard {tmp_path}/runs" in said and "--after" not in said
    (first,) = tfevents.event_files(run)

    part = exported(server, name, "--tensorboard", tmp_path / "runs", "--csv", tmp_path / "p.csv")
    assert part.returncode == 0, part.stderr
    assert "is running" in part.stderr and "attnprune watch" in part.stderr
    (second,) = tfevents.event_files(run)
    assert second.name > first.name, "TensorBoard goes on to it"
    assert only_grows(steps_of(run))

    again = watching(server, name, "--tensorboard", tmp_path / "runs")
    wait_for(lambda: len(tfevents.event_files(run)) == 1
             and tfevents.event_files(run)[0] != second and len(steps_of(run)) > seen,
             "the watch begins anew")
    client.cancel(name)
    again.communicate(timeout=LIMIT)
    assert again.returncode == 1, "cancelled"
    assert len(steps_of(run)) > seen and only_grows(steps_of(run))


def test_steps_taken_again_after_a_kill_take_the_place_of_the_old_ones(tmp_path):
    run = tmp_path / "runs/gd"
    with Server(tmp_path / "data", "--checkpoint-interval", "1h") as server:
        with Client(server.address) as client:
            name = submit(client, methods=FOREVER).name
        watch = watching(server, name, "--tensorboard", tmp_path / "runs")
        # Far beyond the first points that come after it, of which a busy server drops some.
        wait_for(lambda: run.exists() and any(step > 300 for step in steps_of(run)),
                 "points before the kill")
        server.kill()
        server.start()  # without a checkpoint it starts over
        (file,) = tfevents.event_files(run)

        def divided():
            """Its events before and after its second start, once there are some."""
            events = tfevents.events(file)
            first, *others = [i for i, event in enumerate(events)
                              if event.session_log.status == tfevents.START]
            assert events[first].step == 0 and len(others) <= 1
            return others and others[0] + 1 < len(events) and (events[:others[0]],
                                                               events[others[0]:])
        before, after = wait_for(divided, "points after it")
        with Client(server.address) as client:
            client.cancel(name)
        watch.communicate(timeout=LIMIT)
        done = exported(server, name, "--tensorboard", tmp_path / "after")
        assert done.returncode == 0, done.stderr
    assert after[0].step <= before[-1].step
    assert only_grows(steps_of(run))
    (file,) = tfevents.event_files(tmp_path / "after/gd")
    raw = [event.step for event in tfevents.events(file)
           if any(value.tag == "attention_loss" for value in event.summary.value)]
    assert only_grows(raw), "left out altogether where all events are known"


def test_run_writes_its_curves_too(tmp_path):
    done = cli("run", *JOB, "--method", "gd:steps=20", "--tensorboard", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert steps_of(tmp_path / "runs/gd")[-1] == 20
    again = cli("run", *JOB, "--method", "gd:steps=20", "--tensorboard", tmp_path / "runs")
    assert again.returncode == 2, "another job's run is there"
    assert "--tensorboard" in again.stderr and "tfevents" in again.stderr
    unwatched = cli("submit", *JOB, "--method", "gd", "--tensorboard", tmp_path / "x")
    assert unwatched.returncode == 2 and "--watch" in unwatched.stderr


def test_places_that_would_cost_something_are_refused_before_anything_is_written(server, client,
                                                                                tmp_path):
    name = submit(client, methods=ENDED).name
    client.finish(name)
    assert exported(server, name).returncode == 2, "nothing is asked for"
    same = exported(server, name, "--csv", tmp_path / "x", "--jsonl", tmp_path / "x")
    assert same.returncode == 2 and "--jsonl" in same.stderr
    (tmp_path / "file").write_text("mine")
    for flag in ("--tensorboard", "--csv"):
        inside = exported(server, name, flag, tmp_path / "file/x")
        assert inside.returncode == 2 and flag in inside.stderr
    foreign = tmp_path / "runs/wanda/events.out.tfevents.1.other"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"")
    refused = exported(server, name, "--tensorboard", tmp_path / "runs", "--csv", tmp_path / "p.csv")
    assert refused.returncode == 2 and str(foreign) in refused.stderr
    assert not (tmp_path / "runs/gd").exists() and not (tmp_path / "p.csv").exists()
    watch = cli("watch", name, "--tensorboard", tmp_path / "runs", "--server", server.address)
    assert watch.returncode == 2 and str(foreign) in watch.stderr
    both = cli("watch", name, "--tensorboard", tmp_path / "t", "--after", "3", "--server",
               server.address)
    assert both.returncode == 2
    unknown = exported(server, "jobs/none", "--csv", tmp_path / "p.csv")
    assert unknown.returncode == 4 and not (tmp_path / "p.csv").exists()


def no_file_over(size):
    """For a child: a write past `size` bytes fails, as on a full disk."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


def test_a_file_that_cannot_grow_is_named_and_a_watch_goes_on_without_it(server, client, tmp_path):
    name = submit(client, methods=ENDED).name
    client.finish(name)
    for flag, path in (("--csv", tmp_path / "p.csv"), ("--jsonl", tmp_path / "e.jsonl"),
                       ("--tensorboard", tmp_path / "runs")):
        full = exported(server, name, flag, path, preexec_fn=no_file_over(1000))
        assert full.returncode == 1 and str(path) in full.stderr, full.stderr
        assert not [file for file in tmp_path.rglob("*") if file.is_file() and "data" not in
                    file.relative_to(tmp_path).parts[0]], "nothing half-written stays"
    live = cli("watch", name, "--tensorboard", tmp_path / "live", "--server", server.address,
               preexec_fn=no_file_over(1000))
    assert live.returncode == 1 and str(tmp_path / "live/gd") in live.stderr
    assert "wanda" in live.stdout and "held out" in live.stdout, "the table all the same"
    assert only_grows(steps_of(tmp_path / "live/gd")), "what is there can be read"


def test_an_export_goes_to_files_and_leaves_standard_output_to_json(server, client, tmp_path):
    name = submit(client, methods=(("wanda", {}),)).name
    client.finish(name)
    done = exported(server, name, "--csv", os.path.join(tmp_path, "p.csv"), "--json")
    assert json.loads(done.stdout)["name"] == name
    assert "p.csv" in done.stderr


def test_a_minus_sends_csv_or_json_lines_to_standard_output_and_nothing_else(server, client,
                                                                             tmp_path):
    name = submit(client, methods=ENDED).name
    client.finish(name)
    files = exported(server, name, "--csv", tmp_path / "p.csv", "--jsonl", tmp_path / "e.jsonl")
    assert files.returncode == 0, files.stderr
    csv_out = exported(server, name, "--csv", "-", "--jsonl", tmp_path / "e2.jsonl", cwd=tmp_path)
    assert (csv_out.returncode, csv_out.stdout) == (0, (tmp_path / "p.csv").read_text())
    assert "e2.jsonl" in csv_out.stderr, "what is for people goes elsewhere"
    lines = exported(server, name, "--jsonl", "-")
    assert (lines.returncode, lines.stdout) == (0, (tmp_path / "e.jsonl").read_text())
    assert not (tmp_path / "-").exists()
    for flags in (("--csv", "-", "--jsonl", "-"), ("--csv", "-", "--json")):
        refused = exported(server, name, *flags)
        assert (refused.returncode, refused.stdout) == (2, "") and "-" in refused.stderr
    with open("/dev/full", "w", encoding="utf-8") as full:
        failed = subprocess.run([BIN / "attnprune", "export", name, "--csv", "-", "--server",
                                 server.address], stdout=full, stderr=subprocess.PIPE, text=True,
                                check=False, timeout=LIMIT)
    assert failed.returncode == 1 and "standard output could not be written" in failed.stderr


def test_a_link_is_written_through_and_a_device_refused_before_anything_is_done(server, client,
                                                                                tmp_path):
    name = submit(client, methods=(("wanda", {}),)).name
    client.finish(name)
    link, null = tmp_path / "link", tmp_path / "null"
    link.symlink_to(tmp_path / "real.csv")
    null.symlink_to("/dev/null")
    done = exported(server, name, "--csv", link)
    assert done.returncode == 0, done.stderr
    assert link.is_symlink() and (tmp_path / "real.csv").read_text().startswith("sequence,")
    refused = exported(server, name, "--csv", null, "--jsonl", tmp_path / "e.jsonl")
    assert refused.returncode == 2 and "--csv" in refused.stderr and "device" in refused.stderr
    assert null.is_symlink() and not (tmp_path / "e.jsonl").exists()
    long = cli("run", *JOB, "--method", "gd:steps=1000000", "--save-mask", null)
    assert long.returncode == 2 and "--save-mask" in long.stderr
