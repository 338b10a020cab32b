"""The default storage backend: SQLite, one database file for many cities.

One thread writes, for all cities together (`_sqlite_writer`): what waits when a
transaction ends is the next transaction, so a busy engine syncs once for many
batches. A few connections read, in the threads of `Compute`. The database says
what is stored; memory holds, for each open city, where it stands and which
transactions have no place yet, and is rebuilt from the tables at opening.

docs/storage-sqlite.md follows one transaction through the tables.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import apsw
from pydantic import BaseModel, ConfigDict, Field

from citychain.errors import LeaseLost, NotFound, StorageError
from citychain.genesis import city_name
from citychain.notes import not_known
from citychain.ports import PendingPage, StoredRound
from citychain.storage import _sqlite_reads as reads
from citychain.storage import _sqlite_retention as retention
from citychain.storage import _sqlite_upkeep as upkeep
from citychain.storage._sqlite_checkpoint import Checkpointer
from citychain.storage._sqlite_reads import LOCATION_BITS
from citychain.storage._sqlite_requests import (
    AcquireLease,
    Append,
    Certify,
    CityState,
    Commit,
    Keep,
    Register,
)
from citychain.storage._sqlite_schema import (
    PAGE_SIZE,
    SCHEMA_VERSION,
    DirectoryLock,
    ReadingLock,
    check_whole,
    open_copier,
    open_onlooker,
    open_reader,
    open_writer,
)
from citychain.storage._sqlite_writer import NoWriter, Writer

if TYPE_CHECKING:
    from citychain.ports import StorageContext
    from citychain.types import (
        Certificate,
        Head,
        NodeRef,
        ObjectState,
        ObjectWrite,
        RawTransaction,
        SealedNode,
        SealedRound,
    )
    from citychain.upkeep import StorageLook, StorageStats

__all__ = ["SqliteBackend", "SqliteCity", "SqliteOptions"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

READERS: Final = 4
"""Connections for reading."""
SEGMENTS_A_PAGE: Final = 256
"""Segments whose ids are looked at in one go when pending transactions are listed."""

_CURSOR: Final = struct.Struct(">Q")
"""Location of the last transaction of a page."""


class SqliteOptions(BaseModel):
    """Options of the ``sqlite`` storage backend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache_mib: int = Field(default=64, ge=1, le=65536)
    """Memory for pages of the database, in the connection that writes."""
    checkpoint_mib: int = Field(default=64, ge=1, le=4096)
    """Size of the write-ahead log from which it is copied into the database. More means fewer
    bytes written, a longer start after a crash, and more disk."""


