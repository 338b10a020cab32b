"""Reads of a shared storage that lag behind its writes: nothing is sealed twice or left out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from city.sharing import Servers, final, leader, sign, submit, told_by

from citychain import record
from citychain._native.transactions import Transaction, decode_batch
from citychain.city.lately import SealedLately
from citychain.city.pickup import PickUp
from citychain.city.pool import PendingPool, PoolLimits
from citychain.city.state import ROUNDS_MAX, LedgerState
from citychain.client.transactions import sign_transaction
from citychain.clock import SystemClock
from citychain.crypto.signatures import SigningKey
from citychain.errors import StorageError
from citychain.ports import CityStorage, StoredRound
from citychain.testing.recording import Call, Recording
from citychain.types import RawTransaction, State


class Lagging(Recording):
    """A storage where some transactions still seem to be pending."""

    _port = CityStorage

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[bytes] = []

    def _after(self, call: Call, result: Any) -> Any:
        if call.name == "pending_ids":
            return [*self.pending, *result]
        if call.name == "find":
            return {tx_id: node for tx_id, node in result.items() if tx_id not in self.pending}
        return result


@pytest.mark.parametrize("who", ["the leader", "the next leader"])
async def test_what_still_seems_to_be_pending_is_not_sealed_again(
    servers: Servers, who: str
) -> None:
    lagging = Lagging()
    [one] = await servers.cities(1, storage=lagging) if who == "the leader" else [None]
    [two] = await servers.cities(1, storage=lagging if one is None else Recording())
    [one] = [one] if one is not None else await servers.cities(1)
    first = await leader(one, two)
    other = two if first is one else one
    await submit(first, batch := sign(first, 3))
    await asyncio.gather(*(final(city, batch) for city in (one, two)))
    lagging.pending = [signed.tx_id for signed in batch]
    looks = lagging.calls["pending_ids"]
    lags = one if who == "the leader" else two
    if not lags.leads:
        epoch = await first.step_down()
        assert epoch is not None
        await first.storage.release_lease(epoch)
    assert await leader(one, two) is lags
    for city in (first, other):
        # What is known to be stored, and comes again.
        await submit(city, batch[:1])
        await submit(city, after := sign(city, 2))
        await asyncio.gather(*(final(each, after) for each in (one, two)))
        batch += after
    assert lagging.calls["pending_ids"] > looks
    rounds = await one.storage.rounds(1, 1_000)
    sealed = Counter(tx_id for stored in rounds for tx_id in record.decode(stored.record).tx_ids)
    assert sealed == Counter(signed.tx_id for signed in batch)
    assert lags.pending == 0


def transactions(count: int) -> list[Transaction]:
    key = SigningKey(bytes(32))
    signed = [
        sign_transaction(key, genesis=bytes(32), data=b"%d" % number) for number in range(count)
    ]
    return decode_batch([one.envelope for one in signed])


def test_a_pool_takes_nothing_that_was_sealed_lately_and_what_was_only_dropped() -> None:
    pool = PendingPool(PoolLimits(10, 1 << 20, 10), shared=True)
    sealed, dropped = transactions(2)
    expected = pool.expect()
    pool.forget(expected)
    pool.pick_up([sealed, dropped], expected, others=True)
    pool.sealed([sealed.tx_id])
    pool.drop([dropped.tx_id])
    assert len(pool) == 0
    expected = pool.expect()
    assert pool.claim(sealed.author)
    pool.add([sealed], expected)
    pool.pick_up([sealed, dropped], expected, others=True)
    assert [one.tx_id for one in pool.candidates(10).transactions] == [dropped.tx_id]
    # And its place in the author's quota was given back.
    assert [pool.claim(sealed.author) for _ in range(10)] == [True] * 9 + [False]


def test_what_was_sealed_lately_is_bounded_by_rounds_and_by_ids() -> None:
    ids = [bytes([number]) * 32 for number in range(20)]
    lately = SealedLately(rounds=3, ids=6)
    for tx_id in ids[:5]:
        lately.add([tx_id])
    assert [tx_id for tx_id in ids if tx_id in lately] == ids[2:5]
    lately.add([])
    assert ids[2] in lately, "a round that sealed nothing tells nothing"
    lately.add(ids[5:10])
    assert [tx_id for tx_id in ids if tx_id in lately] == ids[4:10]
    lately.add(ids[10:])
    assert [tx_id for tx_id in ids if tx_id in lately] == ids[10:], "the latest round is kept whole"


async def test_what_a_lagging_list_leaves_out_is_taken_up_when_it_names_it() -> None:
    [one] = transactions(1)
    lists: list[Sequence[bytes]] = [[], [one.tx_id]]

    class Storage:
        async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
            return lists.pop(0) if len(lists) > 1 else lists[0]

        async def raw(self, tx_ids: Sequence[bytes]) -> dict[bytes, RawTransaction]:
            return {one.tx_id: RawTransaction(one.tx_id, one.author, one.envelope)}

        async def changed(self, timeout: timedelta) -> None:
            await asyncio.sleep(0)

    async def opened(envelopes: Sequence[bytes]) -> list[Transaction]:
        return decode_batch(envelopes)

    pool = PendingPool(PoolLimits(10, 1 << 20, 10), shared=True)
    pool.claim(one.author)
    pool.add([one], pool.expect())
    storage: Any = Storage()
    picking = PickUp(
        slug="tokyo", storage=storage, pool=pool, clock=SystemClock(), opened=opened, others=True
    )
    await picking.begin({})
    assert one.tx_id not in pool
    running = asyncio.create_task(picking.run())
    async with asyncio.timeout(120):
        await pool.filled(1)
    running.cancel()
    assert one.tx_id in pool


# --- rounds that are visible in part


class HalfVisible(Recording):
    """A storage that shows the nodes of each round only when asked for the second time."""

    _port = CityStorage

    def __init__(self, shown: int) -> None:
        super().__init__()
        self._shown = shown
        self.asked: Counter[int] = Counter()

    def _after(self, call: Call, result: Any) -> Any:
        if call.name != "round_nodes":
            return result
        self.asked[call.arguments["round"]] += 1
        return result[: self._shown] if self.asked[call.arguments["round"]] == 1 else result


@pytest.mark.parametrize("shown", [0, 1])
async def test_a_round_that_is_visible_in_part_is_told_when_all_of_it_is(
    servers: Servers, shown: int
) -> None:
    [one] = await servers.cities(1)
    await leader(one)
    [two] = await servers.cities(1, storage=(half := HalfVisible(shown)))
    watching = [
        asyncio.create_task(told_by(two, state, 3)) for state in (State.SEALED, State.APPROVED)
    ]
    await submit(one, batch := sign(one, 3))
    await final(one, batch)
    async with asyncio.timeout(120):
        told = await asyncio.gather(*watching)
    assert told == [[signed.tx_id for signed in batch]] * 2
    assert max(half.asked.values()) > 1
    # Who asks for what was before is sent away, to come again.
    [three] = await servers.cities(1, storage=HalfVisible(shown))
    with pytest.raises(StorageError):
        await told_by(three, State.SEALED, 3)
    assert await told_by(three, State.SEALED, 3) == told[0]


async def test_an_incomplete_answer_is_not_remembered() -> None:
    stored = StoredRound(
        round=5,
        time_ms=0,
        first_index=10,
        size=12,
        record=b"",
        checkpoint=b"",
        checkpoint_hash=b"",
        peaks=b"",
    )
    nodes: list[Any] = []
    rounds: list[StoredRound] = []

    class Storage:
        async def objects(self, objects: Any) -> Any: ...

        latest = objects

        async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
            return rounds

        async def round_nodes(self, round: int) -> Sequence[Any]:
            return list(nodes)

    storage: Any = Storage()
    state = LedgerState(storage, shared=True)
    assert not await state.round_nodes(5), "nobody knows of it"
    state.expect(5)
    for visible in ([], [stored]):
        rounds[:] = visible
        for count in (0, 1):
            nodes[:] = range(count)
            with pytest.raises(StorageError, match="round 5"):
                await state.round_nodes(5)
    nodes[:] = range(2)
    assert await state.round_nodes(5) == [0, 1]
    nodes.clear()
    assert await state.round_nodes(5) == [0, 1]
    # Where nobody else writes, a round that is not there yet is asked for again too.
    alone = LedgerState(storage)
    assert not await alone.round_nodes(5)
    nodes[:] = range(2)
    assert await alone.round_nodes(5) == [0, 1]


async def test_who_reads_old_rounds_takes_no_room_of_the_new_ones() -> None:
    read: list[int] = []

    class Storage:
        async def objects(self, objects: Any) -> Any: ...

        latest = objects

        async def round_nodes(self, round: int) -> Sequence[Any]:
            read.append(round)
            return [round]

    storage: Any = Storage()
    state = LedgerState(storage)
    old, new = range(1, 50), range(100, 100 + ROUNDS_MAX)
    for round in (*new, *old, *new):
        assert [*await state.round_nodes(round)] == [round]
    assert read == [*new, *old]
