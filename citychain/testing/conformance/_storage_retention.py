"""Storage tests: forgetting old transactions, for backends that are `SupportsRetention`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from citychain.ports import CityStorage, SupportsRetention, can_prune
from citychain.testing.conformance._storage_session import Session, cancel_soon, commit, fill
from citychain.testing.conformance.ledger import Ledger
from citychain.types import RawTransaction
from citychain.upkeep import has_upkeep

__all__ = ["RetentionTests", "prunes"]

MIB = 1 << 20
STEPS_MAX = 10_000
"""Of `SupportsRetention.reclaim`, each of which gives something back."""


class RetentionTests:
    """Part of `StorageSuite`: see `citychain.ports.SupportsRetention`."""

    async def test_of_what_is_pruned_all_stays_that_the_ledger_says(self, session: Session) -> None:
        ledger = Ledger(200)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=3, per_round=20)
        for _ in range(3):
            # Linked ones and rejected ones, some of each round.
            gone = ledger.random.sample(sorted(ledger.sealed), 12)
            await prunes(city).prune(gone)
            ledger.prune(gone)
            await ledger.check(city, sample=5)
            await session.reopen()
            city = await session.city(ledger)
            await ledger.check(city, sample=5)
        await prunes(city).prune(list(ledger.sealed))
        ledger.prune(ledger.sealed)
        await ledger.check(city, sample=5)

    async def test_what_has_no_place_is_not_pruned(self, session: Session) -> None:
        ledger = Ledger(201)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=5)
        waiting = [transaction.tx_id for transaction in ledger.pending]
        assert waiting
        await prunes(city).prune([*waiting, b"?" * 32, *list(ledger.sealed)[:1]])
        ledger.prune(list(ledger.sealed)[:1])
        await ledger.check(city)
        await prunes(city).prune([])
        await session.reopen()
        await ledger.check(await session.city(ledger))

    async def test_pruning_again_changes_nothing(self, session: Session) -> None:
        ledger = Ledger(202)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=10)
        gone = list(ledger.sealed)[::2]
        for _ in range(2):
            await prunes(city).prune(gone)
            ledger.prune(gone)
            await ledger.check(city, sample=3)
        await prunes(city).prune([*gone, *gone, *list(ledger.sealed)[1:3]])
        ledger.prune(list(ledger.sealed)[1:3])
        await ledger.check(city, sample=3)

    async def test_sizes_tell_what_there_is_to_forget(self, session: Session) -> None:
        ledger = Ledger(203)
        city = await session.city(ledger)
        batch = [ledger.transaction(size) for size in (0, 1, 100, 5_000, 200_000)]
        await _sealed(city, ledger, batch)
        waiting = ledger.transactions(2)
        await city.append(waiting, {})
        ledger.receive(waiting)
        asked = [t.tx_id for t in (*batch, *waiting)] + [b"?" * 32]
        sizes = await prunes(city).sizes(asked)
        assert set(sizes) == {t.tx_id for t in batch}, (
            "sizes() knows what is sealed and was not pruned"
        )
        for transaction in batch:
            length = len(transaction.envelope)
            assert length <= sizes[transaction.tx_id] <= length + 4096, (
                f"sizes() says about how many bytes there are, of {length}"
            )
        for kept in range(len(batch), -1, -1):
            await prunes(city).prune(asked[kept:])
            left = await prunes(city).sizes(asked)
            assert dict(left) == {tx_id: sizes[tx_id] for tx_id in asked[:kept]}, (
                "sizes() leaves out what was pruned, and nothing else"
            )

    async def test_what_was_pruned_is_not_received_again(self, session: Session) -> None:
        ledger = Ledger(204)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=10)
        gone = [ledger.received[tx_id] for tx_id in list(ledger.sealed)[3:15]]
        await prunes(city).prune([t.tx_id for t in gone])
        ledger.prune([t.tx_id for t in gone])
        for _ in range(2):
            await city.append(gone, {})
            await ledger.check(city, sample=3)
            await session.reopen()
            city = await session.city(ledger)

    async def test_what_comes_later_does_not_take_the_place_of_what_was_pruned(
        self, session: Session
    ) -> None:
        """Whatever stood last, and with something old that waits before it."""
        ledger = Ledger(205)
        city = await session.city(ledger)
        old = ledger.transactions(1)
        await city.append(old, {})
        ledger.receive(old)
        for size in (30_000, 100, 70_000, 70_000):
            await _sealed(city, ledger, ledger.transactions(5, size))
            gone = list(ledger.sealed)
            await prunes(city).prune(gone)
            ledger.prune(gone)
            await session.reopen()
            city = await session.city(ledger)
            await ledger.check(city, sample=3)
            await _sealed(city, ledger, ledger.transactions(7, size // 2))
            await ledger.check(city, sample=3)
            await prunes(city).prune(gone)  # Again: these are not others by now.
            await ledger.check(city, sample=3)

    async def test_pruning_leaves_other_cities_alone(self, session: Session) -> None:
        """Also where a transaction's id is in several."""
        one, two = Ledger(206), Ledger(207)
        cities = [await session.city(one), await session.city(two)]
        batch = one.transactions(20)
        for city, ledger in zip(cities, (one, two), strict=True):
            await _sealed(city, ledger, batch)
        await prunes(cities[0]).prune([t.tx_id for t in batch[:15]])
        one.prune([t.tx_id for t in batch[:15]])
        await one.check(cities[0], sample=3)
        await two.check(cities[1], sample=3)

    async def test_pruning_that_is_cut_short_goes_on_where_it_was(self, session: Session) -> None:
        ledger = Ledger(208)
        city = await session.city(ledger)
        for number in range(12):
            await _sealed(city, ledger, ledger.transactions(6, 30_000))
            gone = ledger.random.sample(sorted(ledger.sealed), len(ledger.sealed) - 2)
            await cancel_soon(asyncio.create_task(prunes(city).prune(gone)), ledger)
            if number % 4 == 3:
                city = await session.settle(ledger)
            there = await city.raw(list(ledger.received))
            for tx_id, transaction in ledger.received.items():
                assert there.get(tx_id) == transaction or (
                    tx_id not in there and tx_id in {*gone, *ledger.pruned}
                ), "a transaction is pruned or whole, and only those that were to be pruned are"
            await prunes(city).prune(gone)
            ledger.prune(gone)
            await ledger.check(city, sample=3)

    async def test_writes_go_on_while_old_ones_are_pruned(self, session: Session) -> None:
        ledger = Ledger(209)
        city = await session.city(ledger)
        for _ in range(3):
            await _sealed(city, ledger, ledger.transactions(20, 5_000))
        gone = list(ledger.sealed)[::2]

        async def write() -> None:
            for _ in range(5):
                await _sealed(city, ledger, ledger.transactions(5))
                more = ledger.transactions(1)
                await city.append(more, {})
                ledger.receive(more)

        await asyncio.gather(prunes(city).prune(gone), write(), _reclaimed(city))
        ledger.prune(gone)
        await ledger.check(city, sample=3)

    async def test_another_server_sees_what_was_pruned(self, session: Session) -> None:
        ledger = Ledger(210)
        async with session.second() as backend:
            city = await session.city(ledger)
            await fill(city, ledger, rounds=2, per_round=10)
            other = await backend.city(ledger.genesis, b"genesis file", ledger.initial)
            await ledger.check(other, sample=3)
            gone = list(ledger.sealed)[:13]
            await prunes(city).prune(gone)
            ledger.prune(gone)
            await ledger.check(other, sample=3)
            again = [replace(ledger.received[i], envelope=b"again") for i in gone]
            await other.append(again, {})
            await ledger.check(other, sample=3)

    async def test_the_storage_becomes_smaller(self, session: Session) -> None:
        """For backends that say how many bytes they have: see `citychain.upkeep`."""
        ledger = Ledger(211)
        city = await session.city(ledger)
        prunes(city)
        if (upkeep := has_upkeep(session.backend)) is None or not (await upkeep.stats()).bytes:
            pytest.skip("this storage does not say how many bytes it has")
        for _ in range(4):
            await _sealed(city, ledger, ledger.transactions(10, MIB // 10))
        sizes = await prunes(city).sizes(list(ledger.sealed))
        before = await _bytes(session)
        city = await session.city(ledger)
        gone = [node.tx_id for nodes in ledger.nodes[:3] for node in nodes]
        await prunes(city).prune(gone)
        ledger.prune(gone)
        await _reclaimed(city)
        after = await _bytes(session)
        forgotten = sum(sizes[tx_id] for tx_id in gone)
        assert forgotten > 2.9 * MIB
        # What is left free for the next writes is little.
        assert before - after > forgotten - 1.5 * MIB, (
            f"of {before:,} bytes {after:,} are left, where {forgotten:,} were forgotten"
        )
        await ledger.check(await session.city(ledger), sample=3)


def prunes(city: CityStorage) -> SupportsRetention:
    """What is offered; skips the test if that is nothing."""
    if (retention := can_prune(city)) is None:
        names = ("sizes", "prune", "reclaim")
        offered = [name for name in names if hasattr(city, name)]
        assert not offered, f"it has {offered} and not all of {names}: it is taken for one without"
        pytest.skip("this storage cannot forget old transactions")
    return retention


async def _sealed(
    city: CityStorage, ledger: Ledger, transactions: Sequence[RawTransaction]
) -> None:
    await city.append(transactions, {})
    ledger.receive(transactions)
    await commit(city, ledger, transactions, rejected=[0])


async def _reclaimed(city: CityStorage) -> None:
    for _ in range(STEPS_MAX):
        if not await prunes(city).reclaim():
            return
    raise AssertionError("reclaim() has no end: it returns False when nothing is left to give back")


async def _bytes(session: Session) -> int:
    """As many as there are when all is written, and nothing waits to be."""
    await session.reopen()
    upkeep = has_upkeep(session.backend)
    assert upkeep is not None
    return (await upkeep.stats()).bytes
