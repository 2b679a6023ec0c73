"""The command line as a person uses it: a pruned file out of a model, exit codes, Ctrl-C."""
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios

import numpy
import pytest

import safetensors
from harness import BIN, Client, LIMIT, MODEL, Server, cli, submit, wait_for
from attnprune.v1 import job_pb2 as job_api

JOB = ["--model", MODEL, "--layer", "1", "--calibration", MODEL / "calibration.safetensors",
       "--held-out", MODEL / "held_out.safetensors"]


def test_run_leaves_the_pruned_model_and_the_masks(tmp_path):
    done = cli("run", *JOB, "--sparsity", "0.5", "--method", "magnitude", "--method", "wanda",
               "--method", "sparsegpt", "--method", "gd", "--output", tmp_path / "{method}",
               "--save-mask", tmp_path / "masks-{method}.safetensors")
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("method "):].splitlines()
    best_first = [line.split()[0] for line in table[1:5]]
    errors = [float(line.split()[1]) for line in table[1:5]]
    assert sorted(best_first) == ["gd", "magnitude", "sparsegpt", "wanda"]
    assert errors == sorted(errors)

    before = safetensors.read(MODEL / "model.safetensors")
    after = safetensors.read(tmp_path / "magnitude" / "model.safetensors")
    masks = safetensors.read(tmp_path / "masks-magnitude.safetensors")
    assert list(after) and set(after) == set(before), "the same names"
    assert (tmp_path / "magnitude" / "config.json").exists()
    for name, tensor in before.items():
        assert after[name][:2] == tensor[:2], "the same dtype and shape"
        if name not in masks:
            assert after[name] == tensor, f"{name} is not the layer's and stays"
            continue
        kept = safetensors.array(masks[name])
        assert (safetensors.array(after[name]) == safetensors.array(tensor) * kept).all()
        assert numpy.count_nonzero(kept) == kept.size // 2
    assert len(masks) == 2


