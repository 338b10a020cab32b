"""Storage tests: each write cut short at each of its steps, by cancelling and by errors."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from itertools import count, cycle
from pathlib import Path
from typing import Any, Final

import pytest

from citychain.errors import RoundTaken
from citychain.ports import CityStorage
from citychain.testing.conformance._storage_cut import FailingCompute, cancelled_at, full_disk
from citychain.testing.conformance._storage_session import TTL, Factory, Session, fill
from citychain.testing.conformance.ledger import Ledger
from citychain.types import ObjectWrite

__all__ = ["InterruptedTests"]


class _Write:
    """A write, and what must hold when it was cut short."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def call(self, city: CityStorage) -> Coroutine[Any, Any, object]:
        """Make it."""
        raise NotImplementedError

    async def finish(self, city: CityStorage, returned: bool) -> None:
        """See that it is stored whole or not at all, make it again, tell the ledger."""
        raise NotImplementedError


class _Append(_Write):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.batch = ledger.transactions(5, size=3_000)
        self.keys = {ledger.random.randbytes(32): ledger.random.randbytes(50) for _ in range(2)}

    def call(self, city: CityStorage) -> Coroutine[Any, Any, object]:
        return city.append(self.batch, self.keys)

    async def finish(self, city: CityStorage, returned: bool) -> None:
        found = len(await city.raw([t.tx_id for t in self.batch]))
        keys = len(await city.keys(list(self.keys)))
        assert (found, keys) in ((0, 0), (5, 2)), (
            f"of an append of 5 transactions and 2 keys, {found} and {keys} are stored: it must "
            "be all or none"
        )
        assert found or not returned, "an append returned, and nothing of it is stored"
        await city.append(self.batch, self.keys)
        self.ledger.receive(self.batch, self.keys)


class _Commit(_Write):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        number = ledger.head.round + 1
        self.new = f"new in {number}"
        writes = [ObjectWrite(name, number + 1, b"%d" % number) for name in ("counter", self.new)]
        self.sealed = ledger.round(ledger.pending[:6], rejected=[0], writes=writes)

    def call(self, city: CityStorage) -> Coroutine[Any, Any, object]:
        return city.commit(self.sealed)

    async def finish(self, city: CityStorage, returned: bool) -> None:
        head = (await city.head()).round
        before = self.sealed.round - 1
        assert head in (before, before + 1), "head() is of a round that nobody committed"
        assert head > before or not returned, "a commit returned, and the round is not stored"
        if head == before:
            await self.ledger.check(city, sample=2)
            linked = [node_id for node_id in self.sealed.node_ids if node_id is not None]
            part = await city.objects([self.new]), await city.nodes(linked)
            assert part == ({}, {}), "of a round that is not committed there is a part"
        try:
            await city.commit(self.sealed)
        except RoundTaken:
            assert (await city.head()).round == self.sealed.round, "RoundTaken by a round not there"
        self.ledger.commit(self.sealed)


class _Certify(_Write):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        bare = [stored.round for stored in ledger.rounds if stored.certificate is None]
        self.certificates = [ledger.certificate(round) for round in bare[-2:]]

    def call(self, city: CityStorage) -> Coroutine[Any, Any, object]:
        return city.certify(self.certificates)

    async def finish(self, city: CityStorage, returned: bool) -> None:
        for certificate in self.certificates:
            [stored] = await city.rounds(certificate.round, 1)
            allowed = (certificate,) if returned else (certificate, None)
            assert stored.certificate in allowed, "certify must store what it was given"
        await city.certify(self.certificates)
        self.ledger.certify(self.certificates)


class _Keep(_Write):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        number = ledger.random.randbytes(4)
        self.notes = {f"note/{part}": number + bytes(part * 1_000) for part in range(4)}

    def call(self, city: CityStorage) -> Coroutine[Any, Any, object]:
        return city.keep(self.notes)

    async def finish(self, city: CityStorage, returned: bool) -> None:
        found = await city.notes("note/")
        before = {name: note for name, note in self.ledger.notes.items() if name in self.notes}
        assert found == self.notes or (found == before and not returned), (
            "notes of one call must be kept all or none: some are of this call, others of the last"
        )
        await city.keep(self.notes)
        self.ledger.keep(self.notes)


class _AcquireLease(_Write):
    def call(self, city: CityStorage) -> Coroutine[Any, Any, object]:
        return city.acquire_lease("me", TTL)

    async def finish(self, city: CityStorage, returned: bool) -> None:
        epoch = await city.acquire_lease("me", TTL)
        assert epoch is not None, "who holds the lease, or nearly got it, may acquire it again"
        assert epoch > self.ledger.epoch, "epochs must grow by each acquisition"
        sealed = self.ledger.round([], epoch=epoch)
        await city.commit(sealed)
        self.ledger.commit(sealed)


WRITES: Final[dict[str, Callable[[Ledger], _Write]]] = {
    "append": _Append,
    "commit": _Commit,
    "certify": _Certify,
    "keep": _Keep,
    "acquire_lease": _AcquireLease,
}

