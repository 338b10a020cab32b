"""What `citychain new-plugin` of the wheel writes, installed with pip where nothing else is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from building import run, rust_variables

ALL = ("city", "storage", "store", "dag", "consensus")
KINDS = [option for kind in ALL for option in ("--kind", kind)]


@pytest.mark.slow
def test_a_new_plugin_installs_and_passes_its_tests(
    packages: Mapping[str, Path], tmp_path: Path
) -> None:
    assert run(sys.executable, "-m", "venv", "venv", cwd=tmp_path).returncode == 0
    programs, folder = tmp_path / "venv" / "bin", tmp_path / "citychain-harbour"
    for cwd, command in (
        (tmp_path, ["pip", "install", "--quiet", "--upgrade", "pip", packages["wheel"]]),
        (tmp_path, ["citychain", "new-plugin", "harbour", *KINDS]),
        (folder, ["pip", "install", "--quiet", ".", "--group", "test", "--group", "lint"]),
        (folder, ["pytest", "--quiet"]),
        (folder, ["mypy"]),
        (folder, ["ruff", "check"]),
        (folder, ["citychain", "plugins", "--strict"]),
    ):
        ran = run(programs / command[0], *command[1:], cwd=cwd, path=programs, **rust_variables())
        assert ran.returncode == 0, ran.stdout + ran.stderr
