"""The SQLite backend passes the suite, and keeps what its own page promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import apsw
import pytest
from pydantic import ValidationError

import citychain.storage._sqlite_writer as writer
from citychain.hooks.definitions import StorageDefinition
from citychain.ports import StorageContext
from citychain.storage._sqlite_schema import DATABASE_NAME
from citychain.storage.builtin import citychain_storage_backends
from citychain.storage.sqlite import SqliteBackend, SqliteOptions
from citychain.testing.conformance import StorageSuite
from citychain.testing.conformance.ledger import Ledger
from citychain.types import ObjectWrite


class TestSqliteStorage(StorageSuite):
    big_batch = 100_000

    @pytest.fixture
    def definition(self) -> StorageDefinition:
        [sqlite] = [d for d in citychain_storage_backends() if d.name == "sqlite"]
        return sqlite

    async def test_overlapping_writes_of_all_cities_share_transactions(
        self, storage_context: StorageContext
    ) -> None:
        ledgers = [Ledger(i) for i in range(10)]
        async with SqliteBackend(SqliteOptions(), storage_context) as backend:
            cities = [await backend.city(ledger.genesis, b"", ()) for ledger in ledgers]
            transactions = 0

            def count() -> bool:
                nonlocal transactions
                transactions += 1
                return False

            backend._connection.set_commit_hook(count)
            await asyncio.gather(
                *(
                    city.append(ledger.transactions(2), {})
                    for ledger, city in zip(ledgers, cities, strict=True)
                    for _ in range(20)
                )
            )
        assert 1 <= transactions <= 60  # of 200 calls

    async def test_what_arrives_in_the_transaction_that_seals_all_else_stays_pending(
        self, storage_context: StorageContext
    ) -> None:
        ledger = Ledger(1)
        for _ in range(5):
            async with SqliteBackend(SqliteOptions(), storage_context) as backend:
                city = await backend.city(ledger.genesis, b"", ())
                await ledger.check(city)
                first, second = ledger.transactions(3), ledger.transactions(2)
                ledger.receive(first)
                sealed = ledger.round(ledger.pending)
                await asyncio.gather(
                    city.append(first, {}), city.commit(sealed), city.append(second, {})
                )
                ledger.commit(sealed)
                ledger.receive(second)
                await ledger.check(city)

    async def test_writes_wait_for_room_in_the_order_of_the_calls(
        self, storage_context: StorageContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "QUEUE_BYTES", 20_000)
        monkeypatch.setattr(writer, "GROUP_BYTES", 5_000)
        ledger = Ledger(1)
        async with SqliteBackend(SqliteOptions(), storage_context) as backend:
            city = await backend.city(ledger.genesis, b"", ())
            batches = [ledger.transactions(1 + i % 3, 100_000 * (i % 7 == 0)) for i in range(60)]
            calls = [asyncio.create_task(city.append(batch, {})) for batch in batches]
            await asyncio.sleep(0)
            assert backend._writer._queued_bytes <= 350_000
            for call in calls[5::9]:
                call.cancel()
            await asyncio.wait(calls)
            for batch, call in zip(batches, calls, strict=True):
                if not call.cancelled() or await city.raw([batch[0].tx_id]):
                    ledger.receive(batch)
            await ledger.check(city)
            assert backend._writer._queued_bytes == 0

    async def test_what_sqlite_refuses_fails_alone(self, storage_context: StorageContext) -> None:
        ledger, other = Ledger(1), Ledger(2)
        async with SqliteBackend(SqliteOptions(), storage_context) as backend:
            city = await backend.city(ledger.genesis, b"", ())
            neighbour = await backend.city(other.genesis, b"", ())
            batches = [ledger.transactions(3) for _ in range(4)]
            too_large = ledger.round(batches[0], writes=[ObjectWrite("object", 1 << 64, b"")])
            first = other.round(other.transactions(3))
            results = await asyncio.gather(
                city.append(batches[0], {}),
                city.commit(too_large),
                neighbour.commit(first),
                *(city.append(batch, {}) for batch in batches[1:]),
                return_exceptions=True,
            )
            assert [type(result) for result in results if result] == [OverflowError]
            other.commit(first)
            for batch in batches:
                ledger.receive(batch)
            await ledger.check(city)
            await other.check(neighbour)

    async def test_ids_are_found_while_they_move_to_the_large_table(
        self, storage_context: StorageContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "RECENT_PLACES", 256)
        monkeypatch.setattr(writer, "SWEEP_PLACES", 32)
        ledgers = [Ledger(1), Ledger(2)]
        async with SqliteBackend(SqliteOptions(), storage_context) as backend:
            for number in range(40):
                for ledger in ledgers:
                    city = await backend.city(ledger.genesis, b"", ())
                    sealed = ledger.round(ledger.transactions(20), rejected=[number % 20])
                    await city.commit(sealed)
                    ledger.commit(sealed)
                    assert await city.find(list(ledger.sealed)) == ledger.sealed
            for ledger in ledgers:
                await ledger.check(await backend.city(ledger.genesis, b"", ()), sample=2)
        connection = apsw.Connection(str(storage_context.directory / DATABASE_NAME))
        recent = connection.execute("SELECT count(*) FROM recent_places").get
        moved = connection.execute("SELECT count(*) FROM places").get
        connection.close()
        assert recent + moved == 2 * 40 * (20 + 19)
        assert 64 < recent < 512

    async def test_a_file_becomes_shorter_while_it_is_open(
        self, storage_context: StorageContext
    ) -> None:
        ledger = Ledger(1)
        file = storage_context.directory / DATABASE_NAME
        async with SqliteBackend(SqliteOptions(), storage_context) as backend:
            city = await backend.city(ledger.genesis, b"", ())
            for _ in range(2):
                batch = ledger.transactions(40, 100_000)
                await city.append(batch, {})
                ledger.receive(batch)
                sealed = ledger.round(batch)
                await city.commit(sealed)
                ledger.commit(sealed)
            backend._writer._checkpointer.copy_soon()
            await city.append([], {})
            await _until(lambda: file.stat().st_size > 8_000_000)
            gone = list(ledger.sealed)[:60]
            await city.prune(gone)
            ledger.prune(gone)
            while await city.reclaim():
                pass
            await _until(lambda: file.stat().st_size < 4_000_000)
            await ledger.check(city, sample=2)

    async def test_a_database_of_an_earlier_release_fills_its_room_again(
        self, storage_context: StorageContext
    ) -> None:
        ledger = Ledger(1)
        file = storage_context.directory / DATABASE_NAME
        storage_context.directory.mkdir(parents=True)
        old = apsw.Connection(str(file))
        old.execute("PRAGMA auto_vacuum = NONE; CREATE TABLE made_before (column)")
        old.close()
        sizes = []
        for _ in range(3):
            async with SqliteBackend(SqliteOptions(), storage_context) as backend:
                city = await backend.city(ledger.genesis, b"", ())
                batch = ledger.transactions(10, 100_000)
                await city.append(batch, {})
                ledger.receive(batch)
                sealed = ledger.round(batch)
                await city.commit(sealed)
                ledger.commit(sealed)
                await city.prune([t.tx_id for t in batch])
                ledger.prune([t.tx_id for t in batch])
                assert not await city.reclaim()
                await ledger.check(city, sample=2)
            sizes.append(file.stat().st_size)
        assert 1_000_000 < sizes[-1] < sizes[0] + 300_000


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="cache_mb"):
        SqliteOptions.model_validate({"cache_mb": 1})