class SqliteBackend:
    """A `StorageBackend` on one SQLite database."""

    def __init__(self, options: SqliteOptions, context: StorageContext) -> None:
        self._options = options
        self._context = context
        self._cities: dict[bytes, SqliteCity] = {}
        self._readers: SimpleQueue[apsw.Connection | None] = SimpleQueue()
        self._connection: apsw.Connection
        self._copier: apsw.Connection
        self._lock: DirectoryLock | ReadingLock
        self._found_version: int

    async def __aenter__(self) -> SqliteBackend:
        await _to_the_end(self._start(), undo=self._stop)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await _to_the_end(self._stop())

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> SqliteCity:
        """See `StorageBackend.city`."""
        if genesis in self._cities:
            return self._cities[genesis]
        number = await self.read(reads.named_city, genesis)
        if number is None:
            name = await self._context.compute(city_name, genesis_file)
            number = await self._writer.write(Register(genesis, genesis_file, name, initial))
        state = await self.read(_load, number)
        # Another call may have opened it meanwhile, and written already: then that one counts.
        return self._cities.setdefault(
            genesis, SqliteCity(self, self._writer, self._context, state)
        )

    async def stats(self) -> StorageStats:
        """See `citychain.upkeep.SupportsUpkeep.stats`."""
        return await self.read(upkeep.stats, self._context.directory)

    async def look(self) -> StorageLook:
        """See `citychain.upkeep.SupportsLooking.look`."""
        return await self._context.compute(upkeep.look, self._context.directory)

    async def indexes(self) -> Mapping[str, Sequence[str]]:
        """See `citychain.upkeep.SupportsUpkeep.indexes`: primary keys alone."""
        return await self.read(upkeep.primary_keys)

    async def migrate(self) -> Sequence[str]:
        """See `citychain.upkeep.SupportsUpkeep.migrate`; it was done when this was opened."""
        found, self._found_version = self._found_version, SCHEMA_VERSION
        return [f"to schema version {version + 1}" for version in range(found, SCHEMA_VERSION)]

    async def forget(self, city: bytes, initial: Sequence[ObjectWrite]) -> None:
        """See `citychain.upkeep.SupportsForgetting.forget`."""
        self._cities.pop(city, None)
        while await self._writer.write(upkeep.Forget(city, initial)):
            pass

    @asynccontextmanager
    async def reading(self, city: bytes) -> AsyncIterator[SqliteCity]:
        """See `citychain.upkeep.SupportsReading.reading`."""
        await _to_the_end(self._start_reading(), undo=self._stop_reading)
        try:
            number = await self.read(reads.named_city, city)
            if number is None:
                raise NotFound("city", city.hex())
            yield SqliteCity(self, NoWriter(), self._context, await self.read(_load, number))
        finally:
            await _to_the_end(self._stop_reading())

    async def _start_reading(self) -> None:
        await self._context.compute(self._open_reading)

    async def _stop_reading(self) -> None:
        await self._context.compute(self._close_reading)

    async def read(self, function: Callable[[apsw.Connection, *Ts], T], *args: *Ts) -> T:
        """Call a function with a connection that reads, in a thread."""
        return await self._context.compute(self._read, function, args)

    def _read(self, function: Callable[..., T], args: tuple[object, ...]) -> T:
        connection = self._readers.get()
        try:
            if connection is None:
                raise StorageError("the storage engine is closed")
            return function(connection, *args)
        except apsw.Error as error:
            raise StorageError(f"the database could not be read: {error}") from error
        finally:
            self._readers.put(connection)

    async def _start(self) -> None:
        await self._context.compute(self._open)
        pages = self._options.checkpoint_mib * 1024 * 1024 // PAGE_SIZE
        checkpointer = Checkpointer(self._connection, self._copier, pages)
        self._writer = Writer(self._connection, checkpointer)

    async def _stop(self) -> None:
        await self._writer.close()
        await self._context.compute(self._close)

    def _open(self) -> None:
        directory = self._context.directory
        try:
            _make_durable(directory)
            self._lock = DirectoryLock(directory)
        except OSError as error:
            raise StorageError(f"{directory} cannot be used: {error}") from error
        try:
            self._connection, self._found_version = open_writer(directory, self._options.cache_mib)
            self._copier = open_copier(directory)
            for _ in range(READERS):
                self._readers.put(open_reader(directory))
        except apsw.Error as error:
            self._lock.release()
            raise StorageError(f"the database in {directory} cannot be opened: {error}") from error
        except BaseException:
            self._lock.release()
            raise

    def _open_reading(self) -> None:
        directory = self._context.directory
        try:
            self._lock = ReadingLock(directory)
        except OSError as error:
            raise StorageError(f"{directory} cannot be read: {error}") from error
        try:
            check_whole(directory)
            for _ in range(READERS):
                self._readers.put(open_onlooker(directory))
        except BaseException as error:
            while not self._readers.empty():
                self._close_reader()
            self._lock.release()
            if isinstance(error, apsw.Error):
                fault = f"the database in {directory} cannot be read: {error}"
                raise StorageError(fault) from error
            raise

    def _close_reading(self) -> None:
        self._close_readers()
        self._lock.release()

    def _close_readers(self) -> None:
        for _ in range(READERS):
            self._close_reader()
        self._readers.put(None)

    def _close_reader(self) -> None:
        if (connection := self._readers.get()) is not None:
            connection.close()

    def _close(self) -> None:
        self._close_readers()
        self._connection.close()  # The last one out copies the log into the database.
        self._lock.release()


