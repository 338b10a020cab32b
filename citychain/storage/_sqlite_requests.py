"""What each write of the SQLite backend puts into the tables.

A group of writes becomes one transaction. Each `Request` first *stages* its
rows, in memory, against the cities as the writes before it in the group leave
them (`Draft`). If it is refused there (`RoundTaken`, `LeaseLost`), it has left
no trace and the others go on. Then the rows of all go into the tables, one
statement a table, and once they are durable the drafts become the cities' state.
"""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import apsw

from citychain.errors import LeaseLost, NameTaken, RoundTaken, StorageError
from citychain.storage import _sqlite_reads as reads
from citychain.storage._sqlite_reads import (
    LOCATION_BITS,
    PARENT,
    PLACE_BITS,
    PREFIX,
    SEGMENT_BITS,
    VOTE_HEADER,
)
from citychain.types import Head

if TYPE_CHECKING:
    from citychain.types import Certificate, ObjectWrite, RawTransaction, SealedRound, Vote

__all__ = [
    "AcquireLease",
    "Append",
    "Certify",
    "CityState",
    "Commit",
    "Group",
    "Keep",
    "Register",
    "Request",
]

SEGMENT_BYTES: Final = 64 * 1024
"""Envelopes of a segment: what is read to get at one of them."""

_TABLES: Final = {
    "cities": ("REPLACE", 4),
    "progress": ("REPLACE", 3),
    "segments": ("INSERT", 5),
    "keys": ("INSERT OR IGNORE", 3),
    "rounds": ("INSERT", 12),
    "certificates": ("INSERT OR IGNORE", 4),
    "nodes": ("INSERT", 10),
    "recent_places": ("INSERT OR IGNORE", 3),
    "children": ("INSERT OR IGNORE", 3),
    "latest": ("REPLACE", 3),
    "objects": ("REPLACE", 4),
    "leaves": ("INSERT", 3),
    "subtrees": ("INSERT", 4),
    "notes": ("REPLACE", 3),
}
"""How rows go into each table, and its number of columns."""

_VALUES_A_STEP: Final = 24_000
"""Bound values of a statement; SQLite takes 32,766."""


Row: TypeAlias = tuple[int | bytes | str | None, ...]


@dataclass(slots=True)
class CityState:
    """What the engine keeps in memory of an open city. Only the writer's thread changes it."""

    city: int
    epoch: int
    head: Head
    certified_ahead: frozenset[int]
    """Certified rounds after a gap."""
    segment: int
    """Number of the next segment."""
    pending: dict[bytes, int]
    """Location by id of each transaction without a place, in arrival order."""


class Draft:
    """A city as it will be when the group is durable."""

    def __init__(self, state: CityState) -> None:
        self._state = state
        self.city = state.city
        self.epoch = state.epoch
        self.head = state.head
        self.certified_ahead = state.certified_ahead
        self._segments: list[list[RawTransaction]] = []
        self._segment_bytes = SEGMENT_BYTES
        self._received: dict[bytes, int] = {}
        self._sealed: set[bytes] = set()

    def receive(self, transaction: RawTransaction) -> None:
        """Give the transaction a location."""
        if self._segment_bytes >= SEGMENT_BYTES:
            self._segments.append([])
            self._segment_bytes = 0
        segment = self._segments[-1]
        number = self._state.segment + len(self._segments) - 1
        self._received[transaction.tx_id] = number << LOCATION_BITS | len(segment)
        segment.append(transaction)
        self._segment_bytes += 64 + len(transaction.envelope)

    def location(self, tx_id: bytes) -> int | None:
        """Where a transaction stands that is, or was before this group, pending."""
        return self._state.pending.get(tx_id) or self._received.get(tx_id)

    def seal(self, tx_ids: Iterable[bytes]) -> None:
        """Take transactions out of the pending ones."""
        self._sealed.update(tx_ids)

    def is_sealed(self, tx_id: bytes) -> bool:
        """Whether this group seals it."""
        return tx_id in self._sealed

    def floor(self) -> int:
        """The segment before which nothing is pending.

        With nothing pending, the last segment of the group: a later append of the
        same group may still go into it.
        """
        for tx_id, location in chain(self._state.pending.items(), self._received.items()):
            if tx_id not in self._sealed:
                return location >> LOCATION_BITS
        return self._state.segment + max(len(self._segments) - 1, 0)

    def progress(self) -> tuple[int, int, int]:
        """The city's row in ``progress``."""
        return self.city, self.epoch, self.head.certified_round

    def segments(self) -> Iterable[Row]:
        """Rows of ``segments``."""
        for number, transactions in enumerate(self._segments, start=self._state.segment):
            end = 0
            ends = [end := end + len(t.envelope) for t in transactions]
            yield (
                self.city << SEGMENT_BITS | number,
                b"".join([t.tx_id for t in transactions]),
                b"".join([t.author for t in transactions]),
                struct.pack(f">{len(ends)}I", *ends),
                b"".join([t.envelope for t in transactions]),
            )

    def publish(self) -> None:
        """Become the city's state: the group is durable."""
        state = self._state
        state.epoch = self.epoch
        state.head = self.head
        state.certified_ahead = self.certified_ahead
        state.segment += len(self._segments)
        state.pending.update(self._received)
        for tx_id in self._sealed:
            state.pending.pop(tx_id, None)


