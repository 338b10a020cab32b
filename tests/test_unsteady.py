"""`.ci/tests` tells chance from failure: what failed is run again alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from building import TREE, run

TEST = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_it(number):
    tries = Path(__file__).with_name(f"tries_{{number}}")
    with tries.open("a") as file:
        file.write("x")
    assert len(tries.read_text()) not in {failing}
"""
UNSTEADY = "UNSTEADY: failed once, and passed alone:\n  test_tries.py::test_it[0]"


HANGS = """
import threading
from pathlib import Path

def test_it():
    tried = Path(__file__).with_name("tried")
    if not tried.exists():
        tried.touch()
        threading.Event().wait()
"""


def told(folder: Path, test: str, *options: str) -> CompletedProcess[str]:
    """What is printed of a folder with this one module of tests."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_tries.py").write_text(test)
    return run(sys.executable, TREE / ".ci" / "tests", sys.executable, *options, cwd=folder)


def tried(folder: Path, *, failing: object, tests: int = 1) -> CompletedProcess[str]:
    """What is printed of tests that fail in their first, second ... run."""
    return told(folder, TEST.format(tests=tests, failing=failing), "-n", "0")


def test_what_passes_alone_is_told_and_no_failure(tmp_path: Path) -> None:
    ran = tried(tmp_path, failing=[1])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip().endswith(UNSTEADY)
    assert (tmp_path / "tries_0").read_text() == "xxxx"


@pytest.mark.parametrize("failing", [range(10), [1, 4]], ids=["always", "once more"])
def test_what_fails_again_is_a_failure(tmp_path: Path, failing: object) -> None:
    ran = tried(tmp_path, failing=failing)
    assert ran.returncode == 1
    assert "UNSTEADY" not in ran.stdout


@pytest.mark.parametrize("failing", [[], [1]], ids=["none fails", "many fail"])
def test_nothing_else_is_run_again(tmp_path: Path, failing: list[int]) -> None:
    ran = tried(tmp_path, failing=failing, tests=6)
    assert ran.returncode == (1 if failing else 0)
    assert {(tmp_path / f"tries_{number}").read_text() for number in range(6)} == {"x"}


def test_what_hangs_is_told_with_where_and_run_again_alone(tmp_path: Path) -> None:
    ran = told(tmp_path, HANGS, "-n", "1", "-o", "faulthandler_timeout=4")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r'test_tries\.py", line \d+ in test_it', ran.stderr)
    assert "UNSTEADY: failed once, and passed alone:\n  test_tries.py::test_it" in ran.stdout
