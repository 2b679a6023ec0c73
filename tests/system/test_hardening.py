"""The programs as they are shipped are hardened: what their ELF files say."""

import subprocess

import pytest

from harness import BIN

PROGRAMS = ["attnprune", "attnprune-server"]


def readelf(program, *options):
    return subprocess.run(
        ["readelf", "--wide", *options, BIN / program], check=True, capture_output=True, text=True
    ).stdout


def segments(program):
    """Type and flags of each program header, such as ("GNU_STACK", "RW")."""
    found = []
    for line in readelf(program, "--program-headers").splitlines():
        words = line.split()
        if len(words) >= 8 and words[1].startswith("0x"):
            found.append((words[0], "".join(words[6:-1])))
    return found


def imported(program):
    return {
        line.split()[7].split("@")[0]
        for line in readelf(program, "--dyn-syms").splitlines()
        if " UND " in line and len(line.split()) > 7
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_image_is_moved_at_each_start(program):
    assert "DYN" in readelf(program, "--file-header").split("Type:")[1].splitlines()[0]
    assert "PIE" in readelf(program, "--dynamic")
    assert "TEXTREL" not in readelf(program, "--dynamic")


@pytest.mark.parametrize("program", PROGRAMS)
def test_tables_of_functions_are_bound_at_the_start_and_read_only_then(program):
    assert "GNU_RELRO" in dict(segments(program))
    assert "NOW" in readelf(program, "--dynamic").split("FLAGS_1")[1].splitlines()[0]


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_memory_is_both_written_and_executed(program):
    assert dict(segments(program))["GNU_STACK"] == "RW"
    assert not [name for name, flags in segments(program) if "W" in flags and "E" in flags]


@pytest.mark.parametrize("program", PROGRAMS)
def test_stacks_have_canaries_and_copies_are_checked(program):
    names = imported(program)
    assert "__stack_chk_fail" in names
    assert [name for name in names if name.endswith("_chk")], "nothing of _FORTIFY_SOURCE"


@pytest.mark.parametrize("program", PROGRAMS)
def test_code_is_entered_at_marked_places(program):
    code = subprocess.run(
        ["objdump", "--disassemble=main", BIN / program], check=True, capture_output=True, text=True
    ).stdout
    assert "endbr64" in code
