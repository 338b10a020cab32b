"""A city with a server and an explorer of it, as processes: what a browser is shown."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from free_ports import free_address

from citychain.client import ChannelFactory, CityClient, load_key, sign_transaction

__all__ = ["HANG_SECONDS", "Town"]

HANG_SECONDS = 180
COMMAND = (sys.executable, "-m", "citychain")
AT_ONCE = 250

CITY = """[cities.hometown]
titles = { en = "Hometown", ja = "故郷" }
aliases = ["ふるさと"]
"""


class Town:
    """A directory with a server's files. The server stays on one address, so it can come back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = free_address()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._run("init", ".", "--city", "hometown")
        self._run("keygen", "resident.key")
        settings = directory / "citychain.toml"
        settings.write_text(settings.read_text().replace("[cities.hometown]\n", CITY))
        self._key = load_key(directory / "resident.key")

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self, name: str, *arguments: str) -> str:
        """Start a command that serves, under a name, and return its address once it answers."""
        ready = self.directory / f"{name}.ready"
        ready.unlink(missing_ok=True)
        log = self.directory / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*COMMAND, *arguments, "--ready-file", str(ready)],
                cwd=self.directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self._processes[name] = process
        self._until(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return ready.read_text().strip()

    def serve(self) -> None:
        """Start the server."""
        self.start("server", "serve", "--listen", self.address)

    def explore(self) -> str:
        """Start an explorer and return the address of its page."""
        options = ("--server", self.address, "--listen", "127.0.0.1:0", "--submit")
        return f"http://{self.start('explorer', 'explorer', *options)}/"

    def end(self, name: str, *, kill: bool = False) -> None:
        """End a process; with ``kill`` as a power cut would."""
        process = self._processes.pop(name)
        (process.kill if kill else process.terminate)()
        process.wait(HANG_SECONDS)

    def pid(self, name: str) -> int:
        """Of a process that was started."""
        return self._processes[name].pid

    def close(self) -> None:
        """End all that runs."""
        for name in reversed([*self._processes]):
            self.end(name)

    def submit(self, count: int = 1, *, approved: bool = True) -> list[bytes]:
        """Have notes received and, unless it is said, approved; returns their ids."""

        async def submitted() -> list[bytes]:
            async with CityClient("hometown", ChannelFactory([self.address])) as city:
                genesis = (await city.info()).genesis
                base = time.time_ns()
                notes = [
                    sign_transaction(self._key, genesis=genesis, data=b"note %d" % (base + n))
                    for n in range(count)
                ]
                for first in range(0, count, AT_ONCE):
                    await city.submit(notes[first : first + AT_ONCE])
                if approved:
                    await city.wait([notes[-1].tx_id])
                return [note.tx_id for note in notes]

        return in_a_thread(submitted)

    def ask(self, question: Callable[[CityClient], Any]) -> Any:
        """What the server's city answers to a coroutine function."""

        async def asked() -> Any:
            async with CityClient("hometown", ChannelFactory([self.address])) as city:
                return await question(city)

        return in_a_thread(asked)

    def _until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + HANG_SECONDS
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.02)


def environment(*, left: Sequence[str] = ("CITYCHAIN_",)) -> dict[str, str]:
    """This process's, without anything that sets citychain up, nor any plugin."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(tuple(left))}
    return {**kept, "CITYCHAIN_PLUGINS__ALLOW": "[]"}


def in_a_thread(function: Callable[[], Any]) -> Any:
    """Run a coroutine function where no event loop runs: the browser's does in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(function())).result()
