"""A process that goes through a city's life and is killed somewhere in it.

Forked from a server that has imported all of it already, so that one costs 20 ms and not a second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

from mongodb.scenario import PART_BYTES, TTL, life, opened

from citychain.compute import Executor
from citychain.ports import StorageContext
from citychain.storage import _mongodb_ledger
from citychain.storage.mongodb import MongodbBackend, MongodbOptions
from citychain.testing import FakeClock

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["citychain.storage.mongodb", "mongodb.scenario"])


class Victim:
    """The process."""

    def __init__(self, uri: str, database: str, place: Path) -> None:
        self._steps, said = _PROCESSES.Pipe(duplex=False)
        arguments = (uri, database, place, said)
        self._process = _PROCESSES.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        said.close()

    async def ended(self) -> None:
        """Wait until it has ended, however that was."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)

    def kill(self) -> int:
        """Kill it; how many steps had returned before."""
        self._process.kill()
        self._process.join()
        done = 0
        with suppress(EOFError):
            while self._steps.recv_bytes():
                done += 1
        return done

    @property
    def has_come_through(self) -> bool:
        """Whether it has ended by itself, without an error."""
        self._process.join(0)
        return self._process.exitcode == 0

    def close(self) -> None:
        """Forget it."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._steps.close()


@contextmanager
def split_bodies() -> Iterator[None]:
    """Let bodies of rounds be split at `PART_BYTES`."""
    with (
        patch.object(_mongodb_ledger, "BODY_BYTES_MAX", PART_BYTES),
    ):
        yield


def _run(uri: str, database: str, place: Path, said: Connection) -> None:
    with split_bodies():
        asyncio.run(_live(uri, database, place, said))


async def _live(uri: str, database: str, place: Path, said: Connection) -> None:
    async with (
        Executor(1) as compute,
        MongodbBackend(
            MongodbOptions(uri=uri, database=database),
            StorageContext(place, compute, FakeClock()),
        ) as backend,
    ):
        city = await opened(backend)
        epoch = await city.acquire_lease("first", TTL)
        assert epoch is not None
        for step in life().steps:
            await step.do(city, epoch)
            said.send_bytes(b".")
        await city.release_lease(epoch)
