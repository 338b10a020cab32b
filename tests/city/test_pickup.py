"""Taking up what is pending, where there is far more of it than room."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from citychain._native.transactions import Transaction, decode_batch
from citychain.city.pickup import PickUp
from citychain.city.pool import PendingPool, PoolLimits
from citychain.client.transactions import sign_transaction
from citychain.clock import SystemClock
from citychain.crypto.signatures import SigningKey
from citychain.types import RawTransaction

ROOM = 8
COUNT = 200


def transactions(count: int) -> list[Transaction]:
    key = SigningKey(bytes(32))
    signed = [
        sign_transaction(key, genesis=bytes(32), data=b"%d" % number) for number in range(count)
    ]
    return decode_batch([one.envelope for one in signed])


class Storage:
    """What is pending, of which some becomes visible late."""

    def __init__(self, pending: Sequence[Transaction]) -> None:
        self.pending = {one.tx_id: one for one in pending}
        self.late: set[bytes] = set()
        self.read: list[int] = []
        """How many ids each look read."""

    async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
        ids = [tx_id for tx_id in self.pending if tx_id not in self.late][:limit]
        self.read.append(len(ids))
        await asyncio.sleep(0)
        return ids

    async def raw(self, tx_ids: Sequence[bytes]) -> dict[bytes, RawTransaction]:
        await asyncio.sleep(0)
        found = [self.pending[tx_id] for tx_id in tx_ids if tx_id in self.pending]
        return {one.tx_id: RawTransaction(one.tx_id, one.author, one.envelope) for one in found}

    async def changed(self, timeout: timedelta) -> None:
        await asyncio.sleep(0)


async def opened(envelopes: Sequence[bytes]) -> list[Transaction]:
    return decode_batch(envelopes)


class World:
    """A leader's pool over a storage; the test seals."""

    def __init__(self, count: int = COUNT) -> None:
        self.all = transactions(count)
        self.storage = Storage(self.all)
        self.pool = PendingPool(PoolLimits(ROOM, 1 << 20, 1_000), shared=True)
        self.clock = FastClock()
        storage: Any = self.storage
        self.picking = PickUp(
            slug="tokyo",
            storage=storage,
            pool=self.pool,
            clock=self.clock,
            opened=opened,
            others=True,
        )
        self.sealed: list[bytes] = []
        self.rounds = 0

    def seal(self, limit: int = 3) -> None:
        """A round of the first that wait; storage knows of it before the pool does."""
        decided = self.pool.candidates(limit)
        self.rounds += 1
        ids = [one.tx_id for one in decided.transactions]
        for tx_id in ids:
            del self.storage.pending[tx_id]
        self.pool.decided(decided, decided.transactions, [], self.rounds)
        self.sealed += ids

    @contextmanager
    def running(self) -> Iterator[None]:
        task = asyncio.create_task(self.picking.run())
        try:
            yield
        finally:
            task.cancel()

    async def seal_all(self) -> None:
        async with asyncio.timeout(120):
            while self.storage.pending:
                await self.pool.filled(1)
                self.seal()


class FastClock(SystemClock):
    """On which nobody waits for long."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_what_there_is_no_room_for_comes_when_the_oldest_are_sealed() -> None:
    world = World()
    await world.picking.begin({})
    assert len(world.pool) == ROOM
    with world.running():
        await world.seal_all()
    assert world.sealed == [one.tx_id for one in world.all], "not in the order of arrival"
    assert max(world.storage.read) <= 2 * ROOM, "a look read more than there was room for"


async def test_what_became_visible_late_is_found_however_much_is_pending() -> None:
    world, chance = World(), random.Random(1)
    late = chance.sample([one.tx_id for one in world.all], 60)
    world.storage.late = set(late)
    await world.picking.begin({})
    with world.running():
        async with asyncio.timeout(120):
            while world.storage.pending:
                if late and (chance.random() < 0.5 or len(world.storage.pending) <= len(late)):
                    world.storage.late.discard(late.pop())
                await asyncio.sleep(0)
                if len(world.pool):
                    world.seal()
    assert sorted(world.sealed) == sorted(one.tx_id for one in world.all)


async def test_what_is_known_and_not_in_the_pool_hides_nothing_behind_it() -> None:
    """As many as there is room for are on their way into the pool, and the oldest."""
    world = World()
    first = [one.tx_id for one in world.all[: 3 * ROOM]]
    expected = world.pool.expect(first)
    await world.picking.begin({})
    picked = [one.tx_id for one in world.pool.candidates(COUNT).transactions]
    assert picked == [one.tx_id for one in world.all[3 * ROOM : 4 * ROOM]]
    world.pool.forget(expected)


async def test_a_term_begins_with_the_oldest_and_with_all_that_is_held() -> None:
    world = World()
    young = world.all[-2:]
    for one in young:
        world.pool.claim(one.author)
    world.pool.add(young, world.pool.expect())
    held = {world.all[100].tx_id: 2, world.all[50].tx_id: 3}
    await world.picking.begin(held)
    decided = world.pool.candidates(COUNT)
    assert decided.held_since[:2] == [2, 3]
    ids = [one.tx_id for one in decided.transactions]
    assert ids == [*held, *(one.tx_id for one in world.all[: ROOM - 2])], "held ones take room too"
    # What this server received itself, behind all of these, is left to come again.
    assert not any(one.tx_id in world.pool for one in young)
    with world.running():
        await world.seal_all()
    assert world.sealed == [
        *held,
        *(one.tx_id for one in world.all if one.tx_id not in held),
    ]


async def test_nothing_is_read_while_there_is_no_room() -> None:
    world = World()
    await world.picking.begin({})
    looks = len(world.storage.read)
    with world.running():
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(world.storage.read) == looks
        world.seal()
        async with asyncio.timeout(120):
            while len(world.pool) < ROOM:
                await asyncio.sleep(0)


@pytest.mark.parametrize("count", [0, 1, ROOM, ROOM + 1])
async def test_few_are_all_taken_up(count: int) -> None:
    world = World(count)
    await world.picking.begin({})
    assert len(world.pool) == min(count, ROOM)
    with world.running():
        await world.seal_all()
    assert world.sealed == [one.tx_id for one in world.all]
