"""A storage backend on MongoDB, for many servers and many cities in one database.

Every write is one document, or is redone from one: no transactions over several documents are
used. A call that failed may be made again, whatever became of it.

========================= ===============================================================
`_mongodb_options`        what can be configured
`_mongodb_client`         the connection, its errors, group commit
`_mongodb_causal`         reads that are not of an older state than what is known
`_mongodb_schema`         collections, indexes, version
`_mongodb_layout`         rows as bytes
`_mongodb_founding`       how a city comes into the database, and under which name
`_mongodb_payload`        what people can query of a transaction
`_mongodb_intake`         received transactions and public keys
`_mongodb_ledger`         rounds: committing, applying, finishing what others began
`_mongodb_heads`          where the ledgers of all cities stand
`_mongodb_certificates`   which rounds are certified
`_mongodb_reads`          what is answered
`_mongodb_retention`      what is forgotten of old transactions
`_mongodb_notes`          notes beside the ledger
`_mongodb_leases`         who leads a city, which servers are at work
`_mongodb_changes`        hearing of what other servers write
========================= ===============================================================

docs/storage-mongodb.md follows one transaction through the collections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from citychain.errors import CitychainError, StorageError
from citychain.genesis import Genesis
from citychain.storage import _mongodb_upkeep as upkeep
from citychain.storage._mongodb_certificates import Certificates
from citychain.storage._mongodb_changes import Changes
from citychain.storage._mongodb_client import Connection
from citychain.storage._mongodb_founding import first_objects, found, genesis_files
from citychain.storage._mongodb_heads import Heads
from citychain.storage._mongodb_intake import Arrivals, Intake
from citychain.storage._mongodb_leases import Leases, Servers
from citychain.storage._mongodb_ledger import Ledger
from citychain.storage._mongodb_notes import Notes
from citychain.storage._mongodb_options import MongodbOptions
from citychain.storage._mongodb_reads import Reads
from citychain.storage._mongodb_retention import Retention
from citychain.storage._mongodb_schema import SCHEMA_VERSION, ensure_schema, schema_version

if TYPE_CHECKING:
    from citychain.ports import PendingPage, StorageContext, StoredRound
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

__all__ = ["MongodbBackend", "MongodbCity", "MongodbOptions"]


class MongodbBackend:
    """A `StorageBackend`, and a `SupportsServers`, on one MongoDB database."""

    def __init__(self, options: MongodbOptions, context: StorageContext) -> None:
        self._options = options
        self._context = context
        self._cities: dict[bytes, MongodbCity] = {}

    async def __aenter__(self) -> MongodbBackend:
        opening = asyncio.ensure_future(self._enter())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if opening.exception() is None:
                await self._connection.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        await self._changes.close()
        await self._connection.close()

    async def _enter(self) -> None:
        context = self._context
        try:
            connection = Connection(self._options, context.meter)
        except ValueError as error:
            raise StorageError(str(error)) from None
        try:
            await connection.check()
            with connection.errors():
                self._found_version = await schema_version(connection.database)
                await ensure_schema(connection.database)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._leases = Leases(connection, context.clock)
        self._changes = Changes(connection, context.clock, self._leases.changed)
        self._servers = Servers(connection, context.clock)
        self._intake = Intake(connection, context.compute)
        self._heads = Heads(connection)

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> MongodbCity:
        """See `StorageBackend.city`."""
        if genesis not in self._cities:
            city = await self._connection.run(self._open(genesis, genesis_file, list(initial)))
            # Another call may have opened it meanwhile: then that one counts.
            self._cities.setdefault(genesis, city)
        return self._cities[genesis]

    # Servers

    async def beat(self, server: str) -> None:
        """See `SupportsServers.beat`."""
        await self._connection.run(self._servers.beat(server))

    async def leave(self, server: str) -> None:
        """See `SupportsServers.leave`."""
        await self._connection.run(self._servers.leave(server))

    async def servers(self, ttl: timedelta) -> Mapping[str, Sequence[bytes]]:
        """See `SupportsServers.servers`."""
        return await self._connection.run(self._who_leads(ttl))

    async def _who_leads(self, ttl: timedelta) -> dict[str, list[bytes]]:
        return await self._leases.of(await self._servers.living(ttl))

    async def genesis_files(self, cities: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `SupportsServers.genesis_files`."""
        return await self._connection.run(genesis_files(self._connection, cities))

    async def hand_over(self, city: bytes, epoch: int, successor: str) -> None:
        """See `SupportsServers.hand_over`."""
        await self._connection.run(self._leases.release(city, epoch, successor))

    async def hand_back(self, city: bytes, server: str) -> None:
        """See `SupportsServers.hand_back`."""
        await self._connection.run(self._leases.hand_back(city, server))

    async def handed(self, server: str, timeout: timedelta) -> bool:
        """See `SupportsServers.handed`."""
        return await self._changes.handed(server, timeout.total_seconds())

    # Upkeep

    async def stats(self) -> StorageStats:
        """See `citychain.upkeep.SupportsUpkeep.stats`."""
        return await self._connection.run(upkeep.stats(self._connection))

    async def look(self) -> StorageLook:
        """See `citychain.upkeep.SupportsLooking.look`."""
        try:
            connection = Connection(self._options)
        except ValueError as error:
            raise StorageError(str(error)) from None
        try:
            await connection.check()
            return await upkeep.look(connection, self._context.clock)
        finally:
            await connection.close()

    async def indexes(self) -> Mapping[str, Sequence[str]]:
        """See `citychain.upkeep.SupportsUpkeep.indexes`."""
        return await self._connection.run(upkeep.make_indexes(self._connection))

    async def migrate(self) -> Sequence[str]:
        """See `citychain.upkeep.SupportsUpkeep.migrate`; it was done when this was opened."""
        found, self._found_version = self._found_version, SCHEMA_VERSION
        return [f"to schema version {version + 1}" for version in range(found, SCHEMA_VERSION)]

    async def forget(self, city: bytes, initial: Sequence[ObjectWrite]) -> None:
        """See `citychain.upkeep.SupportsForgetting.forget`."""
        self._cities.pop(city, None)
        objects = first_objects(city, initial)
        await self._connection.run(upkeep.forget(self._connection, city, objects))
        self._intake.forget(city)

    # Opening

    async def _open(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> MongodbCity:
        parsed = await self._context.compute(_parsed, genesis_file)
        name, rule = (None, None) if parsed is None else (parsed.name, parsed.rule)
        await found(self._connection, genesis, genesis_file, name, initial)
        ledger = Ledger(self._connection, self._context.compute, self._heads, genesis, rule)
        reads = Reads(self._connection, genesis, ledger)
        certificates = Certificates(self._connection, genesis, ledger)
        await ledger.catch_up()
        await certificates.catch_up()
        arrivals = Arrivals(self._context.clock, await reads.last_arrival())
        return MongodbCity(
            genesis=genesis,
            connection=self._connection,
            intake=self._intake,
            arrivals=arrivals,
            ledger=ledger,
            certificates=certificates,
            reads=reads,
            leases=self._leases,
            changes=self._changes,
        )


class MongodbCity:
    """One city's `CityStorage`."""

    def __init__(
        self,
        *,
        genesis: bytes,
        connection: Connection,
        intake: Intake,
        arrivals: Arrivals,
        ledger: Ledger,
        certificates: Certificates,
        reads: Reads,
        leases: Leases,
        changes: Changes,
    ) -> None:
        self._genesis = genesis
        self._run = connection.run
        self._intake = intake
        self._arrivals = arrivals
        self._ledger = ledger
        self._certificates = certificates
        self._reads = reads
        self._leases = leases
        self._changes = changes
        self._notes = Notes(connection, genesis)
        self._retention = Retention(connection, genesis, ledger, reads)
        self._acquiring = asyncio.Lock()

    # Intake

    async def append(
        self, transactions: Sequence[RawTransaction], keys: Mapping[bytes, bytes]
    ) -> None:
        """See `CityStorage.append`."""
        await self._intake.append(self._genesis, self._arrivals, transactions, keys)

    async def keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `CityStorage.keys`."""
        return await self._run(self._reads.keys(key_ids))

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """See `CityStorage.raw`."""
        return await self._run(self._reads.raw(tx_ids))

    async def pending(self, cursor: bytes | None, limit: int) -> PendingPage:
        """See `CityStorage.pending`."""
        return await self._run(self._reads.pending(cursor, limit))

    async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
        """See `CityStorage.pending_ids`."""
        return await self._run(self._reads.pending_ids(limit))

    async def changed(self, timeout: timedelta) -> None:
        """See `CityStorage.changed`."""
        await self._changes.wait(self._genesis, timeout.total_seconds())

    # Sequencer

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        """See `CityStorage.acquire_lease`."""
        return await self._run(self._acquire(holder, ttl))

    async def _acquire(self, holder: str, ttl: timedelta) -> int | None:
        async with self._acquiring:
            epoch = await self._leases.take(
                self._genesis, holder, ttl, above=self._ledger.head.epoch
            )
            if epoch is None or not await self._ledger.fence(epoch):
                return None
            return epoch

    async def renew_lease(self, epoch: int, ttl: timedelta) -> None:
        """See `CityStorage.renew_lease`."""
        await self._leases.renew(self._genesis, epoch, ttl)

    async def release_lease(self, epoch: int) -> None:
        """See `CityStorage.release_lease`."""
        await self._run(self._leases.release(self._genesis, epoch))

    async def commit(self, sealed: SealedRound) -> None:
        """See `CityStorage.commit`."""
        await self._ledger.commit(sealed)

    async def head(self) -> Head:
        """See `CityStorage.head`."""
        return await self._run(self._ledger.look())

    # Approver

    async def certify(self, certificates: Sequence[Certificate]) -> None:
        """See `CityStorage.certify`."""
        await self._run(self._certificates.add(list(certificates)))

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        """See `CityStorage.keep`."""
        await self._notes.keep(notes)

    async def notes(
        self, prefix: str, known: Mapping[str, bytes] | None = None
    ) -> Mapping[str, bytes]:
        """See `CityStorage.notes`."""
        return await self._run(self._notes.read(prefix, known))

    # Reads

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `StateView.objects`."""
        return await self._run(self._reads.objects(objects))

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `StateView.find`."""
        return await self._run(self._reads.find(tx_ids))

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """See `StateView.latest`."""
        return await self._run(self._reads.latest(authors))

    async def tips(self) -> Sequence[NodeRef]:
        """See `StateView.tips`."""
        return await self._run(self._reads.tips())

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """See `StateView.round_nodes`."""
        return await self._run(self._reads.round_nodes(round))

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `StateView.checkpoint_hashes`."""
        return await self._run(self._reads.checkpoint_hashes(rounds))

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """See `CityStorage.rounds`."""
        return await self._run(self._reads.rounds(first, limit))

    async def round_of_size(self, size: int) -> StoredRound | None:
        """See `CityStorage.round_of_size`."""
        return await self._run(self._reads.round_of_size(size))

    async def nodes(self, node_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `CityStorage.nodes`."""
        return await self._run(self._reads.nodes(node_ids))

    async def children(
        self, parent: NodeRef, after: tuple[int, int], limit: int
    ) -> Sequence[SealedNode]:
        """See `CityStorage.children`."""
        return await self._run(self._reads.children(parent, after, limit))

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """See `CityStorage.leaf_hashes`."""
        return await self._run(self._reads.leaf_hashes(begin, end))

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        """See `CityStorage.subtree_hashes`."""
        return await self._run(self._reads.subtree_hashes(level, begin, end))

    # Retention

    async def sizes(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, int]:
        """See `SupportsRetention.sizes`."""
        return await self._run(self._retention.sizes(tx_ids))

    async def prune(self, tx_ids: Sequence[bytes]) -> None:
        """See `SupportsRetention.prune`."""
        await self._run(self._retention.prune(tx_ids))

    async def reclaim(self) -> bool:
        """See `SupportsRetention.reclaim`: the database fills free room again; to give it back to
        the file system (``compact``) is for those who run it."""
        return False


def _parsed(genesis_file: bytes) -> Genesis | None:
    try:
        return Genesis.from_bytes(genesis_file)
    except CitychainError:
        return None