class Group:
    """The rows of one transaction, from any requests of any cities."""

    def __init__(self, connection: apsw.Connection, next_city: int) -> None:
        self.connection = connection
        self.next_city = next_city
        self.registered: dict[bytes, int] = {}
        self.names: dict[str, tuple[bytes, bytes]] = {}
        """Genesis id and genesis file by name, of what is registered."""
        self.sealed: set[tuple[int, bytes]] = set()
        self.shortens = False
        """Whether the file gets shorter, once the log is copied into it."""
        self._drafts: dict[int, Draft] = {}
        self._rows: dict[str, list[Row]] = {table: [] for table in _TABLES}

    def draft(self, state: CityState) -> Draft:
        """The city as the group leaves it so far."""
        if (draft := self._drafts.get(state.city)) is None:
            draft = self._drafts[state.city] = Draft(state)
        return draft

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Stage rows."""
        self._rows[table].extend(rows)

    def flush(self) -> None:
        """Write what is staged."""
        for draft in self._drafts.values():
            self.add("segments", draft.segments())
        for table, rows in self._rows.items():
            verb, width = _TABLES[table]
            row = f"({','.join('?' * width)})"
            for begin in range(0, len(rows), _VALUES_A_STEP // width):
                part = rows[begin : begin + _VALUES_A_STEP // width]
                self.connection.execute(
                    f"{verb} INTO {table} VALUES {','.join([row] * len(part))}",
                    tuple(chain.from_iterable(part)),
                    can_cache=len(part) == 1,
                )

    @property
    def new_places(self) -> int:
        """Rows that it adds to ``recent_places``."""
        return len(self._rows["recent_places"])

    def publish(self) -> None:
        """Make the drafts the cities' state."""
        for draft in self._drafts.values():
            draft.publish()


@dataclass(slots=True, eq=False)
class Request(ABC):
    """A write that somebody waits for."""

    size: int = field(init=False, default=1024)
    """About how many bytes it holds in memory."""
    done: asyncio.Future[Any] = field(init=False)
    result: object = field(init=False, default=None)
    error: Exception | None = field(init=False, default=None)

    def unknown_ids(self) -> Iterable[bytes]:
        """Transaction ids for which `Group.sealed` shall say whether they are sealed."""
        return ()

    @abstractmethod
    def stage(self, group: Group) -> object:
        """Stage the rows, or raise and stage none; what it returns goes to the caller."""


