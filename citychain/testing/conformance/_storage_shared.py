"""Storage tests: several servers over one storage, for backends that say ``shared=True``.

Each server has a backend of its own; here both live in one process.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from citychain.errors import LeaseLost, RoundTaken
from citychain.ports import CityStorage
from citychain.testing.conformance._storage_session import TTL, Session, fill
from citychain.testing.conformance.ledger import Ledger, pending
from citychain.types import ObjectWrite

__all__ = ["SharedTests"]


class SharedTests:
    """Part of `StorageSuite`."""

    async def test_two_servers_see_each_others_writes(self, session: Session) -> None:
        ledger = Ledger(160, [ObjectWrite("counter", 1, b"")])
        async with session.second() as backend:
            cities = [
                await session.city(ledger),
                await backend.city(ledger.genesis, b"genesis file", ledger.initial),
            ]
            for turn in range(4):
                writer, reader = cities if turn % 2 else reversed(cities)
                await fill(writer, ledger, rounds=1, per_round=8)
                await ledger.check(reader, sample=3)
                certificate = ledger.certificate(turn + 1)
                await reader.certify([certificate])
                ledger.certify([certificate])
                await writer.keep({"turn": b"%d" % turn})
                ledger.keep({"turn": b"%d" % turn})
                await ledger.check(writer, sample=3)
                await ledger.check(reader, sample=3)

    async def test_two_servers_store_the_same_transactions_once(self, session: Session) -> None:
        ledger = Ledger(161)
        async with session.second() as backend:
            cities = [
                await session.city(ledger),
                await backend.city(ledger.genesis, b"genesis file", ()),
            ]
            pool = ledger.transactions(60)
            batches = [ledger.random.sample(pool, 15) for _ in range(40)]
            await asyncio.gather(
                *(cities[turn % 2].append(batch, {}) for turn, batch in enumerate(batches))
            )
            expected = {t.tx_id: t for batch in batches for t in batch}
            lists = [await pending(city, 7) for city in cities]
            assert {t.tx_id: t for t in lists[0]} == expected, (
                "transactions that two servers appended at once must each be pending, once"
            )
            assert lists[0] == lists[1], "servers must agree in which order transactions arrived"

    async def test_of_two_servers_one_commits_a_round(self, session: Session) -> None:
        ledger = Ledger(162)
        async with session.second() as backend:
            cities = [
                await session.city(ledger),
                await backend.city(ledger.genesis, b"genesis file", ()),
            ]
            for _ in range(10):
                batch = ledger.transactions(4)
                await cities[0].append(batch, {})
                ledger.receive(batch)
                rivals = [ledger.round(batch[:2]), ledger.round(batch[2:])]
                results = await asyncio.gather(
                    *(city.commit(rival) for city, rival in zip(cities, rivals, strict=True)),
                    return_exceptions=True,
                )
                kinds = {type(result) for result in results}
                assert kinds == {type(None), RoundTaken}, (
                    f"of two servers that commit the same round one must succeed and the other "
                    f"get RoundTaken: {results}"
                )
                ledger.commit(rivals[results.index(None)])
                for city in cities:
                    await ledger.check(city, sample=2)

    async def test_one_server_at_a_time_holds_the_lease(self, session: Session) -> None:
        ledger = Ledger(163)
        async with session.second() as backend:
            one = await session.city(ledger)
            two = await backend.city(ledger.genesis, b"genesis file", ())
            first = await one.acquire_lease("one", TTL)
            assert first is not None, "nobody holds the lease yet"
            assert await two.acquire_lease("two", TTL) is None, "the lease is held by another"
            await one.renew_lease(first, TTL)
            await one.release_lease(first)
            second = await _acquired(two, "two", TTL)
            assert second > first, "epochs must grow by each acquisition"
            with pytest.raises(LeaseLost):
                await one.renew_lease(first, TTL)
            with pytest.raises(LeaseLost):
                await one.commit(ledger.round([], epoch=first))
            await one.release_lease(first)  # Of a lost lease: does nothing.
            assert await one.acquire_lease("one", TTL) is None, "the lease is held by another"

    async def test_a_lease_that_is_not_renewed_expires(self, session: Session) -> None:
        ledger = Ledger(164)
        async with session.second() as backend:
            one = await session.city(ledger)
            two = await backend.city(ledger.genesis, b"genesis file", ())
            first = await one.acquire_lease("one", timedelta(milliseconds=50))
            assert first is not None, "nobody holds the lease yet"
            second = await _acquired(two, "two", timedelta(milliseconds=50))
            assert second > first, "epochs must grow by each acquisition"
            with pytest.raises(LeaseLost):
                await one.commit(ledger.round([], epoch=first))

    async def test_a_server_hears_of_anothers_writes(self, session: Session) -> None:
        """Only a hint: at the latest the timeout ends the wait."""
        ledger = Ledger(165)
        async with session.second() as backend:
            one = await session.city(ledger)
            two = await backend.city(ledger.genesis, b"genesis file", ())
            waiting = asyncio.create_task(two.changed(timedelta(seconds=1)))
            await one.append(ledger.transactions(1), {})
            async with asyncio.timeout(60):
                await waiting


async def _acquired(city: CityStorage, holder: str, ttl: timedelta) -> int:
    """Wait for the lease as a waiting server does."""
    async with asyncio.timeout(60):
        while (epoch := await city.acquire_lease(holder, ttl)) is None:
            await asyncio.sleep(0.02)
    return epoch
