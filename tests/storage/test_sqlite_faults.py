"""The SQLite backend when its process is killed, its disk fails or its files are not its own."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
import sqlite_victim
from sqlite_victim import BATCH, GENESIS, batch, round_of, storage_context

import citychain.storage._sqlite_schema as schema
from citychain.compute import Executor
from citychain.errors import DirectoryInUse, NameTaken, StorageError
from citychain.genesis import Genesis, Representative
from citychain.ports import CityStorage, StorageContext
from citychain.storage.sqlite import SqliteBackend, SqliteOptions
from citychain.testing.conformance.ledger import Ledger
from citychain.types import NodeRef, ObjectState

KILLS = 10

Open = Callable[[], SqliteBackend]


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[StorageContext]:
    async with Executor(4) as compute:
        yield storage_context(tmp_path / "storage", compute)


@pytest.fixture
def backend(context: StorageContext) -> Open:
    return lambda: SqliteBackend(SqliteOptions(checkpoint_mib=1), context)


# --- killed processes -----------------------------------------------------------


@contextmanager
def victim(directory: Path, batches: int, rounds: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, sqlite_victim.__file__, directory, str(batches), str(rounds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_killed_process_loses_nothing_that_was_acknowledged(
    backend: Open, context: StorageContext
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    acknowledged: set[int] = set()
    stored: set[int] = set()
    rounds = 0
    for _ in range(KILLS):
        with victim(context.directory, max(stored, default=0), rounds) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            lines = []
            while not lines or lines[-1][0] != "round":
                lines.append(process.stdout.readline().split())
            await asyncio.sleep(moments.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            lines += [line.split() for line in process.stdout]
        acknowledged |= {int(number) for what, number in lines if what == "batch"}
        committed = max((int(n) for what, n in lines if what == "round"), default=rounds)
        async with backend() as engine:
            city = await engine.city(GENESIS, b"", ())
            stored = await whole_batches(city, max(acknowledged, default=0) + 5)
            assert acknowledged <= stored
            rounds = (await city.head()).round
            assert rounds in (committed, committed + 1)
            await check_rounds(city, rounds)
            for missing in set(range(1, max(stored, default=0))) - stored:
                await city.append(batch(missing), {})
            stored |= set(range(1, max(stored, default=0)))
    assert rounds >= KILLS


async def whole_batches(city: CityStorage, last: int) -> set[int]:
    """Numbers of the batches that are stored, none of them in part or without its key."""
    batches = {number: {t.tx_id: t for t in batch(number)} for number in range(1, last + 1)}
    raw = await city.raw([tx_id for transactions in batches.values() for tx_id in transactions])
    keys = await city.keys([number.to_bytes(32) for number in batches])
    found = {int.from_bytes(key_id) for key_id in keys}
    assert raw == {
        tx_id: transaction for number in found for tx_id, transaction in batches[number].items()
    }
    return found


async def check_rounds(city: CityStorage, last: int) -> None:
    """Rounds up to the last are whole, and nothing of another is there."""
    rounds = [round_of(number) for number in range(1, last + 2)]
    transactions = [t for sealed in rounds for t in sealed.transactions]
    node_ids = [node_id for sealed in rounds for node_id in sealed.node_ids if node_id is not None]
    committed = rounds[:-1]
    count = BATCH * len(committed)
    assert [stored.record for stored in await city.rounds(1, last + 1)] == [
        sealed.record for sealed in committed
    ]
    found = await city.find([t.tx_id for t in transactions])
    assert [found[t.tx_id].node_id for t in transactions[:count]] == node_ids[:count]
    assert len(found) == count
    assert len(await city.nodes(node_ids)) == count
    assert len(await city.latest([t.author for t in transactions])) == count
    assert len(await city.children(NodeRef(0, 0, GENESIS), (0, 0), count + 1)) == count
    assert list(await city.round_nodes(last + 1)) == []
    leaves = b"".join(sealed.leaf_hashes for sealed in committed)
    assert await city.leaf_hashes(0, count + BATCH) == leaves
    expected = {"round": ObjectState(last, b"%d" % last)} if last else {}
    assert await city.objects(["round"]) == expected


# --- failing disks ---------------------------------------------------------------


class Disk:
    """Makes writes of SQLite in this process fail: it stands in SQLite's table of system calls."""

    def __init__(self) -> None:
        self._vfs = apsw.VFS("failing-disk", "unix")
        self._name = "pwrite64" if self._vfs.xGetSystemCall("pwrite64") else "pwrite"
        self._pointer = self._vfs.xGetSystemCall(self._name)
        assert self._pointer is not None
        signature = ctypes.CFUNCTYPE(
            ctypes.c_ssize_t,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int64,
            use_errno=True,
        )
        self._real = signature(self._pointer)
        self._stand_in = signature(self._write)
        self._failing = range(0)
        self._error = 0
        self.writes = 0

    def fail(self, error: int, first: int = 0, count: int = 1 << 30) -> None:
        """From the ``first`` next write on, ``count`` of them fail."""
        self._error = error
        self._failing = range(self.writes + first, self.writes + first + count)

    def recover(self) -> None:
        """Writes succeed again."""
        self._failing = range(0)

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        self.writes += 1
        if self.writes - 1 in self._failing:
            ctypes.set_errno(self._error)
            return -1
        return int(self._real(file, data, size, offset))

    def __enter__(self) -> Disk:
        pointer = ctypes.cast(self._stand_in, ctypes.c_void_p).value
        assert pointer is not None
        self._vfs.xSetSystemCall(self._name, pointer)
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._pointer is not None
        self._vfs.xSetSystemCall(self._name, self._pointer)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
