"""What is stored for a city that is not open here, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from citychain.city.deposit import LOOK_SECONDS, Deposit
from citychain.client.transactions import sign_transaction
from citychain.compute import Executor
from citychain.config import LimitsSettings
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.errors import Overloaded
from citychain.genesis import Genesis, Representative
from citychain.handler import Received
from citychain.testing import FakeClock
from citychain.types import Head, RawTransaction

KEY = SigningKey(b"k" * 32)
ROOM = 4
GENESIS = Genesis(
    network="local", city="tokyo", rule="sealed-rounds/1", consensus="solo/1", quorum="two-thirds",
    operator=KEY.public_key.hex(), num_hashes=1,
    committee=(Representative(public_key=KEY.public_key.hex()),),
)  # fmt: skip


class Storage:
    """Received transactions, which a round takes off the list some time after it is seen."""

    def __init__(self) -> None:
        self.stored: dict[bytes, RawTransaction] = {}
        self.known: dict[bytes, bytes] = {}
        self.pending: list[bytes] = []
        self.round = 0

    async def append(
        self, transactions: Sequence[RawTransaction], keys: Mapping[bytes, bytes]
    ) -> None:
        self.known |= keys
        for one in transactions:
            if one.tx_id not in self.stored:
                self.stored[one.tx_id] = one
                self.pending.append(one.tx_id)

    async def head(self) -> Head:
        return Head(round=self.round)

    async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
        return self.pending[:limit]

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        return {tx_id: self.stored[tx_id] for tx_id in tx_ids if tx_id in self.stored}

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, Any]:
        return {}

    async def keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return {}


def some(mark: str, count: int = ROOM) -> dict[bytes, bytes]:
    signed = [
        sign_transaction(KEY, genesis=GENESIS.id, data=f"{mark} {number}".encode())
        for number in range(count)
    ]
    return {one.tx_id: one.envelope for one in signed}


def deposit(
    storage: Storage, clock: FakeClock, compute: Executor, *, shared: bool, **limits: int
) -> Deposit:
    keys = KeyCache()
    keys.add_public_key(key_id(KEY.public_key), KEY.public_key)
    return Deposit(
        genesis=GENESIS,
        storage=cast("Any", storage),
        shared=shared,
        limits=LimitsSettings(pending_transactions=ROOM, **limits),
        keys=keys,
        compute=compute,
        clock=clock,
        refuses=lambda transaction: None,
        patience=timedelta(seconds=10),
    )


async def waiting(clock: FakeClock, putting: asyncio.Task[Any]) -> None:
    """Whoever puts waits for the next look."""
    async with asyncio.timeout(120):
        while not clock.sleepers:
            assert not putting.done()
            await asyncio.sleep(0)


async def test_it_waits_for_room_though_the_list_lags_behind_the_round() -> None:
    storage, clock = Storage(), FakeClock()
    async with Executor() as compute, deposit(storage, clock, compute, shared=True) as door:
        first, second = some("a"), some("b")
        assert all(isinstance(it, Received) for it in await door.put(first))
        putting = asyncio.create_task(door.put(second))
        await waiting(clock, putting)
        storage.round = 1
        for _ in range(2):  # It sees the round, and that there is no room; then nothing new.
            await clock.advance(LOOK_SECONDS)
            await waiting(clock, putting)
        assert len(storage.stored) == ROOM
        storage.pending.clear()
        results = await clock.advance_until(putting)
        assert [isinstance(it, Received) and it.duplicate for it in results] == [False] * ROOM
        assert list(storage.stored) == [*first, *second]
        assert storage.known == {key_id(KEY.public_key): KEY.public_key}


async def test_it_gives_up_where_nobody_seals() -> None:
    storage, clock = Storage(), FakeClock()
    async with Executor() as compute, deposit(storage, clock, compute, shared=True) as door:
        first = some("a")
        await door.put(first)
        began = clock.monotonic()
        with pytest.raises(Overloaded, match="pending_transactions"):
            await clock.advance_until(door.put(some("b", 1)))
        assert clock.monotonic() - began >= 10
        # What is there takes no room.
        again = await door.put(first)
        assert [isinstance(it, Received) and it.duplicate for it in again] == [True] * ROOM


async def test_alone_with_the_storage_it_does_not_wait() -> None:
    storage, clock = Storage(), FakeClock()
    async with Executor() as compute, deposit(storage, clock, compute, shared=False) as door:
        await door.put(some("a", ROOM - 1))
        with pytest.raises(Overloaded):
            await door.put(some("b", 2))
        assert len(await door.put(some("c", 1))) == 1
        assert len(storage.pending) == ROOM


async def test_what_others_stored_takes_room_of_the_bytes_too() -> None:
    storage, clock = Storage(), FakeClock()
    large = RawTransaction(b"l" * 32, b"a" * 32, bytes((1 << 20) - 100))
    await storage.append([large], {})
    async with Executor() as compute:
        for shared in (False, True):
            door = deposit(storage, clock, compute, shared=shared, pending_mib=1)
            async with door:
                with pytest.raises(Overloaded, match="and pending_mib"):
                    await clock.advance_until(door.put(some("a", 1)))
        assert list(storage.stored) == [large.tx_id]
        async with deposit(storage, clock, compute, shared=True, pending_mib=1) as door:
            putting = asyncio.create_task(door.put(some("a", 1)))
            await waiting(clock, putting)
            storage.pending.clear()
            assert len(await clock.advance_until(putting)) == 1
