"""The paper's figures on a small size: the numbers of docs/figures.md, from a server or without one."""
import csv
import math
import os
import signal
import subprocess
import sys
import xml.dom.minidom

import pytest

import attnprune
from attnprune.errors import InvalidArgument
from attnprune.reproduce import choice, drawing, rows
from attnprune.reproduce.plan import Axis, Options, Place, default_axes, parse_axis, plan, validate
from attnprune.v1 import job_pb2
from harness import BIN, LIMIT, MODEL, ROOT, wait_for

ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
SMALL = ["figure2", "--d", "16", "--n", "16", "--rank", "2", "--k", "2", "--k", "4", "--held-out", "2",
         "--seeds", "2", "--axis", "n=8,16", "--axis", "rho=0.5,0.7", "--method", "gd:steps=10",
         "--method", "wanda", "--method", "magnitude", "--method", "joint:long=1,steps=20"]
METHODS = ["gd:steps=10", "wanda", "magnitude", "joint:long=1,steps=20"]


def command(*arguments):
    return [sys.executable, "-B", "-m", "attnprune.reproduce", *map(str, arguments)]


def reproduce(*arguments):
    return subprocess.run(command(*arguments), text=True, capture_output=True, timeout=LIMIT,
                          check=False, env=ENVIRONMENT)


def rows_of(folder, name):
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers_of(folder, name):
    """Without the times."""
    return [{**row, "seconds": ""} for row in rows_of(folder, name)]


def check_plots(folder, name, methods):
    if not drawing.available():
        assert not list(folder.glob("*.svg"))
        return
    for ending in ("", "-held-out"):
        document = xml.dom.minidom.parse(str(folder / f"{name}{ending}.svg"))
        text = "".join(node.toxml() for node in document.getElementsByTagName("text"))
        assert all(method in text for method in methods), name
        assert ("held-out" in text) == (ending != "")


# --- the plan ---

def small_plan(**changes):
    """gd and wanda over two points of each axis; of each, one is what the others stay at."""
    options = {"figure": "figure2", "ks": [2], "seeds": 1, "n": 10, "methods": ["gd", "wanda"],
               "axes": [Axis("lambda", (0.04, 0.08)), Axis("n", (10, 20)), Axis("rho", (0.5, 0.75))]}
    return plan(Options(**{**options, **changes}))


def test_what_points_have_in_common_runs_once():
    jobs = small_plan()
    assert [(job.n, job.rho) for job in jobs] == [(10, 0.5), (20, 0.5), (10, 0.75)]
    runs = jobs[0].runs
    assert [(run.text, len(run.places)) for run in runs] == [("gd", 3), ("wanda", 4), ("gd", 1)]
    assert runs[2].places == [Place("lambda", 0.08)]


def test_gd_has_the_papers_settings_where_none_are_given():
    jobs = small_plan()
    assert dict(jobs[0].runs[0].method.parameters) == pytest.approx({"lambda": 0.4, "eta": 0.25})
    assert jobs[1].runs[0].method.parameters["lambda"] == pytest.approx(0.8), "n = 20"
    assert not jobs[0].runs[1].method.parameters, "wanda has no lambda"
    (given,) = small_plan(methods=["gd:lambda=2"])[0].runs
    assert dict(given.method.parameters) == {"lambda": 2, "eta": 0.05}
    section7 = small_plan(figure="figure3", methods=["gd+refit"], axes=[Axis("rho", (0.5,))])
    assert dict(section7[0].runs[0].method.parameters) == {"lambda": 0.05, "eta": 0.005}


def test_a_seed_is_completed_before_the_next():
    jobs = small_plan(ks=[2, 4], seeds=2)
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
    assert len({(job.seed, job.k, job.n, job.rho) for job in jobs}) == len(jobs) == 2 * 2 * 3


@pytest.mark.parametrize("change, refused", [
    ({"rho": 1.0}, "--rho must be in [0, 1), got 1"),
    ({"n": 0}, "--n must be a whole number in [1, 1048576], got 0"),
    ({"lam": 0.0}, "--lambda must be above 0, got 0"),
    ({"ks": [0]}, "--k must be at least 1, got 0"),
    ({"ks": [2, 2]}, "--k must name each once, got 2 twice"),
    ({"seeds": 0}, "--seeds must be in [1, 1000], got 0"),
    ({"methods": ["gd", "gd"]}, "--method must name each once, got gd twice"),
    ({"methods": ["gd:steps"]}, "methods must be NAME:PARAMETER=NUMBER,..., got gd:steps"),
    ({"axes": [Axis("rho", (0.5, 2.0))]}, "--axis rho must be in [0, 1), got 2"),
    ({"axes": [Axis("n", (1.5,))]}, "--axis n must be a whole number in [1, 1048576], got 1.5"),
])
def test_what_is_out_of_range_is_refused_by_its_flag(change, refused):
    with pytest.raises(InvalidArgument) as error:
        validate(Options(**{"figure": "figure2", "ks": [2], "methods": ["gd"], **change}))
    assert error.value.message == refused