@dataclass(slots=True, eq=False)
class Register(Request):
    """`StorageBackend.city` for a city that is new or has lost its name; returns its number."""

    genesis: bytes
    genesis_file: bytes
    name: str | None
    initial: Sequence[ObjectWrite]

    def stage(self, group: Group) -> int:
        """See `Request.stage`."""
        if self.genesis in group.registered:
            return group.registered[self.genesis]
        known = reads.city(group.connection, self.genesis)
        if known is not None and self.name is None:
            return known
        self._claim(group)
        city = known
        if city is None:
            city = group.next_city
            group.next_city += 1
            group.add("progress", [(city, 0, 0)])
            group.add("objects", [(city, w.object, w.version, w.value) for w in self.initial])
        group.registered[self.genesis] = city
        group.add("cities", [(city, self.genesis, self.genesis_file, self.name)])
        return city

    def _claim(self, group: Group) -> None:
        """See that no other city has the name."""
        if self.name is None:
            return
        there = group.names.get(self.name) or reads.city_of_name(group.connection, self.name)
        if there is not None and there[0] != self.genesis:
            raise NameTaken(self.name, there[1])
        group.names[self.name] = self.genesis, self.genesis_file


@dataclass(slots=True, eq=False)
class Append(Request):
    """`CityStorage.append`."""

    state: CityState
    transactions: Sequence[RawTransaction]
    keys: Mapping[bytes, bytes]

    def __post_init__(self) -> None:
        self.size = sum([512 + len(t.envelope) for t in self.transactions]) + 4096 * len(self.keys)

    def unknown_ids(self) -> Iterable[bytes]:
        """See `Request.unknown_ids`."""
        pending = self.state.pending
        return [t.tx_id for t in self.transactions if t.tx_id not in pending]

    def stage(self, group: Group) -> None:
        """See `Request.stage`."""
        if any(len(t.tx_id) != 32 or len(t.author) != 32 for t in self.transactions):
            raise ValueError("transaction ids and authors are 32 bytes long")
        draft = group.draft(self.state)
        city = draft.city
        for transaction in self.transactions:
            tx_id = transaction.tx_id
            if not (
                draft.location(tx_id) or (city, tx_id) in group.sealed or draft.is_sealed(tx_id)
            ):
                draft.receive(transaction)
        group.add("keys", [(city, *item) for item in self.keys.items()])


@dataclass(slots=True, eq=False)
class Commit(Request):
    """`CityStorage.commit`."""

    state: CityState
    sealed: SealedRound

    def __post_init__(self) -> None:
        self.size = len(self.sealed.record) + 1024 * len(self.sealed.transactions)

    def stage(self, group: Group) -> None:
        """See `Request.stage`."""
        draft, sealed = group.draft(self.state), self.sealed
        head = draft.head
        if sealed.epoch < draft.epoch:
            raise LeaseLost(sealed.epoch)
        if sealed.round <= head.round:
            raise RoundTaken(sealed.round)
        if sealed.round != head.round + 1 or sealed.first_index != head.size:
            raise StorageError(
                f"round {sealed.round} from leaf {sealed.first_index} does not follow "
                f"round {head.round} with {head.size} leaves"
            )
        if len(sealed.transactions) > 1 << PLACE_BITS:
            raise ValueError(f"a round has at most {1 << PLACE_BITS} transactions")
        nodes, linked, children, latest = self._node_rows(draft)
        city = draft.city
        tx_ids = [t.tx_id for t in sealed.transactions]
        draft.seal(tx_ids)
        draft.head = replace(
            head,
            round=sealed.round,
            time_ms=sealed.time_ms,
            epoch=sealed.epoch,
            size=head.size + len(tx_ids),
            peaks=sealed.peaks,
            checkpoint=sealed.checkpoint,
            checkpoint_hash=sealed.checkpoint_hash,
        )
        base = sealed.round << PLACE_BITS
        prefix = PREFIX.unpack_from
        group.add("nodes", nodes)
        group.add(
            "recent_places",
            [(prefix(tx_id)[0], city, place) for place, tx_id in enumerate(tx_ids, start=base)],
        )
        group.add("recent_places", linked)
        group.add("children", children)
        group.add("latest", [(city, author, place) for author, place in latest.items()])
        group.add("objects", [(city, w.object, w.version, w.value) for w in sealed.writes])
        group.add("subtrees", [(city, s.level, s.number, s.hash) for s in sealed.subtrees])
        if tx_ids:
            group.add("leaves", [(city, sealed.first_index, sealed.leaf_hashes)])
        group.add(
            "rounds",
            [
                (
                    city,
                    sealed.round,
                    sealed.time_ms,
                    sealed.epoch,
                    sealed.first_index,
                    draft.head.size,
                    len(linked),
                    draft.floor(),
                    sealed.peaks,
                    sealed.checkpoint_hash,
                    sealed.checkpoint,
                    sealed.record,
                )
            ],
        )

    def _node_rows(
        self, draft: Draft
    ) -> tuple[
        list[Row],
        list[Row],
        list[Row],
        dict[bytes, int],
    ]:
        """Rows of ``nodes``, of ``recent_places`` and of ``children``, and each author's latest."""
        sealed, city = self.sealed, draft.city
        nodes: list[Row] = []
        linked: list[Row] = []
        children: list[Row] = []
        latest: dict[bytes, int] = {}
        columns = zip(
            sealed.transactions,
            sealed.verdicts,
            sealed.node_ids,
            sealed.parents,
            sealed.pops if sealed.pops is not None else [None] * len(sealed.transactions),
            strict=True,
        )
        pack_parent, prefix = PARENT.pack, PREFIX.unpack_from
        base = sealed.round << PLACE_BITS
        for place, (transaction, verdict, node_id, parents, pop) in enumerate(columns, start=base):
            tx_id, author = transaction.tx_id, transaction.author
            packed = b""
            if node_id is not None:
                linked.append((prefix(node_id)[0], city, place))
                latest[author] = place
                for round, seq, parent_id in parents:
                    parent = round << PLACE_BITS | seq
                    packed += pack_parent(parent, parent_id)
                    children.append((city, parent, place))
            code, reason = verdict or (None, None)
            location = draft.location(tx_id) or 0
            nodes.append((city, place, tx_id, author, node_id, location, packed, pop, code, reason))
        return nodes, linked, children, latest


