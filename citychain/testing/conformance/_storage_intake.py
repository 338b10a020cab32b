"""Storage tests: intake, and cities beside each other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from citychain.ports import CityStorage
from citychain.testing.conformance._storage_session import Session, commit, fill
from citychain.testing.conformance.ledger import Ledger, pending
from citychain.types import Head, NodeRef, ObjectWrite

__all__ = ["IntakeTests"]


class IntakeTests:
    """Part of `StorageSuite`."""

    async def test_a_new_city_is_empty(self, session: Session) -> None:
        ledger = Ledger(1)
        city = await session.city(ledger)
        assert await city.head() == Head(), "a new city has the default Head"
        page = await city.pending(None, 10)
        assert (list(page.transactions), page.cursor) == ([], None), (
            "a new city has nothing pending, and no cursor"
        )
        await ledger.check(city)

    async def test_appended_transactions_and_keys_are_read_back(self, session: Session) -> None:
        ledger = Ledger(2)
        city = await session.city(ledger)
        keys = {ledger.random.randbytes(32): ledger.random.randbytes(2592) for _ in range(3)}
        for batch in (ledger.transactions(10), ledger.transactions(1), []):
            await city.append(batch, keys)
            ledger.receive(batch, keys)
            await ledger.check(city)

    async def test_envelopes_may_be_empty_or_large(self, session: Session) -> None:
        ledger = Ledger(3)
        city = await session.city(ledger)
        sizes = (0, 1, 5_000, 100_000, 1_000_000, 0, 65_536)
        batch = [ledger.transaction(size) for size in sizes]
        await city.append(batch, {})
        ledger.receive(batch)
        await ledger.check(city)
        for transaction in batch:
            assert await city.raw([transaction.tx_id]) == {transaction.tx_id: transaction}, (
                "an envelope must come back byte by byte"
            )

    async def test_appending_again_changes_nothing(self, session: Session) -> None:
        ledger = Ledger(4)
        city = await session.city(ledger)
        batch = ledger.transactions(10)
        key = ledger.random.randbytes(32)
        await city.append(batch, {key: b"first"})
        ledger.receive(batch, {key: b"first"})
        again = [replace(t, envelope=b"another signature") for t in reversed(batch)]
        more = ledger.transactions(2)
        await city.append([more[0], *again, more[1]], {key: b"first"})
        ledger.receive(more)
        await ledger.check(city)

    async def test_a_repeat_within_a_batch_counts_once(self, session: Session) -> None:
        ledger = Ledger(5)
        city = await session.city(ledger)
        one, two = ledger.transactions(2)
        batch = [one, two, replace(one, envelope=b"again"), two]
        await city.append(batch, {})
        ledger.receive(batch)
        await ledger.check(city)

    async def test_a_sealed_transaction_is_not_received_again(self, session: Session) -> None:
        ledger = Ledger(6)
        city = await session.city(ledger)
        batch = ledger.transactions(10)
        await city.append(batch, {})
        ledger.receive(batch)
        await commit(city, ledger, batch[:6], rejected=[2])
        for _ in range(2):
            more = ledger.transactions(1)
            await city.append([*(replace(t, envelope=b"again") for t in batch), *more], {})
            ledger.receive(more)
            await ledger.check(city)
            await session.reopen()
            city = await session.city(ledger)

    @pytest.mark.parametrize("handles", [1, 2])
    async def test_overlapping_appends_of_one_transaction_store_it_once(
        self, session: Session, handles: int
    ) -> None:
        """Also when the city was asked for twice."""
        ledger = Ledger(7)
        cities = [await session.city(ledger) for _ in range(handles)]
        pool = ledger.transactions(40)
        batches = [ledger.random.sample(pool, 15) for _ in range(60)]
        envelopes = [
            [replace(t, envelope=b"%d" % turn) for t in batch] for turn, batch in enumerate(batches)
        ]
        await asyncio.gather(
            *(cities[turn % handles].append(batch, {}) for turn, batch in enumerate(envelopes))
        )
        for batch in envelopes:
            ledger.receive(batch)
        for city in cities:
            await ledger.check(city)
        await session.reopen()
        await ledger.check(await session.city(ledger))

    async def test_what_is_sealed_while_it_is_appended_again_stays_sealed(
        self, session: Session
    ) -> None:
        ledger = Ledger(10)
        city = await session.city(ledger)
        for _ in range(10):
            batch = ledger.transactions(12)
            await city.append(batch, {})
            ledger.receive(batch)
            sealed = ledger.round(batch, [0, 5])
            again = [city.append(ledger.random.sample(batch, 6), {}) for _ in range(6)]
            await asyncio.gather(*again[:3], city.commit(sealed), *again[3:])
            ledger.commit(sealed)
            await ledger.check(city, sample=2)
        await session.reopen()
        await ledger.check(await session.city(ledger))

    async def test_arrival_order_is_the_order_of_the_calls(self, session: Session) -> None:
        ledger = Ledger(8)
        city = await session.city(ledger)
        batches = [ledger.transactions(ledger.random.choice((1, 1, 2, 30))) for _ in range(60)]
        calls = [asyncio.create_task(city.append(batch, {})) for batch in batches]
        await asyncio.gather(*calls)
        for batch in batches:
            ledger.receive(batch)
        assert await pending(city) == ledger.pending, (
            "transactions must be pending in the order in which append was called"
        )
        await session.reopen()
        await ledger.check(await session.city(ledger))

    @pytest.mark.parametrize("limit", [1, 4, 10, 19, 20, 21])
    async def test_pending_pages_hold_each_transaction_once(
        self, session: Session, limit: int
    ) -> None:
        ledger = Ledger(9 + limit)
        city = await session.city(ledger)
        batch = ledger.transactions(30)
        await city.append(batch, {})
        ledger.receive(batch)
        await commit(city, ledger, batch[5:15])
        page = await city.pending(None, limit)
        assert len(page.transactions) == min(limit, 20), "a page is full unless it is the last"
        assert await pending(city, limit) == ledger.pending, (
            "pages of pending() must give each transaction once, in order"
        )

    async def test_pending_ids_are_those_of_what_is_pending(self, session: Session) -> None:
        ledger = Ledger(42)
        city = await session.city(ledger)
        assert list(await city.pending_ids()) == [], "nothing is pending in a new city"
        for _ in range(3):
            batch = ledger.transactions(12)
            await city.append(batch, {})
            ledger.receive(batch)
        await city.append(batch, {})
        await commit(city, ledger, ledger.pending[5:20])
        for _ in range(2):
            assert list(await city.pending_ids()) == [t.tx_id for t in ledger.pending], (
                "pending_ids() must give each transaction without a place, once, in arrival order"
            )
            for limit in (1, 7, 1_000):
                expected = [t.tx_id for t in ledger.pending][:limit]
                assert list(await city.pending_ids(limit)) == expected, (
                    "pending_ids(limit) must give the oldest, and no more than it was asked for"
                )
            await session.reopen()
            city = await session.city(ledger)

    async def test_pending_goes_on_with_what_arrives_between_pages(self, session: Session) -> None:
        ledger = Ledger(40)
        city = await session.city(ledger)
        first, later = ledger.transactions(5), ledger.transactions(5)
        await city.append(first, {})
        page = await city.pending(None, 2)
        await city.append(later, {})
        found = list(page.transactions)
        while page.cursor is not None:
            page = await city.pending(page.cursor, 2)
            found += page.transactions
        assert found == first + later, "what arrives between two pages comes after them"

    async def test_a_page_that_is_sealed_meanwhile_does_not_stop_the_next(
        self, session: Session
    ) -> None:
        ledger = Ledger(41)
        city = await session.city(ledger)
        batch = ledger.transactions(8)
        await city.append(batch, {})
        ledger.receive(batch)
        page = await city.pending(None, 3)
        assert list(page.transactions) == batch[:3], "the first page has the first that arrived"
        await commit(city, ledger, batch[:5])
        rest = await city.pending(page.cursor, 10)
        assert list(rest.transactions) == batch[5:], (
            "a page goes on after the last one, though that is sealed meanwhile"
        )

    async def test_what_does_not_exist_is_absent(self, session: Session) -> None:
        ledger = Ledger(42)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=5)
        for unknown in (b"", b"short", bytes(32), b"\xff" * 32, b"x" * 33):
            assert await city.raw([unknown]) == {}, "raw() leaves out an id that is unknown"
            assert await city.find([unknown]) == {}, "find() leaves out an id that is unknown"
            assert await city.nodes([unknown]) == {}, "nodes() leaves out an id that is unknown"
            assert await city.latest([unknown]) == {}, (
                "latest() leaves out an author that is unknown"
            )
            assert await city.keys([unknown]) == {}, "keys() leaves out an id that is unknown"
        assert await city.objects(["", "nothing", "\U0001f3d9"]) == {}
        for read in (city.raw, city.find, city.nodes, city.latest, city.keys, city.objects):
            assert await read([]) == {}, "nothing is asked for, so nothing is answered"
        assert list(await city.rounds(3, 10)) == [], "rounds() beyond the last are none"
        assert list(await city.rounds(1, 0)) == [], "a limit of 0 gives nothing"
        assert list(await city.round_nodes(0)) == [], "there is no round 0"
        assert list(await city.round_nodes(1 << 62)) == [], (
            "a round that does not exist has no nodes"
        )
        for parent in (NodeRef(1, 9, bytes(32)), NodeRef(1 << 62, 0, bytes(32))):
            assert list(await city.children(parent, (0, 0), 10)) == [], (
                "a node that does not exist has no children"
            )

    async def test_changed_returns_after_the_timeout(self, session: Session) -> None:
        city = await session.city(Ledger(43))
        async with asyncio.timeout(30):
            await city.changed(timedelta(milliseconds=5))

    # --- cities

    async def test_cities_in_one_backend_do_not_see_each_other(self, session: Session) -> None:
        one, two = Ledger(50), Ledger(51)
        cities = [await session.city(one), await session.city(two)]
        await fill(cities[0], one, rounds=3, per_round=20)
        await two.check(cities[1])
        # The same ids, though real ones cannot be the same: only names keep the cities apart.
        batch = [replace(t, envelope=b"elsewhere") for t in one.received.values()]
        await cities[1].append(batch, {next(iter(one.keys)): b"other"})
        two.receive(batch, {next(iter(one.keys)): b"other"})
        await commit(cities[1], two, batch[5:], rejected=[0])
        await one.check(cities[0])
        await two.check(cities[1])
        await session.reopen()
        await one.check(await session.city(one))
        await two.check(await session.city(two))

    async def test_many_cities_are_written_at_once(self, session: Session) -> None:
        ledgers = [Ledger(100 + i) for i in range(40)]
        cities = await asyncio.gather(*(session.city(ledger) for ledger in ledgers))

        async def live(ledger: Ledger, city: CityStorage) -> None:
            await fill(city, ledger, rounds=3, per_round=3)

        await asyncio.gather(*map(live, ledgers, cities))
        for ledger, city in zip(ledgers, cities, strict=True):
            await ledger.check(city, sample=2)

    async def test_initial_objects_are_stored_on_first_use_only(self, session: Session) -> None:
        initial = [ObjectWrite("bank/金沢", 1, b"\x00\xff"), ObjectWrite("empty", 3, b"")]
        ledger = Ledger(52, initial)
        city = await session.city(ledger)
        await ledger.check(city)
        await commit(city, ledger, [], writes=[ObjectWrite("empty", 4, b"full")])
        for _ in range(2):
            city = await session.backend.city(
                ledger.genesis, b"genesis file", [*initial, ObjectWrite("late", 1, b"")]
            )
            assert await city.objects(["late"]) == {}, (
                "initial objects are written when a city is new, and never again"
            )
            await ledger.check(city)
            await session.reopen()

    async def test_one_city_may_be_opened_twice_at_once(self, session: Session) -> None:
        ledger = Ledger(53, [ObjectWrite("a", 1, b"1")])
        cities = await asyncio.gather(*(session.city(ledger) for _ in range(5)))
        for city in cities:
            batch = ledger.transactions(2)
            await city.append(batch, {})
            ledger.receive(batch)
        for city in cities:
            await ledger.check(city)