def test_an_axis_has_the_points_that_are_given_or_the_usual_ones():
    assert parse_axis("n=32,16", "figure2", "full") == Axis("n", (16, 32))
    assert parse_axis("rho", "figure3", "few") == Axis("rho", (0.3, 0.5, 0.7, 0.9))
    assert [axis.name for axis in default_axes("figure3", "few")] == ["n", "rho"]
    for text in ("lambda", "n=x", "width=3"):
        with pytest.raises(InvalidArgument, match=f"--axis must be .*, got {text}"):
            parse_axis(text, "figure3", "few")


def test_a_seed_chooses_the_sequences_that_it_always_chose():
    """std::mt19937_64 from a std::seed_seq, in C++."""
    numbers = choice.random_numbers([0, 0])
    drawn = [next(numbers) for _ in range(703)]
    assert (drawn[0], drawn[1], drawn[702]) == (6426926556729538995, 14760968932797881514,
                                                11141852197902791439)
    assert choice.choose(16, 8, 1) == [0, 1, 2, 3, 4, 10, 13, 15]
    assert choice.choose(16, 8, 123456789012345) == [0, 2, 3, 5, 8, 9, 10, 11]
    assert choice.choose(3, 3, 0) == [0, 1, 2]


# --- rows ---

def ended_job(results):
    made = job_pb2.Job()
    for calibration, held_out in results:
        result = made.results.add()
        if calibration is None:
            result.failure.message = "it diverged"
            continue
        result.relative_error.calibration = calibration
        if held_out is not None:
            result.relative_error.held_out = held_out
    return made


def test_rows_are_those_of_the_methods_that_have_a_result_at_each_of_their_points():
    job = small_plan()[0]
    found = rows.rows_of(job, ended_job([(0.25, 0.5), (None, None), (0.125, None)]))
    assert [(row.place, row.method, row.calibration) for row in found] == [
        (Place("lambda", 0.04), "gd", 0.25), (Place("n", 10), "gd", 0.25),
        (Place("rho", 0.5), "gd", 0.25), (Place("lambda", 0.08), "gd", 0.125)]
    assert found[0].held_out == 0.5 and math.isnan(found[3].held_out)


def test_csv_and_table_of_two_seeds():
    options = Options("figure2", ks=[2], methods=["gd:steps=1,eta=2", "wanda"], axes=[])
    place = Place("rho", 0.5)
    made = [rows.Row(place, 2, 1, "wanda", 0.5, math.nan, 1.0),
            rows.Row(place, 2, 1, "gd:steps=1,eta=2", 0.3, 0.5, 0.25),
            rows.Row(place, 2, 0, "gd:steps=1,eta=2", 0.1, 0.7, 0.0625)]
    ordered = rows.of_axis(options, "rho", made)
    text = rows.csv_text("figure2", ordered)
    assert text == ("figure,axis,x,k,method,seed,calibration_error,held_out_error,seconds\n"
                    'figure2,rho,0.5,2,"gd:steps=1,eta=2",0,0.1,0.7,0.062\n'
                    'figure2,rho,0.5,2,"gd:steps=1,eta=2",1,0.3,0.5,0.250\n'
                    "figure2,rho,0.5,2,wanda,1,0.5,,1.000\n")
    assert rows.csv_text("figure2", rows.read_csv(text)) == text
    spread = rows.spread_of(made, place, 2, "gd:steps=1,eta=2", "held_out")
    assert (spread.mean, spread.low, spread.high) == (pytest.approx(0.6), 0.5, 0.7)
    assert rows.table(options, Axis("rho", (0.5,)), made) == (
        "k  rho  gd:steps=1,eta=2    wanda\n"
        "2  0.5         0.2 / 0.6  0.5 / -\n")


# --- whole figures ---

