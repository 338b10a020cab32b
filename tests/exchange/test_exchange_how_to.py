"""The how-to page on exchanges is true: its commands run as they stand, one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "exchange.md"

PEERS = "citychain peers --city hill"


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The changes: free ports, and waiting until the servers answer and the peer is pinned."""
    commands = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
    first, second = free_port(), free_port()
    commands = commands.replace("50051", str(first)).replace("50052", str(second))
    waiting = f"until {PEERS} --timeout 30 | tee told | grep -q yes; do sleep 0.1; done; cat told"
    assert PEERS in commands
    commands = re.sub(rf"{PEERS}.*", waiting, commands)
    command = tmp_path / "bin" / "citychain"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m citychain "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setenv("CITYCHAIN_ADDRESS", f"127.0.0.1:{first}")
    ending = "set -eu\nend() { kill $(jobs -p) && wait; }\ntrap end EXIT\n"
    done = subprocess.run(
        ["bash", "-c", ending + commands],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "DELIVERED" in done.stdout
    assert "lake" in done.stdout