def test_health_does_not_wait_for_a_server_that_hangs():
    """It took 20 s: a stopped process still has its connections accepted by the kernel."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        # Against one that waits for 15 s, since a busy machine stretches seconds.
        longer = subprocess.Popen([BIN / "attnprune", "health", "--server", address, "--timeout",
                                   "15s"], stderr=subprocess.DEVNULL)
        for flags in (("--timeout", "100ms"), ()):
            asked = cli("health", "--server", address, *flags)
            assert asked.returncode == 3 and "cannot reach the server" in asked.stderr
            assert "DEADLINE_EXCEEDED" in asked.stderr, "its own deadline, not gRPC's of 20 s"
            assert longer.poll() is None
        longer.kill()
        longer.wait()


def test_a_part_of_the_calibration_set_is_held_out_and_the_table_says_so():
    flags = ["run", *JOB[:6], "--sparsity", "0.7", "--held-out-fraction", "0.25",
             "--method", "magnitude", "--method", "sparsegpt"]
    done = cli(*flags)
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("method "):].splitlines()
    assert table[0].split()[:5] == ["method", "held", "out", "mask", "only"]
    rows = {line.split()[0]: [float(text) for text in line.split()[1:4]] for line in table[1:3]}
    assert list(rows) == ["sparsegpt", "magnitude"], "best first"
    held_out, mask_only, calibration = rows["sparsegpt"]
    assert held_out < mask_only and held_out != calibration
    assert rows["magnitude"][0] == rows["magnitude"][1], "it moves no weight"
    assert table[3].startswith("prepared in ") and table[3].endswith(" s for all methods")
    assert table[4] == "held out: split off the calibration set (fraction 0.25)"

    job = json.loads(cli(*flags, "--json").stdout)
    assert job["heldOutFraction"] == 0.25
    assert {result["heldOutSource"] for result in job["results"]} == {"HELD_OUT_SPLIT"}
    moved = next(result for result in job["results"] if result["method"] == "sparsegpt")
    assert moved["heldOut"]["maskOnlyRelativeError"] > moved["heldOut"]["relativeError"]

    both = cli(*flags, "--held-out", MODEL / "held_out.safetensors")
    assert both.returncode == 2 and "--held-out-fraction" in both.stderr


def test_submit_watch_fetch_in_one_file_and_json_for_programs(server, tmp_path):
    at = ["--server", server.address]
    submitted = cli("submit", *JOB, "--method", "wanda", "--label", "run=a", *at)
    assert submitted.returncode == 0, submitted.stderr
    name = submitted.stdout.strip()
    watched = cli("watch", name, "--json", *at)
    events = [json.loads(line) for line in watched.stdout.splitlines()]
    assert events[-1]["terminal"]["state"] == "SUCCEEDED"
    shown = json.loads(cli("get", name, "--json", *at).stdout)
    (result,) = shown["results"]
    assert result["method"] == "wanda"
    assert 0 < result["relativeError"]["heldOut"] < 1
    assert len(result["perHead"]["heldOut"]) == 8
    assert {"sparsity", "terminationReason", "steps", "seconds"} <= set(result)
    fetched = cli("fetch", name, "--method", "wanda", "--output", tmp_path / "w", *at)
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "w" / "model.safetensors").exists()
    listed = json.loads(cli("list", "--label", "run=a", "--json", *at).stdout)
    assert [job["name"] for job in listed["jobs"]] == [name]
    assert cli("delete", name, *at).returncode == 0
    assert cli("get", name, *at).returncode == 4


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(server, client, tmp_path):
    name = submit(client, methods=(("gd", {"steps": 1000000}),)).name
    watch = subprocess.Popen([BIN / "attnprune", "watch", name, "--server", server.address],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: watch.stdout.readline().startswith("gd"), "the watch shows progress")
    watch.send_signal(signal.SIGINT)
    _, said = watch.communicate(timeout=LIMIT)
    assert watch.returncode == 130
    come_back = re.search(r"attnprune (watch .*)", said).group(1).split()
    assert client.get(name).state == job_api.RUNNING
    cancelled = cli("cancel", name, "--server", server.address)
    assert cancelled.returncode == 0
    back = cli(*come_back)
    assert back.returncode == 1, "cancelled counts as not done"
    assert "cancelled" in back.stderr
    assert re.search(r"^gd  stopped  error ", back.stdout, re.M), "what it had by then is kept"
    fetched = cli("fetch", name, "--output", tmp_path / "unfinished.safetensors", "--server", server.address)
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "unfinished.safetensors").exists()


def test_a_job_that_waits_says_for_what_and_when_it_may_start(tmp_path):
    with Server(tmp_path / "data", "--heartbeat=50ms") as server, Client(server.address) as client:
        at = ["--server", server.address]
        endless, second = [submit(client, methods=(("gd", {"steps": 1000000}),)).name
                           for _ in range(2)]
        client.wait_for_step(endless)
        last = submit(client, methods=(("magnitude", {}),)).name
        at_work = f"{endless} at work; may start in "
        assert re.search(rf"^waits +1 ahead, {at_work}", cli("get", last, *at).stdout, re.M)
        listed = cli("list", *at).stdout
        assert re.search(rf"^{last} +queued, 2nd .* in ", listed, re.M)
        assert re.search(rf"^{endless} +running +gd +0 % +.* (s|min) ", listed, re.M), listed
        watches = [subprocess.Popen([BIN / "attnprune", "watch", last, *flags, *at], text=True,
                                    stdout=subprocess.PIPE) for flags in ((), ("--json",))]
        people, program = watches
        assert people.stdout.readline() == "queued\n"
        assert people.stdout.readline().startswith(f"waits for a worker: 1 ahead, {at_work}")
        client.cancel(second)
        assert people.stdout.readline().startswith(f"waits for a worker: next, {at_work}")
        client.cancel(endless)
        assert people.stdout.readline() == "running\n"
        events = [json.loads(line) for line in program.communicate(timeout=LIMIT)[0].splitlines()]
        assert all(event["sequence"] != "0" for event in events)
        people.communicate(timeout=LIMIT)
        assert [watch.returncode for watch in watches] == [0, 0]


def test_a_second_ctrl_c_ends_a_run_at_once_and_leaves_nothing_in_tmp(tmp_path):
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    temporary.mkdir()
    made = cli("synth", "--d", "512", "--n", "256", "--k", "64", "--rank", "8", "--output", data)
    assert made.returncode == 0, made.stderr
    run = subprocess.Popen(
        [BIN / "attnprune", "run", "--weights", data / "weights.safetensors", "--fused", "w",
         "--calibration", data / "calibration.safetensors", "--method", "gd:steps=1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(temporary)})
    wait_for(lambda: run.stdout.readline().startswith("gd"), "the run shows progress")
    assert len(list(temporary.glob("attnprune-*"))) == 1
    run.send_signal(signal.SIGINT)
    wait_for(lambda: "interrupted" in run.stderr.readline(), "it says so, then it drains")
    assert run.poll() is None, "the drain waits for the step, which takes a second"
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=LIMIT)
    assert run.returncode == 130
    assert not list(temporary.iterdir())


def test_a_server_that_is_not_there_exits_with_three():
    gone = cli("submit", *JOB, "--method", "wanda", "--server", "127.0.0.1:1", "--patience", "0s")
    assert gone.returncode == 3
    assert "cannot reach the server: " in gone.stderr and "127.0.0.1:1" in gone.stderr
    assert "attnprune-server --data-dir DIR starts one" in gone.stderr


def test_a_list_says_that_the_server_is_away_and_ends_when_it_is_back(server):
    server.process.send_signal(signal.SIGSTOP)
    with subprocess.Popen([BIN / "attnprune", "list", "--server", server.address], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        said = listing.stderr.readline()
        assert said == f"server {server.address} does not answer; trying again ...\n"
        server.process.send_signal(signal.SIGCONT)
        out, more = listing.communicate(timeout=LIMIT)
    assert listing.returncode == 0 and out.startswith("job ")
    assert more == f"again connected to server {server.address}\n"


def on_terminal(columns, *arguments, **environment):
    """What attnprune writes on a terminal that wide, line by line as it would scroll by, and its code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    known = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    with subprocess.Popen([BIN / "attnprune", *map(str, arguments)], stdout=slave, stderr=slave,
                          env={**known, "TERM": "xterm", **environment}) as program:
        os.close(slave)
        written = b""
        with contextlib.suppress(OSError):  # its end
            while piece := os.read(master, 1 << 16):
                written += piece
    os.close(master)
    return written.decode(), program.returncode


ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@pytest.mark.parametrize("columns, headings", [
    (120, "method held out mask only calibration linear pruned % steps seconds judging end"),
    (80, "method held out mask only calibration pruned % seconds end"),
    (40, "method held out pruned %")])
