"""The paper's figures on a small size: from a server and without one, the same numbers."""
import csv
import json
import signal
import subprocess
import xml.dom.minidom

from harness import BIN, LIMIT, MODEL, cli, wait_for

SMALL = ["figure2", "--d", "16", "--n", "16", "--rank", "2", "--k", "2", "--k", "4", "--held-out", "2",
         "--axis", "n=8,16", "--axis", "rho=0.5,0.7", "--method", "gd:steps=10", "--method", "wanda",
         "--method", "magnitude", "--method", "joint:long=1,steps=20"]
METHODS = ["gd:steps=10", "wanda", "magnitude", "joint:long=1,steps=20"]


def rows_of(folder, name):
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers_of(folder, name):
    """Without the times."""
    return [{**row, "seconds": ""} for row in rows_of(folder, name)]


def check_plots(folder, name, methods):
    for ending in ("", "-held-out"):
        document = xml.dom.minidom.parse(str(folder / f"{name}{ending}.svg"))
        text = "".join(node.toxml() for node in document.getElementsByTagName("text"))
        assert all(method in text for method in methods), name
        assert ("held-out" in text) == (ending != "")


def test_figure_2_is_the_same_on_a_server_and_on_one_of_its_own(server, tmp_path):
    alone = cli("reproduce", *SMALL, "--output", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    given = cli("reproduce", *SMALL, "--output", tmp_path / "given", "--server", server.address)
    assert given.returncode == 0, given.stderr
    for axis in ("n", "rho"):
        name = f"figure2-{axis}"
        rows = rows_of(tmp_path / "alone", name)
        assert len(rows) == 2 * 2 * len(METHODS) * 3, "k, points, methods, seeds"
        assert {row["method"] for row in rows} == set(METHODS)
        assert {row["seed"] for row in rows} == {"0", "1", "2"}
        assert all(0 < float(row["calibration_error"]) < 4 for row in rows)
        assert all(0 < float(row["held_out_error"]) < 4 for row in rows)
        assert numbers_of(tmp_path / "given", name) == numbers_of(tmp_path / "alone", name)
        check_plots(tmp_path / "alone", name, METHODS)
    listed = cli("list", "--json", "--label", "attnprune/figure=figure2", "--limit", "100",
                 "--server", server.address)
    assert len(json.loads(listed.stdout)["jobs"]) == 2 * 3 * 3, "k, seeds, points less the common"


def test_figure_3_prunes_a_real_layer_with_masks_of_their_own(tmp_path):
    drawn = cli("reproduce", "figure3", "--model", MODEL, "--layer", "1",
                "--calibration", MODEL / "calibration.safetensors",
                "--held-out", MODEL / "held_out.safetensors", "--points", "few", "--n", "32",
                "--k", "2", "--axis", "rho", "--method", "magnitude", "--method", "sparsegpt",
                "--output", tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    rows = rows_of(tmp_path, "figure3-rho")
    assert len(rows) == 4 * 2 * 3, "points, methods, seeds"
    for method in ("magnitude", "sparsegpt"):
        errors = [float(row["held_out_error"]) for row in rows
                  if row["method"] == method and row["seed"] == "0"]
        assert errors == sorted(errors), "the more goes, the more it costs"
    check_plots(tmp_path, "figure3-rho", ["magnitude", "sparsegpt"])


def test_ctrl_c_leaves_the_figure_that_was_there_and_the_rows_that_were_finished(tmp_path):
    drawn = cli("reproduce", *SMALL, "--output", tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert not [name for name in before if "partial" in name]

    partial = tmp_path / "figure2-n.partial.csv"
    again = subprocess.Popen([BIN / "attnprune", "reproduce", *SMALL, "--add-method",
                              "joint:long=1,steps=3000", "--output", tmp_path], stderr=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, text=True)
    wait_for(partial.exists, "the first job has ended")
    again.send_signal(signal.SIGINT)
    _, said = again.communicate(timeout=LIMIT)
    assert again.returncode == 130, said
    assert "partial.csv" in said
    assert rows_of(tmp_path, "figure2-n.partial"), "what was finished"
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
