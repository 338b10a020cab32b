"""What every storage backend must do: inherit `StorageSuite` and supply a factory.

::

    import pytest
    from citychain.testing.conformance.storage import StorageSuite

    class TestMyStorage(StorageSuite):
        @pytest.fixture
        def storage_backend_factory(self, storage_context):
            return lambda: MyBackend(MyOptions(), storage_context)

Each call of the factory makes a backend, not entered yet, over the same storage;
the suite has one open at a time. Tests use cities of their own, so storage may
be shared by all tests of a run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import LeaseLost, RoundTaken, StorageError
from citychain.ports import CityStorage, StorageBackend, StorageContext
from citychain.testing.conformance.ledger import LEVEL, Ledger, pending
from citychain.types import Head, NodeRef, ObjectState, ObjectWrite, RawTransaction, SealedNode

__all__ = ["StorageSuite"]

Factory: TypeAlias = Callable[[], StorageBackend]

TTL = timedelta(seconds=30)


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


class StorageSuite:
    """Inherit it as ``Test...`` and override `storage_backend_factory`."""

    durable: ClassVar[bool] = True
    """False for a backend whose storage goes with it: it is not reopened."""
    big_batch: ClassVar[int] = 10_000
    """Transactions of the largest append and round."""
    examples: ClassVar[int] = 30
    """Runs of the state machine, each in a city of its own."""

    @pytest.fixture
    async def storage_context(self, tmp_path: Path) -> AsyncIterator[StorageContext]:
        """What the framework gives to a backend's factory."""
        async with Executor(4) as compute:
            yield StorageContext(tmp_path / "storage", compute, SystemClock())

    @pytest.fixture
    def storage_backend_factory(self, storage_context: StorageContext) -> Factory:
        """Override: returns a function that makes backends over one storage."""
        raise NotImplementedError("override the fixture storage_backend_factory")

    @pytest.fixture
    async def session(self, storage_backend_factory: Factory) -> AsyncIterator[Session]:
        session = Session(storage_backend_factory, self.durable)
        await session.open()
        try:
            yield session
        finally:
            await session.close()

    # --- intake

    async def test_a_new_city_is_empty(self, session: Session) -> None:
        ledger = Ledger(1)
        city = await session.city(ledger)
        assert await city.head() == Head()
        page = await city.pending(None, 10)
        assert (list(page.transactions), page.cursor) == ([], None)
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
            assert await city.raw([transaction.tx_id]) == {transaction.tx_id: transaction}

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
        await _commit(city, ledger, batch[:6], rejected=[2])
        for _ in range(2):
            more = ledger.transactions(1)
            await city.append([*(replace(t, envelope=b"again") for t in batch), *more], {})
            ledger.receive(more)
            await ledger.check(city)
            await session.reopen()
            city = await session.city(ledger)

    async def test_overlapping_appends_of_one_transaction_store_it_once(
        self, session: Session
    ) -> None:
        ledger = Ledger(7)
        city = await session.city(ledger)
        pool = ledger.transactions(40)
        batches = [ledger.random.sample(pool, 15) for _ in range(30)]
        await asyncio.gather(*(city.append(batch, {}) for batch in batches))
        for batch in batches:
            ledger.receive(batch)
        await ledger.check(city)

    async def test_arrival_order_is_the_order_of_the_calls(self, session: Session) -> None:
        ledger = Ledger(8)
        city = await session.city(ledger)
        batches = [ledger.transactions(ledger.random.choice((1, 1, 2, 30))) for _ in range(60)]
        calls = [asyncio.create_task(city.append(batch, {})) for batch in batches]
        await asyncio.gather(*calls)
        for batch in batches:
            ledger.receive(batch)
        assert await pending(city) == ledger.pending
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
        await _commit(city, ledger, batch[5:15])
        page = await city.pending(None, limit)
        assert len(page.transactions) == min(limit, 20)
        assert await pending(city, limit) == ledger.pending

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
        assert found == first + later

    async def test_a_page_that_is_sealed_meanwhile_does_not_stop_the_next(
        self, session: Session
    ) -> None:
        ledger = Ledger(41)
        city = await session.city(ledger)
        batch = ledger.transactions(8)
        await city.append(batch, {})
        ledger.receive(batch)
        page = await city.pending(None, 3)
        assert list(page.transactions) == batch[:3]
        await _commit(city, ledger, batch[:5])
        rest = await city.pending(page.cursor, 10)
        assert list(rest.transactions) == batch[5:]

    async def test_what_does_not_exist_is_absent(self, session: Session) -> None:
        ledger = Ledger(42)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=2, per_round=5)
        for unknown in (b"", b"short", bytes(32), b"\xff" * 32, b"x" * 33):
            assert await city.raw([unknown]) == {}
            assert await city.find([unknown]) == {}
            assert await city.nodes([unknown]) == {}
            assert await city.latest([unknown]) == {}
            assert await city.keys([unknown]) == {}
        assert await city.objects(["", "nothing", "\U0001f3d9"]) == {}
        for read in (city.raw, city.find, city.nodes, city.latest, city.keys, city.objects):
            assert await read([]) == {}
        assert list(await city.rounds(3, 10)) == []
        assert list(await city.rounds(1, 0)) == []
        assert list(await city.round_nodes(0)) == []
        assert list(await city.round_nodes(1 << 62)) == []
        for parent in (NodeRef(1, 9, bytes(32)), NodeRef(1 << 62, 0, bytes(32))):
            assert list(await city.children(parent, (0, 0), 10)) == []

    async def test_changed_returns_after_the_timeout(self, session: Session) -> None:
        city = await session.city(Ledger(43))
        async with asyncio.timeout(30):
            await city.changed(timedelta(milliseconds=5))

    # --- cities

    async def test_cities_in_one_backend_do_not_see_each_other(self, session: Session) -> None:
        one, two = Ledger(50), Ledger(51)
        cities = [await session.city(one), await session.city(two)]
        await _fill(cities[0], one, rounds=3, per_round=20)
        await two.check(cities[1])
        # The same ids, though real ones cannot be the same: only names keep the cities apart.
        batch = [replace(t, envelope=b"elsewhere") for t in one.received.values()]
        await cities[1].append(batch, {next(iter(one.keys)): b"other"})
        two.receive(batch, {next(iter(one.keys)): b"other"})
        await _commit(cities[1], two, batch[5:], rejected=[0])
        await one.check(cities[0])
        await two.check(cities[1])
        await session.reopen()
        await one.check(await session.city(one))
        await two.check(await session.city(two))

    async def test_many_cities_are_written_at_once(self, session: Session) -> None:
        ledgers = [Ledger(100 + i) for i in range(40)]
        cities = await asyncio.gather(*(session.city(ledger) for ledger in ledgers))

        async def live(ledger: Ledger, city: CityStorage) -> None:
            await _fill(city, ledger, rounds=3, per_round=3)

        await asyncio.gather(*map(live, ledgers, cities))
        for ledger, city in zip(ledgers, cities, strict=True):
            await ledger.check(city, sample=2)

    async def test_initial_objects_are_stored_on_first_use_only(self, session: Session) -> None:
        initial = [ObjectWrite("bank/金沢", 1, b"\x00\xff"), ObjectWrite("empty", 3, b"")]
        ledger = Ledger(52, initial)
        city = await session.city(ledger)
        await ledger.check(city)
        await _commit(city, ledger, [], writes=[ObjectWrite("empty", 4, b"full")])
        for _ in range(2):
            city = await session.backend.city(
                ledger.genesis, b"genesis file", [*initial, ObjectWrite("late", 1, b"")]
            )
            assert await city.objects(["late"]) == {}
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

    # --- sequencer

    async def test_everything_of_a_round_is_read_back(self, session: Session) -> None:
        ledger = Ledger(60)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=6, per_round=70)
        await ledger.check(city)

    async def test_rounds_may_seal_nothing_or_link_nothing(self, session: Session) -> None:
        ledger = Ledger(61)
        city = await session.city(ledger)
        await _commit(city, ledger, [])
        await ledger.check(city)
        for rejected in ([0, 1, 2], [], [0, 1, 2], []):
            batch = ledger.transactions(3)
            await city.append(batch, {})
            ledger.receive(batch)
            await _commit(city, ledger, batch if rejected else batch[:1], rejected=rejected)
            await _commit(city, ledger, [], held=[batch[-1].tx_id])
            await ledger.check(city)

    async def test_the_latest_node_is_the_authors_last_linked_one(self, session: Session) -> None:
        ledger = Ledger(62)
        city = await session.city(ledger)
        me, other = ledger.transactions(2)
        mine = [replace(t, author=me.author) for t in ledger.transactions(5)]
        await city.append([*mine, other], {})
        ledger.receive([*mine, other])
        await _commit(city, ledger, [mine[0], mine[1], other, mine[2]], rejected=[3])
        assert (await city.latest([me.author]))[me.author].seq == 1
        await _commit(city, ledger, [mine[3]], rejected=[0])
        assert (await city.latest([me.author]))[me.author][:2] == (1, 1)
        await _commit(city, ledger, [mine[4]])
        assert (await city.latest([me.author]))[me.author][:2] == (3, 0)
        await ledger.check(city)

    async def test_objects_hold_their_last_state(self, session: Session) -> None:
        ledger = Ledger(63, [ObjectWrite("a", 1, b"genesis")])
        city = await session.city(ledger)
        big = ledger.random.randbytes(100_000)
        for version in range(2, 5):
            writes = [
                ObjectWrite("a", version, b"%d" % version),
                ObjectWrite("a,b;c'\"", version, b",;'"),
                ObjectWrite("価格", version, big),
                ObjectWrite(f"only in {version}", (1 << 62) + version, b""),
            ]
            await _commit(city, ledger, [], writes=sorted(writes))
            await ledger.check(city)
        assert await city.objects(["a", "a", "b"]) == {"a": ObjectState(4, b"4")}

    async def test_ids_that_share_a_beginning_are_told_apart(self, session: Session) -> None:
        ledger = Ledger(64)
        city = await session.city(ledger)
        start = ledger.random.randbytes(31)
        batch = [
            RawTransaction(
                start[:length] + ledger.random.randbytes(32 - length),
                start[:length] + bytes([i]) * (32 - length),
                b"%d" % i,
            )
            for i, length in enumerate((31, 31, 24, 16, 9, 8, 8, 7, 4, 1, 0))
        ]
        await city.append(batch[::2], {t.author: t.author * 2 for t in batch})
        ledger.receive(batch[::2], {t.author: t.author * 2 for t in batch})
        await ledger.check(city)
        sealed = ledger.round(batch[:9:2], rejected=[1])
        ids = [None if n is None else start[:12] + n[12:] for n in sealed.node_ids]
        sealed = replace(sealed, node_ids=ids, parents=[p[:0] for p in sealed.parents])
        await city.commit(sealed)
        ledger.commit(sealed)
        await city.append(batch, {})
        ledger.receive(batch)
        for transaction in batch[1::2]:
            assert await city.find([transaction.tx_id]) == {}
            assert await city.raw([transaction.tx_id]) == {transaction.tx_id: transaction}
        assert await city.nodes([start[:12] + bytes(20)]) == {}
        assert set(await city.latest([t.author for t in batch])) == {
            node.author for node in ledger.linked
        }
        assert await pending(city) == ledger.pending

    async def test_children_come_in_pages_by_place(self, session: Session) -> None:
        ledger = Ledger(65)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=6, per_round=30)
        genesis = NodeRef(0, 0, ledger.genesis)
        for parent in (genesis, *(node.ref for node in ledger.linked[:20])):
            expected = ledger.children(parent)
            found: list[SealedNode] = []
            after = (0, 0)
            while page := await city.children(parent, after, 3):
                assert len(page) <= 3
                found += page
                after = (page[-1].round, page[-1].seq)
            assert found == expected
            assert list(await city.children(parent, (2, 1 << 40), 1000)) == [
                node for node in expected if node.round > 2
            ]
            other = parent._replace(node_id=bytes(32))
            assert list(await city.children(other, (0, 0), 10)) == []
        assert ledger.children(genesis)

    async def test_hashes_are_read_in_any_range(self, session: Session) -> None:
        ledger = Ledger(66)
        city = await session.city(ledger)
        for count in (1, 300, 0, 255, 2, 500):
            await _commit(city, ledger, ledger.transactions(count))
        size = ledger.head.size
        await ledger.check(city, sample=300)
        assert await city.leaf_hashes(size - 3, size + 100) == ledger.leaf_hashes[-96:]
        assert await city.leaf_hashes(size, size + 1) == b""
        assert await city.leaf_hashes(7, 7) == b""
        assert await city.subtree_hashes(LEVEL, 1, 3) == b"".join(ledger.subtrees[1:3])
        assert await city.subtree_hashes(LEVEL, 2, 99) == b"".join(ledger.subtrees[2:])
        assert await city.subtree_hashes(LEVEL + 8, 0, 1) == b""

    async def test_rounds_are_read_in_pages(self, session: Session) -> None:
        ledger = Ledger(67)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=5, per_round=2)
        assert list(await city.rounds(2, 3)) == ledger.rounds[1:4]
        assert list(await city.rounds(5, 3)) == ledger.rounds[4:]
        assert list(await city.rounds(0, 1)) == ledger.rounds[:1]

    async def test_a_round_is_committed_once(self, session: Session) -> None:
        ledger = Ledger(70)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=2, per_round=4)
        batch = ledger.transactions(4)
        await city.append(batch, {})
        ledger.receive(batch)
        third, other = ledger.round(batch[:2]), ledger.round(batch[2:], rejected=[0])
        await city.commit(third)
        ledger.commit(third)
        for taken in (third, other, replace(other, round=1), replace(other, round=2)):
            with pytest.raises(RoundTaken):
                await city.commit(taken)
        await ledger.check(city)

    async def test_of_overlapping_commits_of_a_round_one_wins(self, session: Session) -> None:
        ledger = Ledger(71)
        city = await session.city(ledger)
        batch = ledger.transactions(12)
        await city.append(batch, {})
        ledger.receive(batch)
        rivals = [
            ledger.round(batch[3 * i : 3 * i + 3], writes=[ObjectWrite(f"by {i}", 1, b"")])
            for i in range(4)
        ]
        results = await asyncio.gather(*map(city.commit, rivals), return_exceptions=True)
        winners = [rival for rival, result in zip(rivals, results, strict=True) if not result]
        assert len(winners) == 1
        assert [type(result) for result in results if result] == [RoundTaken] * 3
        ledger.commit(winners[0])
        await ledger.check(city)

    async def test_gaps_are_refused(self, session: Session) -> None:
        ledger = Ledger(72)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=1, per_round=3)
        second = ledger.round(ledger.transactions(2))
        for round in (3, 4, 1000):
            with pytest.raises(StorageError) as refused:
                await city.commit(replace(second, round=round))
            assert not isinstance(refused.value, RoundTaken | LeaseLost)
        await ledger.check(city)
        await city.commit(second)
        ledger.commit(second)
        await ledger.check(city)

    async def test_lease_epochs_grow(self, session: Session) -> None:
        ledger = Ledger(73)
        epochs = [0]
        for _ in range(3):
            city = await session.city(ledger)
            for _ in range(2):
                epoch = await city.acquire_lease("me", TTL)
                assert epoch is not None
                assert epoch > epochs[-1]
                epochs.append(epoch)
            await city.renew_lease(epochs[-1], TTL)
            await session.reopen()
        city = await session.city(ledger)
        for lost in epochs[:-1]:
            with pytest.raises(LeaseLost):
                await city.renew_lease(lost, TTL)
            await city.release_lease(lost)
        await city.renew_lease(epochs[-1], TTL)
        await city.release_lease(epochs[-1])
        epoch = await city.acquire_lease("me", TTL)
        assert epoch is not None
        assert epoch > epochs[-1]

    async def test_leases_of_overlapping_calls_differ(self, session: Session) -> None:
        city = await session.city(Ledger(74))
        epochs = await asyncio.gather(*(city.acquire_lease("me", TTL) for _ in range(5)))
        granted = [epoch for epoch in epochs if epoch is not None]
        assert granted
        assert len(set(granted)) == len(granted)

    async def test_a_commit_under_an_older_epoch_is_refused(self, session: Session) -> None:
        ledger = Ledger(75)
        city = await session.city(ledger)
        old = await city.acquire_lease("me", TTL)
        assert old is not None
        ledger.epoch = old
        await _fill(city, ledger, rounds=1, per_round=3)
        new = await city.acquire_lease("me", TTL)
        assert new is not None
        batch = ledger.transactions(3)
        await city.append(batch, {})
        ledger.receive(batch)
        with pytest.raises(LeaseLost):
            await city.commit(ledger.round(batch, epoch=old))
        await session.reopen()
        city = await session.city(ledger)
        with pytest.raises(LeaseLost):
            await city.commit(ledger.round(batch, epoch=old))
        await ledger.check(city)
        await _commit(city, ledger, batch, epoch=new)
        await ledger.check(city)

    # --- approver

    async def test_certificates_may_come_in_any_order_and_again(self, session: Session) -> None:
        ledger = Ledger(80)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=7, per_round=2)
        certificates = [ledger.certificate(round) for round in range(1, 8)]
        for batch, certified in (
            ([2, 4], 0),
            ([1], 2),
            ([1, 2, 2], 2),
            ([], 2),
            ([7, 3], 4),
            ([6], 4),
            ([5], 7),
        ):
            part = [certificates[round - 1] for round in batch]
            await city.certify(part)
            ledger.certify(part)
            assert (await city.head()).certified_round == certified
            await ledger.check(city, sample=2)
            await session.reopen()
            city = await session.city(ledger)
            assert (await city.head()).certified_round == certified
        await city.certify([replace(certificates[0], votes=())])
        await ledger.check(city)

    async def test_overlapping_certificates_are_all_kept(self, session: Session) -> None:
        ledger = Ledger(81)
        city = await session.city(ledger)
        await _fill(city, ledger, rounds=20, per_round=1)
        certificates = [ledger.certificate(round) for round in range(1, 21)]
        ledger.random.shuffle(certificates)
        await asyncio.gather(*(city.certify([certificate]) for certificate in certificates))
        ledger.certify(certificates)
        await ledger.check(city, sample=2)

    # --- the backend

    async def test_what_was_read_before_closing_is_read_after(self, session: Session) -> None:
        ledger = Ledger(90, [ObjectWrite("a", 1, b"1")])
        city = await session.city(ledger)
        for _ in range(3):
            await _fill(city, ledger, rounds=2, per_round=25)
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
            await _cancel_soon(call, ledger)
        after = ledger.transactions(1)
        await city.append(after, {})
        batches.append(after)
        await session.reopen()
        city = await session.city(ledger)
        for batch in batches:
            stored = len(await city.raw([t.tx_id for t in batch]))
            assert stored in (0, len(batch))
            assert len(await city.keys([batch[0].tx_id])) == (stored > 1)
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
            await _cancel_soon(asyncio.create_task(city.commit(sealed)), ledger)
            await city.append([], {})
            if begin % 50 == 0:
                await session.reopen()
                city = await session.city(ledger)
            try:
                await city.commit(sealed)
            except RoundTaken:
                assert (await city.head()).round == sealed.round
            ledger.commit(sealed)
        await ledger.check(city)

    async def test_a_failed_write_does_not_take_its_neighbours_with_it(
        self, session: Session
    ) -> None:
        one, two = Ledger(93), Ledger(94)
        cities = [await session.city(one), await session.city(two)]
        await _fill(cities[0], one, rounds=1, per_round=3)
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
        assert failed == [False, True, False, True, True, False], results
        one.receive(batch)
        two.receive(other)
        await one.check(cities[0])
        await two.check(cities[1])

    async def test_leaving_waits_for_writes_under_way(self, session: Session) -> None:
        ledger = Ledger(95)
        city = await session.city(ledger)
        batches = [ledger.transactions(20) for _ in range(50)]
        calls = [asyncio.create_task(city.append(batch, {})) for batch in batches]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await session.reopen()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), StorageError}
        city = await session.city(ledger)
        for batch, result in zip(batches, results, strict=True):
            stored = len(await city.raw([t.tx_id for t in batch]))
            assert stored == len(batch) if result is None else stored in (0, len(batch))
            if stored:
                ledger.receive(batch)
        await ledger.check(city)

    async def test_big_batches(self, session: Session) -> None:
        ledger = Ledger(96)
        city = await session.city(ledger)
        batch = ledger.transactions(self.big_batch)
        await city.append(batch, {})
        ledger.receive(batch)
        assert await pending(city, 3000) == batch
        rejected = range(0, self.big_batch, 100)
        writes = [ObjectWrite(f"{i:06}", 1, b"x") for i in range(self.big_batch)]
        await _commit(city, ledger, batch, rejected=rejected, writes=writes)
        await session.reopen()
        await ledger.check(await session.city(ledger), sample=2)

    async def test_intake_sealing_and_reading_go_on_together(self, session: Session) -> None:
        ledger = Ledger(97)
        city = await session.city(ledger)
        done = asyncio.Event()

        async def seal() -> None:
            while not done.is_set() or ledger.pending:
                batch = ledger.pending[:40]
                if batch:
                    await _commit(city, ledger, batch, rejected=[0])
                await asyncio.sleep(0)

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
                assert list(await city.raw(known)) == known or set(await city.raw(known)) == set(
                    known
                )
                assert set(await city.find(sealed)) == set(sealed)
                await asyncio.sleep(0)

        await asyncio.gather(seal(), receive(), read())
        await ledger.check(city)

    def test_any_sequence_of_calls(self, storage_backend_factory: Factory) -> None:
        """A state machine makes calls, and compares with the ledger after each."""
        durable = self.durable

        class Machine(_Machine):
            def session(self) -> Session:
                return Session(storage_backend_factory, durable)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


