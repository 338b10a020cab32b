"""A backend that several servers share, in the memory of one process.

What MongoDB does for servers in many processes, in the fewest lines: a lease that expires, and
hints that somebody wrote. Servers share what has the same directory.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from citychain.hooks.definitions import API_VERSION, StorageDefinition
from citychain.ports import StorageContext
from citychain.storage.memory import MemoryBackend, MemoryCity
from citychain.types import ObjectWrite

__all__ = ["SHARED", "SharedBackend", "SharedCity"]

WRITES = ("append", "commit", "certify", "keep", "release_lease")


class SharedCity(MemoryCity):
    """What the servers share, with a lease that another server waits for."""

    leader: str | None = None
    """Whose it is, also after it expired."""
    _holder: str | None = None
    _until = 0.0
    writes = 0

    @property
    def genesis_file(self) -> bytes:
        return self._genesis_file

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        if self._holder not in (None, holder) and self._clock.monotonic() < self._until:
            return None
        self._holder = self.leader = holder
        self._until = self._clock.monotonic() + ttl.total_seconds()
        return await super().acquire_lease(holder, ttl)

    async def renew_lease(self, epoch: int, ttl: timedelta) -> None:
        await super().renew_lease(epoch, ttl)
        self._until = self._clock.monotonic() + ttl.total_seconds()

    async def release_lease(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._holder = self.leader = None

    def hand_over(self, epoch: int, successor: str) -> None:
        """Keep the lease for another server, which has not asked for it yet."""
        if epoch == self._epoch:
            self._holder = self.leader = successor


class SharedView:
    """One server's connection: calls take a moment, and hints are not missed between two waits."""

    def __init__(self, city: SharedCity, hints: set[asyncio.Event]) -> None:
        self._city = city
        self._hints = hints
        self._hint = asyncio.Event()
        hints.add(self._hint)

    async def changed(self, timeout: timedelta) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                await self._hint.wait()
        self._hint.clear()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._city, name)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            result = await method(*args, **kwargs)
            if name in WRITES:
                for hint in self._hints:
                    hint.set()
            await asyncio.sleep(0)
            return result

        return call


class SharedBackend(MemoryBackend):
    _beats: ClassVar[dict[Path, dict[str, int]]] = {}
    """Beats of each server, by directory."""
    _everywhere: ClassVar[dict[tuple[Path, bytes], tuple[SharedCity, set[asyncio.Event]]]] = {}

    def __init__(self, context: StorageContext) -> None:
        super().__init__(context)
        self._directory = context.directory
        self._seen: dict[str, tuple[int, float]] = {}
        """Beats of each server, and since when there were so many."""

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> Any:
        place = (self._directory, genesis)
        if place not in self._everywhere:
            self._everywhere[place] = (SharedCity(self._clock, genesis_file, initial), set())
        return SharedView(*self._everywhere[place])

    # Servers

    async def beat(self, server: str) -> None:
        beats = self._beats.setdefault(self._directory, {})
        beats[server] = beats.get(server, 0) + 1

    async def leave(self, server: str) -> None:
        self._beats.setdefault(self._directory, {}).pop(server, None)

    async def servers(self, ttl: timedelta) -> Mapping[str, Sequence[bytes]]:
        now = self._clock.monotonic()
        beats = self._beats.get(self._directory, {})
        self._seen = {
            server: seen
            if (seen := self._seen.get(server)) is not None and seen[0] == count
            else (count, now)
            for server, count in beats.items()
        }
        live = {name for name, (_, at) in self._seen.items() if now - at < ttl.total_seconds()}
        held: dict[str, list[bytes]] = {name: [] for name in live}
        for genesis, city in self._cities_here().items():
            if city.leader is not None:
                held.setdefault(city.leader if city.leader in live else "", []).append(genesis)
        return held

    async def genesis_files(self, cities: Sequence[bytes]) -> Mapping[bytes, bytes]:
        here = self._cities_here()
        return {genesis: here[genesis].genesis_file for genesis in cities if genesis in here}

    async def hand_over(self, city: bytes, epoch: int, successor: str) -> None:
        self._cities_here()[city].hand_over(epoch, successor)

    def _cities_here(self) -> dict[bytes, SharedCity]:
        return {
            genesis: city
            for (directory, genesis), (city, _) in self._everywhere.items()
            if directory == self._directory
        }


SHARED = StorageDefinition(
    "shared-memory",
    lambda options, context: SharedBackend(context),
    shared=True,
    durable=False,
    api_version=API_VERSION,
)
