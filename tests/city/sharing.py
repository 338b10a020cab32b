"""Servers of one city over one storage, all in this process: what the tests of them begin with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dependency_injector import providers

from citychain import record
from citychain.city.directory import CityDirectory
from citychain.city.pipeline import City
from citychain.city.state import MemoryState
from citychain.client.keys import create_key
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.clock import SystemClock
from citychain.config import Settings
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.signatures import SigningKey
from citychain.following.composing import open_replay
from citychain.handler import CityHandler, Received
from citychain.types import State

LEASE_SECONDS = 60
"""No test waits until one is over; a short one can be at any time, on a busy machine."""
PATIENCE_SECONDS = 120
"""For what must happen."""
KEY = SigningKey(bytes(32))


class Server:
    """One server: a directory of cities, as a process has it."""

    def __init__(
        self, directory: CityDirectory, stack: AsyncExitStack, core: CoreContainer
    ) -> None:
        self.directory = directory
        self._core = core
        self._stack = stack

    async def city(self) -> City:
        handler = await self.directory.handler("tokyo")
        assert isinstance(handler, City)
        return handler

    def counted(self, name: str) -> float | None:
        """A metric of the city."""
        return self._core.metrics().registry.get_sample_value(name, {"city": "tokyo"})

    async def close(self) -> None:
        await self._stack.aclose()


class Servers:
    """Starts them beside each other.

    Args:
        folder: Their operator's key, and the directory by which they share.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Server] = []
        self.lease: timedelta | None = None
        """Another one, also a shorter one than settings allow."""
        create_key(folder / "operator.key")

    async def start(self, table: Mapping[str, Any] = MappingProxyType({}), **parts: Any) -> Server:
        """Another server.

        Args:
            table: Of its city.
            parts: Overrides of its city.
        """
        settings = Settings(
            data_dir=self._folder / "data",
            operator_key=self._folder / "operator.key",
            pacer={"min_seconds": 0.01, "max_seconds": 0.05},
            cluster={"lease_seconds": LEASE_SECONDS},
            cities={"tokyo": {"storage": "shared-memory", "num_hashes": 10, **table}},
            plugins={"allow": ("city-under-test",)},
            metrics={"listen": "127.0.0.1:0"},
        )
        core = CoreContainer(settings=settings)
        if self.lease is not None:
            core.lease.override(providers.Object(self.lease))
        self._core = core
        stack = AsyncExitStack()
        directory = await stack.enter_async_context(
            open_directory(core, {"tokyo": parts} if parts else None)
        )
        self._all.append(Server(directory, stack, core))
        return self._all[-1]

    async def cities(self, count: int, **parts: Any) -> list[City]:
        """The city on so many servers."""
        return [await (await self.start(**parts)).city() for _ in range(count)]

    async def check(self, city: CityHandler, sent: Sequence[SignedTransaction]) -> None:
        """Each is in the ledger once, and by the rules; one of the servers is still open."""
        stored_rounds = await city.storage.rounds(1, 10_000)
        assert [stored.round for stored in stored_rounds] == [*range(1, len(stored_rounds) + 1)]
        decided = [record.decode(stored.record) for stored in stored_rounds]
        sealed = Counter(tx_id for one in decided for tx_id in one.tx_ids)
        assert sealed == Counter(signed.tx_id for signed in sent)
        assert not await city.storage.pending_ids()
        state = MemoryState(city.genesis.initial_objects())
        async with open_replay(self._core, city.genesis, state, city.storage.keys) as replay:
            for stored, one in zip(stored_rounds, decided, strict=True):
                ids = [*one.tx_ids, *one.held]
                raw = await city.storage.raw(ids)
                published = await replay.read(stored, [raw[tx_id].envelope for tx_id in ids])
                derived = await replay.check(published)
                replay.advance(derived)
                state.apply(derived)

    async def close(self) -> None:
        """Close them all."""
        for server in reversed(self._all):
            await server.close()


