"""What the SQLite backend forgets of old transactions, and how its file gets shorter.

Transactions go from their segments, whose rows are most of the file. A segment that has others as
well is written again: what went from it leaves its id, an empty envelope, and `GONE` for its
author. So all others stay where ``nodes.location`` says, and a restart still knows what is sealed.
A city's last segment keeps its row in any case: numbers are counted on from there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from citychain.storage import _sqlite_reads as reads
from citychain.storage._sqlite_reads import GONE, INDEX_MASK, LOCATION_BITS, SEGMENT_BITS
from citychain.storage._sqlite_requests import Group, Request

__all__ = ["Prune", "Reclaim", "sizes", "steps"]

SEGMENTS_A_STEP: Final = 16
"""Segments that are written in one transaction: others write between two of them."""
PAGES_A_STEP: Final = 256
"""Pages that are given back in one transaction, each of which may move another one."""
SPARE_PAGES: Final = 256
"""Free pages that stay for the next writes."""

_INCREMENTAL: Final = 2

Segments = Mapping[int, frozenset[int]]
"""Indexes of transactions by segment."""


def sizes(connection: apsw.Connection, city: int, tx_ids: Sequence[bytes]) -> dict[bytes, int]:
    """See `SupportsRetention.sizes`."""
    located = reads.locations(connection, city, tx_ids)
    rows: dict[int, tuple[bytes, tuple[int, ...]]] = {}
    for number in {location >> LOCATION_BITS for location in located.values()}:
        row = _authors_and_ends(connection, city, number)
        if row is not None:
            rows[number] = row[0], (*_unpacked(row[1]), 0)
    found = {}
    for tx_id, location in located.items():
        if (columns := rows.get(location >> LOCATION_BITS)) is None:
            continue
        index = location & INDEX_MASK
        if _author(columns[0], index) != GONE:
            found[tx_id] = columns[1][index] - columns[1][index - 1]
    return found


def steps(connection: apsw.Connection, city: int, tx_ids: Sequence[bytes]) -> list[Segments]:
    """Where sealed transactions stand, as much at a time as one transaction is to forget."""
    segments: dict[int, set[int]] = {}
    for location in reads.locations(connection, city, tx_ids).values():
        segments.setdefault(location >> LOCATION_BITS, set()).add(location & INDEX_MASK)
    numbers = sorted(segments)
    return [
        {number: frozenset(segments[number]) for number in numbers[begin : begin + SEGMENTS_A_STEP]}
        for begin in range(0, len(numbers), SEGMENTS_A_STEP)
    ]


@dataclass(slots=True, eq=False)
class Prune(Request):
    """A step of `SupportsRetention.prune`."""

    city: int
    segments: Segments

    def stage(self, group: Group) -> None:
        """See `Request.stage`."""
        for number, indexes in self.segments.items():
            _prune_segment(group.connection, self.city, number, indexes)


def _prune_segment(
    connection: apsw.Connection, city: int, number: int, indexes: frozenset[int]
) -> None:
    if (row := _authors_and_ends(connection, city, number)) is None:
        return
    authors, ends = row[0], _unpacked(row[1])
    there = {i for i in range(len(ends)) if _author(authors, i) != GONE}
    if not there & indexes:
        return
    id = city << SEGMENT_BITS | number
    stays = there - indexes
    if not stays and number < _last(connection, city):
        connection.execute("DELETE FROM segments WHERE id = ?", (id,))
        return
    envelopes = connection.execute("SELECT envelopes FROM segments WHERE id = ?", (id,)).get
    kept = [envelopes[begin:end] if i in stays else b"" for i, begin, end in _spans(ends)]
    end = 0
    connection.execute(
        "UPDATE segments SET authors = ?, ends = ?, envelopes = ? WHERE id = ?",
        (
            b"".join([_author(authors, i) if i in stays else GONE for i in range(len(ends))]),
            struct.pack(f">{len(ends)}I", *(end := end + len(envelope) for envelope in kept)),
            b"".join(kept),
            id,
        ),
    )


def _last(connection: apsw.Connection, city: int) -> int:
    """Number of the city's last segment."""
    id: int = connection.execute(
        "SELECT max(id) FROM segments WHERE id BETWEEN ?1 << ?2 AND (?1 + 1 << ?2) - 1",
        (city, SEGMENT_BITS),
    ).get
    return id & (1 << SEGMENT_BITS) - 1


def _authors_and_ends(
    connection: apsw.Connection, city: int, number: int
) -> tuple[bytes, bytes] | None:
    found: tuple[bytes, bytes] | None = connection.execute(
        "SELECT authors, ends FROM segments WHERE id = ?", (city << SEGMENT_BITS | number,)
    ).fetchone()
    return found


def _unpacked(ends: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(ends) // 4}I", ends)


def _spans(ends: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Index, begin and end of each envelope."""
    return zip(range(len(ends)), (0, *ends[:-1]), ends, strict=True)


def _author(authors: bytes, index: int) -> bytes:
    return authors[32 * index : 32 * index + 32]


@dataclass(slots=True, eq=False)
class Reclaim(Request):
    """A step of `SupportsRetention.reclaim`; returns whether more is left."""

    def stage(self, group: Group) -> bool:
        """See `Request.stage`. Pages from the end of the file move into free ones before them."""
        connection = group.connection
        if connection.execute("PRAGMA auto_vacuum").get != _INCREMENTAL:
            return False  # Made by an earlier release: its free pages are filled again, no more.
        spare: int = connection.execute("PRAGMA freelist_count").get - SPARE_PAGES
        if spare <= 0:
            return False
        pages = min(spare, PAGES_A_STEP)
        connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        group.shortens |= pages == spare  # By the last step, so that there is one copy for all.
        return pages < spare
