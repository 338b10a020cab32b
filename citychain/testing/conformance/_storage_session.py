"""What the storage tests have in common: an open backend, and a few steps of a city's life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeAlias

from citychain.ports import CityStorage, StorageBackend
from citychain.testing.conformance.ledger import Ledger
from citychain.types import ObjectWrite, RawTransaction

__all__ = ["TTL", "Factory", "Session", "cancel_soon", "commit", "fill"]

Factory: TypeAlias = Callable[[], StorageBackend]

TTL: Final = timedelta(seconds=30)


class Session:
    """An entered backend, and the way to leave it and enter the next."""

    def __init__(self, factory: Factory, durable: bool) -> None:
        self._factory = factory
        self._durable = durable
        self._ledgers: list[Ledger] = []

    async def open(self) -> None:
        self.backend = self._factory()
        await self.backend.__aenter__()

    async def close(self) -> None:
        await self.backend.__aexit__(None, None, None)

    async def city(self, ledger: Ledger) -> CityStorage:
        return await self.backend.city(ledger.genesis, b"genesis file", ledger.initial)

    async def reopen(self) -> None:
        """Leave the backend and enter a new one; a backend that forgets stays as it is."""
        if self._durable:
            await self.close()
            await self.open()


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
