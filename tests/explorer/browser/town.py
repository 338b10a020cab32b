"""A city with a server and an explorer of it, as processes: what a browser is shown."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from free_ports import free_address

from citychain.client import ChannelFactory, CityClient, create_key, sign_transaction
from citychain.client.tokens import Token

__all__ = ["HANG_SECONDS", "Town"]

HANG_SECONDS = 180
COMMAND = (sys.executable, "-m", "citychain")
AT_ONCE = 250
T = TypeVar("T")

SETTINGS = """\
network = "test"

[pacer]
min_seconds = 0.1

[cities.hometown]
titles = { en = "Hometown", ja = "故郷" }
aliases = ["ふるさと"]
"""


class Town:
    """A directory with a server's files. The server stays on one address, so it can come back."""

    city = "hometown"
    """To which notes are sent."""
    sends: Sequence[str] = ("--submit",)
    """Options of the explorer: who may send from its page."""
    token: Token | None = None
    """Of who sends notes from here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = free_address()
        self._page = "127.0.0.1:0"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        create_key(directory / "operator.key")
        self._key = create_key(directory / "resident.key")
        (directory / "citychain.toml").write_text(self.settings())

    def settings(self) -> str:
        """The server's configuration."""
        return SETTINGS

    def start(self, name: str, *arguments: str) -> str:
        """Start a command that serves, under a name, and return its address once it answers."""
        ready = self.directory / f"{name}.ready"
        ready.unlink(missing_ok=True)
        process = self.run(name, *arguments, "--ready-file", str(ready))
        self._until(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, (self.directory / f"{name}.log").read_text()
        return ready.read_text().strip()

    def run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command, under a name."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=self.directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self._processes[name]

    def serve(self) -> None:
        """Start the server."""
        self.start("server", "serve", "--listen", self.address)

    def explore(self) -> str:
        """Start an explorer and return the address of its page; started again it has the same."""
        options = ("--server", self.address, "--listen", self._page, *self.sends)
        self._page = self.start("explorer", "explorer", *options)
        return f"http://{self._page}/"

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

        async def submitted(city: CityClient) -> list[bytes]:
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

        return self.ask(submitted)

    def ask(self, question: Callable[[CityClient], Awaitable[T]], city: str | None = None) -> T:
        """What a city of the server, or the one of the notes, answers to a coroutine function."""

        async def asked() -> T:
            async with self.client(city or self.city) as client:
                return await question(client)

        return in_a_thread(asked)

    def client(self, city: str) -> CityClient:
        """A client of a city of the server."""
        return CityClient(city, ChannelFactory([self.address], token=self.token))

    def _until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + HANG_SECONDS
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.02)


def environment(*, left: Sequence[str] = ("CITYCHAIN_",)) -> dict[str, str]:
    """This process's, without anything that sets citychain up, nor any plugin."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(tuple(left))}
    return {**kept, "CITYCHAIN_PLUGINS__ALLOW": "[]"}


def in_a_thread(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function where no event loop runs: the browser's does in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(function())).result()
