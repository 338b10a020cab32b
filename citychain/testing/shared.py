"""A storage that several servers share, in the memory of one process.

What a database does for servers in many processes, in the fewest lines: a lease that expires, hints
that somebody wrote, and a list of who is at work. `citychain.testing.cluster` uses it where a test
names no other; read it, too, before you write a shared backend of your own.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from citychain.hooks.definitions import API_VERSION, StorageDefinition
from citychain.hooks.specs import hookimpl
from citychain.ports import Clock, StorageContext
from citychain.storage.memory import MemoryBackend, MemoryCity, Names
from citychain.types import ObjectWrite

__all__ = ["SHARED_MEMORY", "SharedMemory"]

SHARED_MEMORY: Final = "shared-memory"
"""The name of the storage backend."""
WRITES: Final = ("append", "commit", "certify", "keep", "release_lease")


class SharedMemory:
    """What servers share; those of the same directory have the same cities.

    It is a plugin as well: the fixtures `city_server` and `server_factory` offer its storage
    backend ``shared-memory``.
    """

    def __init__(self) -> None:
        self._places: dict[Path, _Place] = {}

    @property
    def definition(self) -> StorageDefinition:
        """Of the storage backend."""
        return StorageDefinition(
            SHARED_MEMORY,
            lambda options, context: _Backend(
                context, self._places.setdefault(context.directory, _Place())
            ),
            shared=True,
            durable=False,
            api_version=API_VERSION,
        )

    @hookimpl
    def citychain_storage_backends(self) -> Iterable[StorageDefinition]:
        """``shared-memory``."""
        yield self.definition


class _City(MemoryCity):
    """One city of all servers, with a lease that another one waits for."""

    leader: str | None = None
    """Whose it is, also after it expired; empty where that one refused it."""
    _holder: str | None = None
    _handed = False
    """It was given up for who is named, who has not asked for it yet."""
    _ttl = 0.0
    _until = 0.0

    def __init__(self, clock: Clock, genesis_file: bytes, initial: Sequence[ObjectWrite]) -> None:
        super().__init__(clock, genesis_file, initial)
        self.hints: set[asyncio.Event] = set()
        """One for each server, set at each write."""

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        if self._holder not in (None, holder) and self._clock.monotonic() < self._until:
            return None
        self._holder = self.leader = holder
        self._handed = False
        self._hold(ttl.total_seconds())
        return await super().acquire_lease(holder, ttl)

    async def renew_lease(self, epoch: int, ttl: timedelta) -> None:
        await super().renew_lease(epoch, ttl)
        self._hold(ttl.total_seconds())

    def _hold(self, ttl: float) -> None:
        self._ttl, self._until = ttl, self._clock.monotonic() + ttl

    async def release_lease(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._holder = self.leader = None
            self._handed = False

    def hand_over(self, epoch: int, successor: str) -> None:
        """Keep the lease for another server, which has not asked for it yet."""
        if epoch == self._epoch:
            self._holder = self.leader = successor
            self._handed = True
            self._hold(self._ttl)

    def hand_back(self, server: str) -> None:
        """Let anybody have what was handed to this server."""
        if self._handed and self._holder == server:
            self._holder, self.leader = None, ""
            self._handed = False


@dataclass(slots=True)
class _Place:
    """What the servers of one directory share."""

    cities: dict[bytes, _City] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    beats: dict[str, int] = field(default_factory=dict)
    """How many each server that is at work has given."""
    handed: defaultdict[str, asyncio.Event] = field(
        default_factory=lambda: defaultdict(asyncio.Event)
    )
    """Set for a server when a city is handed to it."""


class _View:
    """One server's connection to a city: every call takes a moment, and no hint is missed."""

    def __init__(self, city: _City) -> None:
        self._city = city
        self._hint = asyncio.Event()
        city.hints.add(self._hint)

    async def changed(self, timeout: timedelta) -> None:
        await _heard(self._hint, timeout)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._city, name)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            result = await method(*args, **kwargs)
            if name in WRITES:
                for hint in self._city.hints:
                    hint.set()
            await asyncio.sleep(0)
            return result

        return call


class _Backend(MemoryBackend):
    """One server's connection."""

    def __init__(self, context: StorageContext, place: _Place) -> None:
        super().__init__(context)
        self._cities = cast("dict[bytes, MemoryCity]", place.cities)
        self._names = place.names
        self._place = place
        self._seen: dict[str, tuple[int, float]] = {}
        """Beats of each server, and since when there were so many."""

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> Any:
        await asyncio.sleep(0)
        await super().city(genesis, genesis_file, initial)
        return _View(self._place.cities[genesis])

    def _founded(self, genesis_file: bytes, initial: Sequence[ObjectWrite]) -> _City:
        return _City(self._clock, genesis_file, initial)

    async def beat(self, server: str) -> None:
        self._place.beats[server] = self._place.beats.get(server, 0) + 1

    async def leave(self, server: str) -> None:
        self._place.beats.pop(server, None)

    async def servers(self, ttl: timedelta) -> Mapping[str, Sequence[bytes]]:
        now = self._clock.monotonic()
        self._seen = {
            server: seen
            if (seen := self._seen.get(server)) is not None and seen[0] == count
            else (count, now)
            for server, count in self._place.beats.items()
        }
        live = {name for name, (_, at) in self._seen.items() if now - at < ttl.total_seconds()}
        held: dict[str, list[bytes]] = {name: [] for name in live}
        for genesis, city in self._place.cities.items():
            if city.leader is not None:
                held.setdefault(city.leader if city.leader in live else "", []).append(genesis)
        return held

    async def genesis_files(self, cities: Sequence[bytes]) -> Mapping[bytes, bytes]:
        here = self._place.cities
        return {genesis: here[genesis].genesis_file for genesis in cities if genesis in here}

    async def hand_over(self, city: bytes, epoch: int, successor: str) -> None:
        self._place.cities[city].hand_over(epoch, successor)
        self._place.handed[successor].set()

    async def hand_back(self, city: bytes, server: str) -> None:
        self._place.cities[city].hand_back(server)

    async def handed(self, server: str, timeout: timedelta) -> bool:
        return await _heard(self._place.handed[server], timeout)


async def _heard(hint: asyncio.Event, timeout: timedelta) -> bool:
    """Whether it is set by then; it is not any more afterwards."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout.total_seconds()):
            await hint.wait()
    was_set = hint.is_set()
    hint.clear()
    return was_set