async def test_a_failing_disk_fails_writes_and_a_mended_one_takes_them(
    backend: Open, error: int
) -> None:
    ledger = Ledger(1)
    with Disk() as disk:
        async with backend() as engine:
            city = await engine.city(ledger.genesis, b"", ())
            first = ledger.transactions(20, size=3000)
            await city.append(first, {})
            ledger.receive(first)
            disk.fail(error)
            more = [ledger.transactions(20, size=3000) for _ in range(5)]
            results = await asyncio.gather(
                *(city.append(batch, {}) for batch in more),
                city.commit(ledger.round(first)),
                city.acquire_lease("me", timedelta(seconds=1)),
                engine.city(bytes(32), b"", ()),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [StorageError] * 8
            if error == errno.ENOSPC:
                assert "full" in str(results[0])
            await ledger.check(city)
            disk.recover()
            await city.append(more[0], {})
            ledger.receive(more[0])
            sealed = ledger.round(first)
            await city.commit(sealed)
            ledger.commit(sealed)
            await ledger.check(city)
        async with backend() as engine:
            await ledger.check(await engine.city(ledger.genesis, b"", ()))


async def test_one_failing_write_anywhere_leaves_a_whole_ledger(backend: Open) -> None:
    """Also in a checkpoint, of which no caller hears."""
    ledger = Ledger(2)
    failures = 0
    with Disk() as disk:
        async with backend() as engine:
            city = await engine.city(ledger.genesis, b"", ())
            for nth in range(0, 400, 7):
                batch = ledger.transactions(10, size=20_000)
                writes = disk.writes
                disk.fail(errno.ENOSPC, first=nth % 150, count=1)
                try:
                    await city.append(batch, {})
                except StorageError:
                    failures += 1
                    assert await city.raw([t.tx_id for t in batch]) == {}
                    await city.append(batch, {})
                ledger.receive(batch)
                sealed = ledger.round(batch[:8], rejected=[nth % 8])
                try:
                    await city.commit(sealed)
                except StorageError:
                    failures += 1
                    assert (await city.head()).round == sealed.round - 1
                    await city.commit(sealed)
                ledger.commit(sealed)
                assert disk.writes > writes
            await ledger.check(city, sample=5)
        async with backend() as engine:
            await ledger.check(await engine.city(ledger.genesis, b"", ()), sample=5)
    assert failures > 10


# --- files that are not what they should be ----------------------------------------


async def fill(backend: Open) -> Ledger:
    """A storage with a few rounds."""
    ledger = Ledger(3)
    async with backend() as engine:
        city = await engine.city(ledger.genesis, b"", ())
        for _ in range(5):
            transactions = ledger.transactions(50, size=2000)
            await city.append(transactions, {})
            ledger.receive(transactions)
            sealed = ledger.round(transactions)
            await city.commit(sealed)
            ledger.commit(sealed)
    return ledger


async def test_a_file_that_is_no_database_is_refused(
    backend: Open, context: StorageContext
) -> None:
    context.directory.mkdir()
    path = context.directory / schema.DATABASE_NAME
    path.write_bytes(b"not a database" * 1000)
    for _ in range(2):  # A failed start keeps nobody out.
        with pytest.raises(StorageError, match=f"{context.directory}.*not a database"):
            await backend().__aenter__()
    assert path.read_bytes() == b"not a database" * 1000


async def test_a_damaged_database_answers_with_an_error(
    backend: Open, context: StorageContext
) -> None:
    ledger = await fill(backend)
    path = context.directory / schema.DATABASE_NAME
    content = bytearray(path.read_bytes())
    for page in range(8 * schema.PAGE_SIZE, len(content), schema.PAGE_SIZE):
        content[page : page + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(StorageError):
        async with backend() as engine:
            await ledger.check(await engine.city(ledger.genesis, b"", ()))


async def test_cities_of_an_older_database_get_their_names(
    backend: Open, context: StorageContext
) -> None:
    def genesis(**fields: Any) -> Genesis:
        key = "00" * 2592
        whole = {"network": "main", "city": "tokyo", "rule": "a/1", "consensus": "b/1", **fields}
        return Genesis(**whole, operator=key, committee=(Representative(public_key=key),))

    # It could have two cities of one name, and both are to go on.
    there = [genesis(num_hashes=1), genesis(num_hashes=2), genesis(city="kyoto")]
    files = [*((it.id, it.file) for it in there), (bytes(32), b"\xff is no genesis file")]
    context.directory.mkdir()
    connection = apsw.Connection(str(context.directory / schema.DATABASE_NAME))
    for statements in schema._MIGRATIONS[:2]:
        connection.execute(statements)
    connection.execute("PRAGMA user_version = 2")
    for number, row in enumerate(files, 1):
        connection.execute("INSERT INTO cities VALUES (?, ?, ?)", (number, *row))
        connection.execute("INSERT INTO progress VALUES (?, 0, 0)", (number,))
    connection.close()
    async with backend() as engine:
        for row in files:
            await engine.city(*row, ())
        for other in (genesis(num_hashes=3), genesis(num_hashes=3, city="kyoto")):
            with pytest.raises(NameTaken):
                await engine.city(other.id, other.file, ())
        other = genesis(num_hashes=3, city="kyoto", network="test")
        await engine.city(other.id, other.file, ())


async def test_a_newer_schema_is_refused_and_left_alone(
    backend: Open, context: StorageContext
) -> None:
    ledger = await fill(backend)
    path = context.directory / schema.DATABASE_NAME
    connection = apsw.Connection(str(path))
    version = connection.execute("PRAGMA user_version").get
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=f"schema version {version + 1} .* knows {version}"):
        await backend().__aenter__()
    assert path.read_bytes() == before
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    async with backend() as engine:
        await ledger.check(await engine.city(ledger.genesis, b"", ()))


async def test_an_sqlite_that_can_lose_commits_is_refused(
    backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "SQLITE_VERSION_MIN", apsw.SQLITE_VERSION_NUMBER + 1)
    with pytest.raises(StorageError, match="install apsw"):
        await backend().__aenter__()


async def test_a_path_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    directory = tmp_path / "file" / "storage"
    async with Executor(1) as compute:
        engine = SqliteBackend(SqliteOptions(), storage_context(directory, compute))
        with pytest.raises(StorageError, match=str(directory)):
            await engine.__aenter__()


# --- two at once ---------------------------------------------------------------------


async def test_a_second_process_is_kept_out_while_the_first_lives(
    backend: Open, context: StorageContext
) -> None:
    with victim(context.directory, 0, 0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DirectoryInUse) as refused:
            await backend().__aenter__()
        assert str(context.directory) in str(refused.value)
        assert f"process {process.pid}:" in str(refused.value)
    async with backend() as engine:
        await engine.city(GENESIS, b"", ())


async def test_a_second_engine_of_the_same_process_is_kept_out(backend: Open) -> None:
    async with backend():
        with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}:"):
            await backend().__aenter__()
    async with backend():
        pass


async def test_a_closed_engine_refuses_calls(backend: Open) -> None:
    ledger = Ledger(4)
    async with backend() as engine:
        city = await engine.city(ledger.genesis, b"", ())
    for call in (
        city.append(ledger.transactions(1), {}),
        city.find([bytes(32)]),
        city.pending(None, 1),
        engine.city(bytes(32), b"", ()),
    ):
        async with asyncio.timeout(120):
            with pytest.raises(StorageError, match="closed"):
                await call


async def test_a_start_that_is_cancelled_keeps_nobody_out(backend: Open) -> None:
    for turns in range(6):
        start = asyncio.create_task(backend().__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    async with backend():
        pass
