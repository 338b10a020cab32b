"""A real server in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from citychain.errors import ServerUnavailable

__all__ = ["ServerProcess"]

START_SECONDS_MAX: Final = 60.0


class ServerProcess:
    """A server in a directory, always on the address that it got at first.

    Args:
        command: Python's arguments, instead of those of ``citychain serve``; it writes its
            address to the file ``address``.
    """

    def __init__(self, directory: Path, command: Sequence[str] = ()) -> None:
        self._directory = directory
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self.address = "127.0.0.1:0"
        self.starts = 0
        self.away_seconds = 0.0
        """From being killed to answering again."""
        self._killed_at: float | None = None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ServerUnavailable: it ended, or did not answer in time; the message has
                the last line of its log.
        """
        ready = self._directory / "address"
        ready.unlink(missing_ok=True)
        with (self._directory / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(self._command or self._serve()),
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demonstration, or measurement, which then stops the server.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                while not ready.exists():
                    if self._process.returncode is not None:
                        raise ServerUnavailable(f"the server did not start: {self._last_line()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerUnavailable(
                f"the server did not answer within {START_SECONDS_MAX:.0f} s: {self._last_line()}"
            ) from None
        self.address = ready.read_text().strip()
        self.starts += 1
        if self._killed_at is not None:
            self.away_seconds += time.monotonic() - self._killed_at
            self._killed_at = None

    def _serve(self) -> tuple[str, ...]:
        options = ("--config", "citychain.toml", "--listen", self.address)
        return ("-m", "citychain", "serve", *options, "--ready-file", "address")

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    async def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        await self._end(signal.SIGKILL)
        self._killed_at = time.monotonic()

    async def stop(self) -> int:
        """Ask it to stop, and wait; returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if process.returncode is None:
            process.send_signal(number)
        return await process.wait()

    def _last_line(self) -> str:
        log = (self._directory / "server.log").read_text("utf-8", "replace").strip()
        return log.rpartition("\n")[2] or "it said nothing"