def sign(city: CityHandler, count: int = 1, **fields: Any) -> list[SignedTransaction]:
    return [
        sign_transaction(
            KEY, genesis=city.genesis.id, with_public_key=True, data=b"%d" % number, **fields
        )
        for number in range(count)
    ]


async def submit(city: CityHandler, batch: list[SignedTransaction]) -> None:
    results = await city.submit([signed.envelope for signed in batch])
    assert all(isinstance(result, Received) for result in results), results


async def final(city: CityHandler, batch: list[SignedTransaction]) -> None:
    """Wait on one server until all are approved."""
    states: dict[bytes, list[State]] = {signed.tx_id: [] for signed in batch}
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for told in city.watch_transactions(list(states), State.RECEIVED):
            for event in told.events:
                states[event.tx_id].append(event.state)
    for seen in states.values():
        assert seen == sorted(set(seen)), "a state was told twice, or after a later one"
        assert seen[-1] is State.APPROVED


async def leader(*cities: City) -> City:
    """The one that leads, once one does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(city.leads for city in cities):
            await asyncio.sleep(0.01)
    [one] = [city for city in cities if city.leads]
    return one


def expire(city: City) -> None:
    """The storage takes who leads for gone, as after a lease's time without a word."""
    storage: Any = city.storage
    storage._city._until = 0.0


class Link:
    """A server's connection to the storage, that a test holds up: the override ``storage``."""

    def __init__(self) -> None:
        self._real: Any = None
        self._held: dict[tuple[str, bool], asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {}
        self._running = asyncio.Event()
        self._running.set()

    def __call__(self, real: Any) -> Link:
        self._real = real
        return self

    def hold(self, method: str, *, after: bool = False) -> None:
        """Let calls of a method wait, before their effect or after it, until `release`."""
        self._held.setdefault((method, after), asyncio.Event())
        self._reached[method] = asyncio.Event()

    async def reached(self, method: str) -> None:
        """Wait until a call of a method that is held waits."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reached[method].wait()

    def release(self, method: str = "") -> None:
        """Let the calls of a method that wait, or all, go on, and later ones too."""
        for held in [held for held in self._held if method in ("", held[0])]:
            self._held.pop(held).set()

    def pause(self) -> None:
        """Nothing gets through any more, neither way."""
        self._running.clear()

    def go_on(self) -> None:
        """Everything gets through again."""
        self._running.set()

    async def _pass(self, method: str, *, after: bool) -> None:
        if event := self._held.get((method, after)):
            self._reached[method].set()
            await event.wait()
        await self._running.wait()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._pass(name, after=False)
            try:
                return await method(*args, **kwargs)
            finally:
                await self._pass(name, after=True)

        return call


class PausableClock(SystemClock):
    """A process that is stopped wakes up late, and finds that time has passed."""

    def __init__(self) -> None:
        self._running = asyncio.Event()
        self._running.set()
        self._leapt = asyncio.Event()
        self._ahead = 0.0

    def pause(self) -> None:
        """Nobody wakes up any more."""
        self._running.clear()

    def go_on(self) -> None:
        """Everybody whose time has come wakes up."""
        self._running.set()

    def leap(self, seconds: float) -> None:
        """So much time passes at once."""
        self._ahead += seconds
        self._leapt.set()
        self._leapt = asyncio.Event()

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        until = self.monotonic() + seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(until - self.monotonic()):
                    await self._leapt.wait()
            if self.monotonic() >= until:
                break
        await self._running.wait()


async def told_by(city: CityHandler, from_state: State, until: int) -> list[bytes]:
    """Ids that a watcher of everything is told of, from the beginning, in order."""
    told: list[bytes] = []
    positions = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for batch in city.watch(None, from_state, 0):
            told += [event.tx_id for event in batch.events]
            positions.append(batch.position)
            if len(told) >= until:
                break
    assert positions == list(range(1, len(positions) + 1)), "rounds were told out of order"
    return told