def test_figure_2_is_the_same_on_a_server_and_on_one_of_its_own(server, tmp_path):
    alone = reproduce(*SMALL, "--output", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    given = reproduce(*SMALL, "--output", tmp_path / "given", "--server", server.address)
    assert given.returncode == 0, given.stderr
    for axis in ("n", "rho"):
        name = f"figure2-{axis}"
        found = rows_of(tmp_path / "alone", name)
        assert len(found) == 2 * 2 * len(METHODS) * 2, "k, points, methods, seeds"
        assert {row["method"] for row in found} == set(METHODS)
        assert {row["seed"] for row in found} == {"0", "1"}
        assert all(0 < float(row["calibration_error"]) < 4 for row in found)
        assert all(0 < float(row["held_out_error"]) < 4 for row in found)
        assert numbers_of(tmp_path / "given", name) == numbers_of(tmp_path / "alone", name)
        check_plots(tmp_path / "alone", name, METHODS)
    with attnprune.Client(server.address) as client:
        labelled = list(client.list_jobs(labels={"attnprune/figure": "figure2"}))
    assert len(labelled) == 2 * 2 * 3, "k, seeds, points less the common"


def same_rows(made, known):
    """Each row is among the known ones, its errors within 0.1 %: another CPU sums in another order."""
    found = {(row["x"], row["k"], row["method"], row["seed"]): row for row in known}
    for row in made:
        twin = found[row["x"], row["k"], row["method"], row["seed"]]
        for error in ("calibration_error", "held_out_error"):
            assert float(row[error]) == pytest.approx(float(twin[error]), rel=1e-3), row


def test_figure_2_has_the_numbers_of_the_docs(tmp_path):
    drawn = reproduce("figure2", "--axis", "rho=0.5,0.9", "--k", "16", "--seeds", "2",
                      "--method", "magnitude", "--method", "wanda", "--output", tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    made = rows_of(tmp_path, "figure2-rho")
    assert len(made) == 2 * 2 * 2, "points, methods, seeds"
    same_rows(made, rows_of(ROOT / "docs/figures", "figure2-rho"))


def test_figure_3_has_the_numbers_of_the_docs(server, tmp_path):
    drawn = reproduce("figure3", "--model", MODEL, "--layer", "1",
                      "--calibration", MODEL / "calibration.safetensors",
                      "--held-out", MODEL / "held_out.safetensors", "--points", "few", "--axis", "rho",
                      "--method", "magnitude", "--method", "sparsegpt", "--output", tmp_path,
                      "--server", server.address)
    assert drawn.returncode == 0, drawn.stderr
    made = rows_of(tmp_path, "figure3-rho")
    assert len(made) == 4 * 2 * 3, "points, methods, seeds"
    same_rows(made, rows_of(ROOT / "docs/figures", "figure3-rho"))
    check_plots(tmp_path, "figure3-rho", ["magnitude", "sparsegpt"])
    with attnprune.Client(server.address) as client:
        assert all("attnprune/figure" in job.labels for job in client.list_jobs()), "no other job stays"


@pytest.mark.parametrize("flags, said", [
    (["--k", "16"], "--k must be at most 15: each of 3 seeds chooses among the 16 calibration "
                    "sequences; got 16"),
    (["--n", "129"], "--n must be at most 128, the tokens of a sequence, got 129"),
    (["--layer", "9"], "layer"),
])
def test_what_a_layers_files_do_not_have_is_refused(server, tmp_path, flags, said):
    drawn = reproduce("figure3", "--model", MODEL, "--layer", "1", "--calibration",
                      MODEL / "calibration.safetensors", "--held-out", MODEL / "held_out.safetensors",
                      *flags, "--output", tmp_path, "--server", server.address)
    assert drawn.returncode == 2 and said in drawn.stderr, drawn.stderr
    with attnprune.Client(server.address) as client:
        assert not list(client.list_jobs())


def test_a_server_that_is_not_there_exits_with_three(tmp_path):
    # Its patience is 10 s.
    gone = reproduce("figure2", "--output", tmp_path, "--server", "127.0.0.1:1")
    assert gone.returncode == 3 and "127.0.0.1:1" in gone.stderr


def test_ctrl_c_leaves_the_figure_that_was_there_and_the_rows_that_were_finished(tmp_path):
    drawn = reproduce(*SMALL, "--output", tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert not [name for name in before if "partial" in name]

    partial = tmp_path / "figure2-n.partial.csv"
    with subprocess.Popen(command(*SMALL, "--add-method", "joint:long=1,steps=3000", "--output", tmp_path),
                          stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                          env=ENVIRONMENT) as again:
        wait_for(lambda: partial.exists() and rows_of(tmp_path, "figure2-n.partial"),
                 "the first job has ended")
        again.send_signal(signal.SIGINT)
        _, said = again.communicate(timeout=LIMIT)
    assert again.returncode == 130, said
    assert "partial.csv" in said
    assert rows_of(tmp_path, "figure2-n.partial"), "what was finished"
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