@dataclass(slots=True, eq=False)
class Certify(Request):
    """`CityStorage.certify`."""

    state: CityState
    certificates: Sequence[Certificate]

    def __post_init__(self) -> None:
        self.size = 1024 + 8192 * sum([len(c.votes) for c in self.certificates])

    def stage(self, group: Group) -> None:
        """See `Request.stage`."""
        draft = group.draft(self.state)
        head = draft.head
        for certificate in self.certificates:
            if not 1 <= certificate.round <= head.round:
                raise StorageError(f"round {certificate.round} is not committed")
        rows = [
            (draft.city, c.round, c.checkpoint_hash, _pack_votes(c.votes))
            for c in self.certificates
        ]
        ahead = draft.certified_ahead.union(c.round for c in self.certificates)
        certified = head.certified_round
        while certified + 1 in ahead:
            certified += 1
        draft.certified_ahead = frozenset(round for round in ahead if round > certified)
        group.add("certificates", rows)
        if certified > head.certified_round:
            draft.head = replace(head, certified_round=certified)
            group.add("progress", [draft.progress()])


def _pack_votes(votes: Iterable[Vote]) -> bytes:
    return b"".join([VOTE_HEADER.pack(v.key_id, len(v.signature)) + v.signature for v in votes])


@dataclass(slots=True, eq=False)
class Keep(Request):
    """`CityStorage.keep`."""

    state: CityState
    notes: Mapping[str, bytes]

    def __post_init__(self) -> None:
        self.size = 1024 + sum(map(len, self.notes.values()))

    def stage(self, group: Group) -> None:
        """See `Request.stage`."""
        city = self.state.city
        group.add("notes", [(city, name.encode(), note) for name, note in self.notes.items()])


@dataclass(slots=True, eq=False)
class AcquireLease(Request):
    """`CityStorage.acquire_lease`; returns the epoch."""

    state: CityState

    def stage(self, group: Group) -> int:
        """See `Request.stage`."""
        draft = group.draft(self.state)
        draft.epoch = max(draft.epoch, draft.head.epoch) + 1
        group.add("progress", [draft.progress()])
        return draft.epoch
