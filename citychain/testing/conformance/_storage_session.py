"""What the storage tests have in common: an open backend, and a few steps of a city's life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, TypeAlias

import pytest

from citychain.hooks.definitions import StorageDefinition
from citychain.ports import CityStorage, StorageBackend
from citychain.testing.conformance.ledger import Ledger
from citychain.types import ObjectWrite, RawTransaction

__all__ = ["BREATH", "TTL", "Factory", "Session", "cancel_soon", "commit", "fill"]

Factory: TypeAlias = Callable[[], StorageBackend]

TTL: Final = timedelta(seconds=30)
BREATH: Final = 0.001
"""Seconds between two looks of who looks again and again. One that never waits takes the
interpreter from the threads that write, and so from the writers it looks at."""


class Session:
    """An entered backend, and the way to leave it and enter the next."""

    def __init__(self, factory: Factory, definition: StorageDefinition) -> None:
        self._factory = factory
        self._definition = definition
        self.durable = definition.durable

    async def open(self) -> None:
        # What is entered need not be what that gives, such as of an `asynccontextmanager`.
        self._manager = self._factory()
        self.backend = await self._manager.__aenter__()

    async def close(self) -> None:
        await self._manager.__aexit__(None, None, None)

    async def city(self, ledger: Ledger) -> CityStorage:
        return await self.backend.city(ledger.genesis, b"genesis file", ledger.initial)

    async def reopen(self) -> None:
        """Leave the backend and enter a new one; a backend that forgets stays as it is."""
        if self.durable:
            await self.close()
            await self.open()

    async def settle(self, ledger: Ledger) -> CityStorage:
        """The city when no write that was cut short is under way any more."""
        await self.reopen()
        return await self.city(ledger)

    def need_durable(self) -> None:
        """Skip the test if what the backend keeps goes with it."""
        if not self.durable:
            pytest.skip(f"the storage {self._definition.name!r} says durable=False")

    def need_names(self) -> None:
        """Skip the test if the backend was written when storage did not look at names."""
        if self._definition.api_version < 2:
            pytest.skip(f"the storage {self._definition.name!r} is of api_version 1")

    @asynccontextmanager
    async def second(self) -> AsyncIterator[StorageBackend]:
        """Another server's backend over the same storage; skips the test if it may not be."""
        if not self._definition.shared:
            pytest.skip(f"the storage {self._definition.name!r} says shared=False")
        async with self._factory() as backend:
            yield backend


async def commit(
    city: CityStorage,
    ledger: Ledger,
    transactions: Sequence[RawTransaction],
    rejected: Sequence[int] = (),
    *,
    writes: Sequence[ObjectWrite] = (),
    held: Sequence[bytes] = (),
    epoch: int | None = None,
) -> None:
    sealed = ledger.round(transactions, rejected, writes=writes, held=held, epoch=epoch)
    await city.commit(sealed)
    ledger.commit(sealed)


async def fill(city: CityStorage, ledger: Ledger, rounds: int, per_round: int) -> None:
    """Append and seal a few rounds with a bit of everything, and leave some pending."""
    for number in range(rounds):
        batch = ledger.transactions(per_round + 1)
        keys = {ledger.random.randbytes(32): ledger.random.randbytes(50)}
        await city.append(batch, keys)
        ledger.receive(batch, keys)
        sealed = ledger.round(
            ledger.pending[:per_round],
            rejected=ledger.random.sample(range(per_round), per_round // 5),
            writes=[ObjectWrite("counter", number + 2, b"%d" % number)],
            pops=number % 2 == 1,
        )
        await city.commit(sealed)
        ledger.commit(sealed)


async def cancel_soon(call: asyncio.Task[None], ledger: Ledger) -> None:
    """Let the call go on for a moment, at most, then cancel it."""
    for _ in range(ledger.random.choice((0, 1, 2, 5))):
        await asyncio.sleep(0)
    if ledger.random.random() < 0.5:
        await asyncio.sleep(ledger.random.random() * 0.002)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
