"""SecantusDB, where tests have no mongod: in a process of its own, which never outlives us.

It speaks MongoDB's protocol as the primary of a replica set of one. What it is not to be trusted
with (contention, elections, how a query is planned) asks for the fixture ``on_real_mongod``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Final

from free_ports import free_port

PROGRAM: Final = Path(sysconfig.get_path("scripts")) / "secantusd-py"
SECONDS_MAX: Final = 300
SAID_MAX: Final = 20_000
"""Bytes of its output that a failure shows."""

LISTENS: Final = re.compile(rb"listening on 127\.0\.0\.1:(\d+)\n")

GUARD: Final = "import os, signal, sys\nsys.stdin.read()\nos.kill(int(sys.argv[1]), signal.SIGKILL)"
"""Kills the process when whoever holds the other end of its input has ended, however that was."""


class StandIn:
    """One SecantusDB with its data in a directory; killed by `stop`, started again by `start`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._log = directory / "output"
        self._port = free_port()  # It may start again there.
        self.start()

    @property
    def uri(self) -> str:
        """Its address, with what a driver needs to follow its changes of state soon.

        A direct connection: of a replica set, a driver would go to the addresses that the server
        names, past any proxy before it.
        """
        return (
            f"mongodb://127.0.0.1:{self._port}/"
            "?directConnection=true&heartbeatFrequencyMS=500&serverSelectionTimeoutMS=10000"
        )

    @property
    def said(self) -> str:
        """The end of its output."""
        return self._log.read_bytes()[-SAID_MAX:].decode(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = self._directory / "secantusd.toml"  # Named, so that it looks for no other.
        settings.touch()
        arguments = (
            *("--config", settings, "--storage-path", self._data, "--enable-test-commands"),
            *("--host", "127.0.0.1", "--port", str(self._port), "--log-level", "INFO"),
            *("--cache-size", "256M"),
        )
        self._log.touch()
        said_before = self._log.stat().st_size
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, *arguments],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", GUARD, str(self._process.pid)],
            stdin=subprocess.PIPE,
        )
        self._port = self._wait_for_port(said_before)

    def stop(self) -> None:
        """Kill it at once: what it did not sync is its own affair."""
        self._guard.kill()
        self._guard.communicate()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(SECONDS_MAX)

    def remove(self) -> None:
        """Kill it and remove its data; its output stays."""
        self.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    def _wait_for_port(self, said_before: int) -> int:
        end = time.monotonic() + SECONDS_MAX
        while not (found := LISTENS.search(self._log.read_bytes()[said_before:])):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"SecantusDB did not start:\n{self.said}")
            time.sleep(0.02)
        return int(found[1])