each_write = pytest.mark.parametrize("write", WRITES)


class InterruptedTests:
    """Part of `StorageSuite`."""

    @each_write
    async def test_a_write_cancelled_at_any_await_is_whole_or_absent(
        self, session: Session, write: str
    ) -> None:
        ledger = Ledger(120)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=3, per_round=5)
        for number in count(1):
            cut = WRITES[write](ledger)
            others = ledger.transactions(3)
            neighbours = [asyncio.create_task(city.append([other], {})) for other in others]
            came = await cancelled_at(number, cut.call(city))
            results = await asyncio.gather(*neighbours, return_exceptions=True)
            assert results == [None] * 3, "a cancelled call must not take others with it"
            ledger.receive(others)
            async with asyncio.timeout(60):
                await city.keep({"after": b"%d" % number})  # It goes on working.
            ledger.keep({"after": b"%d" % number})
            city = await session.settle(ledger)
            await cut.finish(city, returned=not came)
            await ledger.check(city, sample=2)
            if not came:
                break
            await fill(city, ledger, rounds=1, per_round=5)

    async def test_a_city_whose_opening_is_cancelled_is_whole_later(self, session: Session) -> None:
        for number in count(1):
            ledger = Ledger(1_000 + number, [ObjectWrite(name, 1, b"1") for name in "abc"])
            came = await cancelled_at(number, session.city(ledger))
            await ledger.check(await session.city(ledger))
            await ledger.check(await session.settle(ledger))
            if not came:
                break

    async def test_cancelled_reads_give_back_what_they_used(self, session: Session) -> None:
        ledger = Ledger(122)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=5)
        ids = list(ledger.received)
        for _ in range(10):
            for number in count(1):
                reads = (
                    city.raw(ids),
                    city.find(ids),
                    city.pending(None, 10),
                    city.rounds(1, 10),
                    city.objects(["counter"]),
                    city.notes(""),
                )
                if not any([await cancelled_at(number, read) for read in reads]):
                    break
        async with asyncio.timeout(60):
            await ledger.check(city)

    async def test_an_opening_that_is_cut_short_keeps_nobody_out(
        self, backends: Factory, storage_compute: FailingCompute
    ) -> None:
        ledger = Ledger(123)

        async def cancelled(number: int) -> bool:
            backend = backends()
            if await cancelled_at(number, backend.__aenter__()):
                return True
            await backend.__aexit__(None, None, None)
            return False

        async def failed(number: int) -> bool:
            backend = backends()
            with storage_compute.failing(number):
                try:
                    await backend.__aenter__()
                except Exception:
                    assert storage_compute.failed, "it fails of itself"
                    return True
            await backend.__aexit__(None, None, None)
            return False

        for cut in (cancelled, failed):
            for number in count(1):
                came = await cut(number)
                async with asyncio.timeout(60), backends() as backend:
                    await backend.city(ledger.genesis, b"", ())
                if not came:
                    break

    # --- errors

    @each_write
    async def test_a_write_that_fails_at_any_step_is_whole_or_absent(
        self, session: Session, storage_compute: FailingCompute, write: str
    ) -> None:
        """Each call into the framework's executor fails once."""
        ledger = Ledger(124)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=3, per_round=5)
        for number in count(1):
            cut = WRITES[write](ledger)
            returned = True
            with storage_compute.failing(number):
                try:
                    await cut.call(city)
                except Exception:
                    assert storage_compute.failed, "it fails of itself"
                    returned = False
                came = storage_compute.failed
            await city.keep({"after": b"%d" % number})  # It goes on working.
            ledger.keep({"after": b"%d" % number})
            await cut.finish(city, returned=returned)
            await ledger.check(city, sample=2)
            city = await session.settle(ledger)
            await ledger.check(city, sample=2)
            if not came:
                break
            await fill(city, ledger, rounds=1, per_round=5)

    async def test_a_full_disk_is_told_and_loses_nothing(
        self, session: Session, storage_directory: Path
    ) -> None:
        """While no file may grow, writes fail; once they may, the same writes are taken."""
        session.need_durable()
        ledger = Ledger(125)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=3, per_round=30)
        rooms = random.Random(125)
        failures = 0
        for turn, write in zip(range(30), cycle(WRITES), strict=False):
            cut = WRITES[write](ledger)
            returned = True
            with full_disk(storage_directory, room=rooms.choice((0, 100, 4_096, 20_000))):
                try:
                    await cut.call(city)
                except Exception:
                    failures += 1
                    returned = False
            if turn % 3:
                city = await session.settle(ledger)
            await cut.finish(city, returned=returned)
            await ledger.check(city, sample=2)
            more = ledger.transactions(5)
            await city.append(more, {})
            ledger.receive(more)
        await ledger.check(await session.settle(ledger))
        if not failures:
            pytest.skip("no write failed: it writes no files, or files that have their size")