def test_tables_and_bars_fit_the_terminal(columns, headings):
    written, code = on_terminal(columns, "run", *JOB, "--method", "magnitude", "--method", "sparsegpt",
                                "--method", "gd:steps=20")
    assert code == 0, written
    lines = ESCAPES.sub("", written).replace("\r", "").splitlines()
    bars = [line for line in lines if re.search(r"\[[#.]+\]", line)]
    assert bars and "0." in bars[-1], "the error of what has ended"
    table = lines.index(next(line for line in lines if line.startswith("method ")))
    assert lines[table].split() == headings.split()
    assert all(len(line) < columns for line in bars + lines[table:table + 4]), lines


def test_a_terminal_has_colours_unless_no_color_says_otherwise(server):
    assert cli("submit", *JOB, "--method", "wanda", "--watch", "--server", server.address).returncode == 0
    flags = ["list", "--server", server.address]
    assert "\x1b[32msucceeded\x1b[0m" in on_terminal(80, *flags)[0]
    assert "\x1b[" not in on_terminal(80, *flags, NO_COLOR="1")[0]
    assert "\x1b[" not in cli(*flags).stdout


def test_in_a_pipe_a_method_has_a_line_every_tenth_of_its_way(server):
    done = cli("submit", *JOB, "--method", "gd:steps=60", "--watch", "--server", server.address)
    assert done.returncode == 0, done.stderr
    steps = re.findall(r"^gd +(\d+)/60 ", done.stdout, re.M)
    assert steps[-1] == "60" and len(steps) <= 11, steps
    assert len(re.findall(r"^gd  done ", done.stdout, re.M)) == 1


