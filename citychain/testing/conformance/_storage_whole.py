"""Storage tests: the backend as a whole, when calls overlap, are cut short or are many."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

from citychain.errors import RoundTaken
from citychain.testing.conformance._storage_session import (
    BREATH,
    TTL,
    Session,
    cancel_soon,
    commit,
    fill,
)
from citychain.testing.conformance.ledger import Ledger, pending
from citychain.types import ObjectWrite

__all__ = ["WholeTests"]


class WholeTests:
    """Part of `StorageSuite`."""

    big_batch: ClassVar[int]

    async def test_what_was_read_before_closing_is_read_after(self, session: Session) -> None:
        ledger = Ledger(90, [ObjectWrite("a", 1, b"1")])
        city = await session.city(ledger)
        for _ in range(3):
            await fill(city, ledger, rounds=2, per_round=25)
            certificate = ledger.certificate(len(ledger.rounds) - 1)
            await city.certify([certificate])
            ledger.certify([certificate])
            more = ledger.transactions(3)
            await city.append(more, {})
            ledger.receive(more)
            await session.reopen()
            city = await session.city(ledger)
            await ledger.check(city, sample=5)

    async def test_a_cancelled_append_is_stored_whole_or_not_at_all(self, session: Session) -> None:
        ledger = Ledger(91)
        city = await session.city(ledger)
        batches = []
        for _ in range(60):
            batch = ledger.transactions(5)
            batches.append(batch)
            call = asyncio.create_task(city.append(batch, {batch[0].tx_id: b"key"}))
            await cancel_soon(call, ledger)
        after = ledger.transactions(1)
        await city.append(after, {})
        batches.append(after)
        await session.reopen()
        city = await session.city(ledger)
        for batch in batches:
            stored = len(await city.raw([t.tx_id for t in batch]))
            assert stored in (0, len(batch)), "an append is stored all or none"
            assert len(await city.keys([batch[0].tx_id])) == (stored > 1), (
                "keys are stored with the transactions of their call, or not"
            )
            if stored:
                ledger.receive(batch, {batch[0].tx_id: b"key"} if stored > 1 else {})
        await ledger.check(city)
        for batch in batches:
            await city.append(batch, {})
            ledger.receive(batch)
        await ledger.check(city)

    async def test_a_cancelled_commit_is_stored_whole_or_not_at_all(self, session: Session) -> None:
        ledger = Ledger(92)
        city = await session.city(ledger)
        batch = ledger.transactions(200)
        await city.append(batch, {})
        ledger.receive(batch)
        for begin in range(0, 200, 5):
            sealed = ledger.round(batch[begin : begin + 5], writes=[ObjectWrite("n", begin, b"")])
            await cancel_soon(asyncio.create_task(city.commit(sealed)), ledger)
            await city.append([], {})
            if begin % 50 == 0:
                await session.reopen()
                city = await session.city(ledger)
            try:
                await city.commit(sealed)
            except RoundTaken:
                assert (await city.head()).round == sealed.round, (
                    "RoundTaken by a round that is not there"
                )
            ledger.commit(sealed)
        await ledger.check(city)

    async def test_a_failed_write_does_not_take_its_neighbours_with_it(
        self, session: Session
    ) -> None:
        one, two = Ledger(93), Ledger(94)
        cities = [await session.city(one), await session.city(two)]
        await fill(cities[0], one, rounds=1, per_round=3)
        batch, other = one.transactions(4), two.transactions(4)
        unusable = replace(one.round(batch), node_ids=[])
        results = await asyncio.gather(
            cities[1].append(other, {}),
            cities[0].commit(replace(one.round(batch), round=1)),
            cities[0].append(batch, {}),
            cities[0].commit(unusable),
            cities[0].commit(one.round(batch, epoch=-1)),
            cities[1].acquire_lease("me", TTL),
            return_exceptions=True,
        )
        failed = [isinstance(result, Exception) for result in results]
        assert failed == [False, True, False, True, True, False], (
            f"each call fails or not by itself: {results}"
        )
        one.receive(batch)
        two.receive(other)
        await one.check(cities[0])
        await two.check(cities[1])
        await _reopened(session, one, two)
        with suppress(Exception):  # The last thing that it was asked.
            await (await session.city(one)).commit(unusable)
        await _reopened(session, one, two)

    async def test_big_batches(self, session: Session) -> None:
        ledger = Ledger(96)
        city = await session.city(ledger)
        batch = ledger.transactions(self.big_batch)
        await city.append(batch, {})
        ledger.receive(batch)
        assert await pending(city, 10_000) == batch, "pending() must list all that was appended"
        rejected = range(0, self.big_batch, 100)
        writes = [ObjectWrite(f"{i:06}", 1, b"x") for i in range(self.big_batch)]
        await commit(city, ledger, batch, rejected=rejected, writes=writes)
        await session.reopen()
        await ledger.check(await session.city(ledger), sample=2, ids=10_000)

    async def test_intake_sealing_and_reading_go_on_together(self, session: Session) -> None:
        ledger = Ledger(97)
        city = await session.city(ledger)
        done = asyncio.Event()

        async def seal() -> None:
            while not done.is_set() or ledger.pending:
                batch = ledger.pending[:40]
                if batch:
                    await commit(city, ledger, batch, rejected=[0])
                await asyncio.sleep(BREATH)

        async def receive() -> None:
            for _ in range(40):
                batch = ledger.transactions(10)
                await city.append(batch, {})
                ledger.receive(batch)
            done.set()

        async def read() -> None:
            while not done.is_set():
                known = list(ledger.received)[-30:]
                sealed = [tx_id for tx_id in known if tx_id in ledger.sealed]
                raw = await city.raw(known)
                assert set(raw) == set(known), "raw() lacks what an append that returned stored"
                assert set(await city.find(sealed)) == set(sealed), (
                    "find() lacks what a commit that has returned sealed"
                )
                await asyncio.sleep(BREATH)

        await asyncio.gather(seal(), receive(), read())
        await ledger.check(city)


async def _reopened(session: Session, *ledgers: Ledger) -> None:
    """Open the backend anew, after writes that it refused."""
    try:
        await session.reopen()
        cities = [await session.city(ledger) for ledger in ledgers]
    except Exception as error:
        raise AssertionError(
            "a backend that refused a write, whatever it raised, must open again with all the "
            f"rest; this one raised {error!r}"
        ) from error
    for city, ledger in zip(cities, ledgers, strict=True):
        await ledger.check(city)
