"""Runs commands of the documentation as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["run_commands"]

SECONDS_MAX = 600
"""For all of them: on a busy machine twenty take minutes."""
SERVE = (
    r"rm -f ready"
    "\n"
    r"\g<1> --listen 127.0.0.1:0 --ready-file ready &"
    "\nwhile [ ! -e ready ]; do sleep 0.05; done"
    "\nCITYCHAIN_ADDRESS=$(cat ready); export CITYCHAIN_ADDRESS"
)
"""The one change to them: a free port instead of the default one, which may be in use."""


def run_commands(commands: str, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run commands as they stand, and end what they left running; returns what they print."""
    command = cwd / "bin" / "citychain"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m citychain "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.delenv("CITYCHAIN_ADDRESS", raising=False)
    script = re.sub(r"(citychain serve\b.*) &$", SERVE, commands, flags=re.MULTILINE)
    ending = "set -eu\nend() { jobs -p | xargs -r kill; wait; }\ntrap end EXIT\n"
    done = subprocess.run(
        ["bash", "-c", ending + script],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