def test_ctrl_c_of_a_run_keeps_the_methods_that_have_ended_and_says_where(tmp_path):
    output = tmp_path / "{method}"
    run = subprocess.Popen([BIN / "attnprune", "run", *JOB, "--method", "magnitude", "--method",
                            "gd:steps=1000000", "--output", output],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: run.stdout.readline().startswith("gd"), "the second method is at work")
    run.send_signal(signal.SIGINT)
    out, said = run.communicate(timeout=LIMIT)
    assert run.returncode == 130, said
    assert "1 of 2 methods had ended, whose results are written" in said
    assert f"weights of magnitude: {tmp_path}/magnitude" in out
    assert re.search(r"^magnitude +0\.\d+", out, re.M), "the table of what has ended"
    assert (tmp_path / "magnitude" / "model.safetensors").exists()
    assert not (tmp_path / "gd").exists()


def test_a_run_that_has_no_room_for_its_files_says_so_before_it_begins(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False,
                             capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        run = cli("run", *JOB, "--method", "magnitude", "--output", small / "pruned")
        assert run.returncode == 1
        assert "the disk is full" in run.stderr and "running" not in run.stdout
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", small], check=True)



def test_a_server_that_dies_for_good_ends_a_watch_with_three(server, client):
    name = submit(client, methods=(("gd", {"steps": 1000000}),)).name
    client.wait_for_step(name)
    watch = subprocess.Popen([BIN / "attnprune", "watch", name, "--server", server.address,
                              "--patience", "1s"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: watch.stdout.readline().startswith("gd"), "the watch shows progress")
    server.kill()
    _, said = watch.communicate(timeout=LIMIT)
    server.start()
    assert watch.returncode == 3, said


def test_validate_only_prints_the_estimate_and_creates_nothing(server, client):
    valid = cli("submit", "--validate-only", *JOB, "--method", "gd", "--server", server.address)
    assert valid.returncode == 0, valid.stderr
    assert re.search(r"memory [\d.]+ MiB, time [\d.]+ s", valid.stdout)
    assert cli("list", "--json", "--server", server.address).stdout.count('"name"') == 0
    run = cli("submit", "--run", "--validate-only", "--model", MODEL, "--text",
              MODEL / "calibration.txt", "--held-out-fraction", "0.25", "--sparsity", "0.5",
              "--method", "wanda", "--server", server.address)
    assert run.returncode == 0, run.stderr
    assert re.search(r"memory [\d.]+ MiB, disk [\d.]+ MiB, time [\d.]+ s", run.stdout), run.stdout
    left = [path for folder in ("tensors/sha256", "uploads", "checkpoints")
            for path in (server.folder / folder).rglob("*") if path.is_file()]
    assert not left, "nothing was uploaded"


def test_health_tells_a_container_whether_the_server_serves(server):
    assert cli("health", "--server", server.address).returncode == 0
    server.kill()
    assert cli("health", "--server", server.address).returncode == 3
    server.start()


@pytest.mark.parametrize("method", ["gd:steps=20", "joint:long=1,steps=20", "wanda+refit:refit_steps=20"])
def test_the_estimated_memory_is_what_a_job_with_checkpoints_takes(tmp_path, method):
    assert cli("synth", "--d", "1024", "--n", "16", "--k", "2", "--output", tmp_path).returncode == 0
    job = ["--weights", tmp_path / "weights.safetensors", "--fused", "w", "--calibration",
           tmp_path / "calibration.safetensors", "--method", method]
    with Server(tmp_path / "data", "--checkpoint-interval", "10ms") as server:
        at = ["--server", server.address]
        estimate = int(json.loads(cli("submit", *job, "--validate-only", "--json",
                                      *at).stdout)["estimate"]["memoryBytes"])
        # The first job of a process maps the libraries' code and what they keep.
        assert cli("submit", *job[:-1], "magnitude", "--watch", *at).returncode == 0
        before = server.memory_bytes()
        assert cli("submit", *job, "--watch", *at).returncode == 0
        taken = server.memory_bytes("VmHWM") - before
    assert 0.5 * estimate < taken < 1.2 * estimate, f"{taken >> 20} MiB of {estimate >> 20} estimated"