class _Machine(RuleBasedStateMachine):
    def session(self) -> Session:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._session = self.session()
        self._runner.run(self._session.open())

    @initialize(seed=st.integers(0, 1 << 32), initial=st.booleans())
    def open_city(self, seed: int, initial: bool) -> None:
        self.ledger = Ledger(seed, [ObjectWrite("object 0", 1, b"")] if initial else [])
        self.ledger.genesis = os.urandom(32)  # Also a replayed run has a new city.
        self._open()

    def _open(self) -> None:
        self.city = self._runner.run(self._session.city(self.ledger))

    @rule(new=st.integers(0, 12), again=st.integers(0, 3), with_key=st.booleans())
    def append(self, new: int, again: int, with_key: bool) -> None:
        batch = self.ledger.transactions(new)
        known = list(self.ledger.received.values())
        repeated = self.ledger.random.sample(known, min(again, len(known)))
        batch += [replace(t, envelope=b"again") for t in repeated]
        self.ledger.random.shuffle(batch)
        keys = {self.ledger.random.randbytes(32): b"key"} if with_key else {}
        self._runner.run(self.city.append(batch, keys))
        self.ledger.receive(batch, keys)

    @rule(data=st.data(), pops=st.booleans())
    def commit(self, data: st.DataObject, pops: bool) -> None:
        waiting = self.ledger.pending[:20]
        chosen = data.draw(st.lists(st.sampled_from(waiting), unique_by=id)) if waiting else []
        seqs = st.sets(st.integers(0, len(chosen) - 1)) if chosen else st.just(set())
        names = data.draw(st.sets(st.integers(0, 5)))
        version = self.ledger.head.round + 2
        sealed = self.ledger.round(
            chosen,
            data.draw(seqs),
            pops=pops,
            writes=[ObjectWrite(f"object {i}", version, b"%d" % i) for i in sorted(names)],
        )
        self._runner.run(self.city.commit(sealed))
        self.ledger.commit(sealed)

    @precondition(lambda self: self.ledger.rounds)
    @rule(data=st.data())
    def certify(self, data: st.DataObject) -> None:
        rounds = data.draw(st.lists(st.integers(1, len(self.ledger.rounds)), max_size=3))
        certificates = [self.ledger.certificate(round) for round in rounds]
        self._runner.run(self.city.certify(certificates))
        self.ledger.certify(certificates)

    @rule()
    def take_the_lease(self) -> None:
        epoch = self._runner.run(self.city.acquire_lease("me", TTL))
        assert epoch is not None
        assert epoch > self.ledger.epoch
        with pytest.raises(LeaseLost):
            self._runner.run(self.city.commit(self.ledger.round([], epoch=epoch - 1)))
        self.ledger.epoch = epoch
        sealed = self.ledger.round([])
        self._runner.run(self.city.commit(sealed))
        self.ledger.commit(sealed)

    @precondition(lambda self: self.ledger.rounds)
    @rule()
    def commit_a_taken_round(self) -> None:
        sealed = replace(self.ledger.round([]), round=self.ledger.head.round)
        with pytest.raises(RoundTaken):
            self._runner.run(self.city.commit(sealed))

    @rule()
    def reopen(self) -> None:
        self._runner.run(self._session.reopen())
        self._open()

    @invariant()
    def the_backend_agrees(self) -> None:
        if hasattr(self, "ledger"):
            self._runner.run(self.ledger.check(self.city, sample=3))

    def teardown(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()


async def _commit(
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


async def _fill(city: CityStorage, ledger: Ledger, rounds: int, per_round: int) -> None:
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


async def _cancel_soon(call: asyncio.Task[None], ledger: Ledger) -> None:
    """Let the call go on for a moment, at most, then cancel it."""
    for _ in range(ledger.random.choice((0, 1, 2, 5))):
        await asyncio.sleep(0)
    if ledger.random.random() < 0.5:
        await asyncio.sleep(ledger.random.random() * 0.002)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
