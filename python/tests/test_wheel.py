"""The wheels: what is in them, and that the one with the programs needs no other."""
import os
import subprocess
import sys
import zipfile

from harness import BIN, LIMIT, ROOT


def build(folder, programs):
    """A wheel, as ./dev.sh wheel builds it, unpacked as pip does."""
    done = subprocess.run([sys.executable, "-B", "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
                          cwd=ROOT / "python", text=True, capture_output=True, timeout=LIMIT, check=False,
                          env={**os.environ, "ATTNPRUNE_WHEEL_PROGRAMS": str(programs)})
    if done.returncode:
        return done.stdout + done.stderr, None
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        for entry in file.infolist():
            path = file.extract(entry, folder / "unpacked")
            os.chmod(path, (entry.external_attr >> 16) & 0o777)
        return wheel.name, {entry.filename for entry in file.infolist()}


def test_the_wheel_for_any_system(tmp_path):
    name, files = build(tmp_path, "")
    assert name.endswith("-py3-none-any.whl") and "attnprune/py.typed" in files
    assert {"attnprune/v1/job_pb2.py", "attnprune/v1/job_pb2.pyi"} <= files
    assert not [file for file in files if "/bin/" in file or file.startswith("tests")]


def test_the_wheel_with_the_programs_starts_its_own_server(tmp_path):
    name, files = build(tmp_path, BIN)
    assert name.endswith("-py3-none-linux_x86_64.whl")
    assert {"attnprune/bin/attnprune", "attnprune/bin/attnprune-server"} <= files
    script = "import attnprune\nwith attnprune.local() as client: print(client.server_info().version)"
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, timeout=LIMIT,
                          check=False, env={"PYTHONPATH": str(tmp_path / "unpacked"), "PATH": "/nowhere"})
    assert done.returncode == 0 and done.stdout.strip() == name.split("-")[1], done.stderr


def test_a_folder_without_programs_is_refused(tmp_path):
    said, _ = build(tmp_path, tmp_path)
    assert f"ATTNPRUNE_WHEEL_PROGRAMS must hold attnprune, got {tmp_path}" in said