class SqliteCity:
    """One city's `CityStorage`."""

    def __init__(
        self,
        backend: SqliteBackend,
        writer: Writer | NoWriter,
        context: StorageContext,
        state: CityState,
    ) -> None:
        self._backend = backend
        self._writer = writer
        self._clock = context.clock
        self._state = state

    # Intake

    async def append(
        self, transactions: Sequence[RawTransaction], keys: Mapping[bytes, bytes]
    ) -> None:
        """See `CityStorage.append`."""
        await self._writer.write(Append(self._state, transactions, keys))

    async def keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `CityStorage.keys`."""
        return await self._read(reads.keys, key_ids)

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """See `CityStorage.raw`."""
        return await self._backend.read(_raw, self._state, tx_ids)

    async def pending(self, cursor: bytes | None, limit: int) -> PendingPage:
        """See `CityStorage.pending`."""
        after = 0 if cursor is None else _CURSOR.unpack(cursor)[0]
        return await self._backend.read(_pending, self._state, after, limit)

    async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
        """See `CityStorage.pending_ids`."""
        pending = dict(self._state.pending)
        return sorted(pending, key=pending.__getitem__)[:limit]

    async def changed(self, timeout: timedelta) -> None:
        """See `CityStorage.changed`; no other process can write."""
        await self._clock.sleep(timeout.total_seconds())

    # Sequencer

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        """See `CityStorage.acquire_lease`; always granted."""
        epoch: int = await self._writer.write(AcquireLease(self._state))
        return epoch

    async def renew_lease(self, epoch: int, ttl: timedelta) -> None:
        """See `CityStorage.renew_lease`."""
        if epoch != self._state.epoch:
            raise LeaseLost(epoch)

    async def release_lease(self, epoch: int) -> None:
        """See `CityStorage.release_lease`; nobody can be waiting for it."""

    async def commit(self, sealed: SealedRound) -> None:
        """See `CityStorage.commit`."""
        await self._writer.write(Commit(self._state, sealed))

    async def head(self) -> Head:
        """See `CityStorage.head`."""
        return self._state.head

    # Approver

    async def certify(self, certificates: Sequence[Certificate]) -> None:
        """See `CityStorage.certify`."""
        await self._writer.write(Certify(self._state, certificates))

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        """See `CityStorage.keep`."""
        await self._writer.write(Keep(self._state, notes))

    async def notes(
        self, prefix: str, known: Mapping[str, bytes] | None = None
    ) -> Mapping[str, bytes]:
        """See `CityStorage.notes`."""
        return not_known(await self._read(reads.notes, prefix), known)

    # Reads

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `StateView.objects`."""
        return await self._read(reads.objects, objects)

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `StateView.find`."""
        return await self._read(reads.find, tx_ids)

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """See `StateView.latest`."""
        return await self._read(reads.latest, authors)

    async def tips(self) -> Sequence[NodeRef]:
        """See `StateView.tips`."""
        return await self._read(reads.tips)

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """See `StateView.round_nodes`."""
        return await self._read(reads.round_nodes, round)

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `StateView.checkpoint_hashes`."""
        return await self._read(reads.checkpoint_hashes, rounds)

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """See `CityStorage.rounds`."""
        return await self._read(reads.rounds, first, limit)

    async def round_of_size(self, size: int) -> StoredRound | None:
        """See `CityStorage.round_of_size`."""
        return await self._read(reads.round_of_size, size)

    async def nodes(self, node_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `CityStorage.nodes`."""
        return await self._read(reads.nodes, node_ids)

    async def children(
        self, parent: NodeRef, after: tuple[int, int], limit: int
    ) -> Sequence[SealedNode]:
        """See `CityStorage.children`."""
        return await self._read(reads.children, parent, after, limit)

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """See `CityStorage.leaf_hashes`."""
        return await self._read(reads.leaf_hashes, begin, end)

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        """See `CityStorage.subtree_hashes`."""
        return await self._read(reads.subtree_hashes, level, begin, end)

    # Retention

    async def sizes(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, int]:
        """See `SupportsRetention.sizes`."""
        return await self._read(retention.sizes, tx_ids)

    async def prune(self, tx_ids: Sequence[bytes]) -> None:
        """See `SupportsRetention.prune`."""
        for segments in await self._read(retention.steps, tx_ids):
            await self._writer.write(retention.Prune(self._state.city, segments))

    async def reclaim(self) -> bool:
        """See `SupportsRetention.reclaim`; the file is that of all cities."""
        more: bool = await self._writer.write(retention.Reclaim())
        return more

    async def _read(self, function: Callable[[apsw.Connection, int, *Ts], T], *args: *Ts) -> T:
        return await self._backend.read(function, self._state.city, *args)


def _load(connection: apsw.Connection, city: int) -> CityState:
    """Rebuild what memory holds of a city from the tables."""
    epoch, certified = reads.progress(connection, city)
    certified, ahead = reads.certified_round(connection, city, certified)
    state = CityState(
        city=city,
        epoch=epoch,
        head=reads.head(connection, city, certified),
        certified_ahead=frozenset(ahead),
        segment=reads.floor(connection, city),
        pending={},
    )
    while segments := reads.transaction_ids(connection, city, state.segment, SEGMENTS_A_PAGE):
        sealed = reads.sealed_ids(connection, [id for _, tx_ids in segments for id in tx_ids])
        for segment, tx_ids in segments:
            for index, tx_id in enumerate(tx_ids):
                if (city, tx_id) not in sealed:
                    state.pending[tx_id] = segment << LOCATION_BITS | index
        state.segment = segments[-1][0] + 1
    return state


def _raw(
    connection: apsw.Connection, state: CityState, tx_ids: Sequence[bytes]
) -> dict[bytes, RawTransaction]:
    # What is not pending any more when memory is asked is sealed when the tables are.
    pending = {tx_id: state.pending.get(tx_id) for tx_id in tx_ids}
    locations = {tx_id: location for tx_id, location in pending.items() if location}
    missing = [tx_id for tx_id, location in pending.items() if not location]
    locations |= reads.locations(connection, state.city, missing)
    return reads.raw(connection, state.city, locations.values())


def _pending(connection: apsw.Connection, state: CityState, after: int, limit: int) -> PendingPage:
    segment = max(after >> LOCATION_BITS, reads.floor(connection, state.city))
    page: list[tuple[int, bytes]] = []
    while len(page) <= limit and (
        segments := reads.transaction_ids(connection, state.city, segment, SEGMENTS_A_PAGE)
    ):
        for number, tx_ids in segments:
            for location, tx_id in enumerate(tx_ids, start=number << LOCATION_BITS):
                if location > after and state.pending.get(tx_id) == location:
                    page.append((location, tx_id))
        segment = segments[-1][0] + 1
    more = len(page) > limit
    page = page[:limit]
    found = reads.raw(connection, state.city, [location for location, _ in page])
    return PendingPage(
        transactions=[found[tx_id] for _, tx_id in page],
        cursor=_CURSOR.pack(page[-1][0]) if more else None,
    )


def _make_durable(directory: Path) -> None:
    """Make the directory, and its name and those of its new parents durable.

    SQLite does so for the names of its own files.
    """
    known = next(path for path in (directory, *directory.parents) if path.exists())
    directory.mkdir(parents=True, exist_ok=True)
    for path in (directory, *directory.parents):
        if path == known:
            break
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


async def _to_the_end(
    work: Coroutine[None, None, None],
    undo: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Do the work, also if cancelled meanwhile, and in that case undo it.

    An engine that is half open would keep its directory.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if undo is not None and task.exception() is None:
            await undo()
        raise
