"""What the SQLite backend reads: functions of a connection and a city's number.

Each statement hands its whole answer back in one step, as one text of rows
``a,b,...;a,b,...`` with blobs in hexadecimal. apsw gives the GIL away at every
step, and in a busy process taking it back can last a thread switch interval
(5 ms): with a step a row, a thousand rows would take seconds. Transactions are
too large to write in hexadecimal: a row has the columns of many segments.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import apsw

from citychain.ports import StoredRound
from citychain.types import (
    Certificate,
    Head,
    NodeRef,
    ObjectState,
    RawTransaction,
    Rejection,
    SealedNode,
    Vote,
)

__all__ = [
    "GONE",
    "INDEX_MASK",
    "LOCATION_BITS",
    "PARENT",
    "PLACE_BITS",
    "PREFIX",
    "SEGMENT_BITS",
    "VOTE_HEADER",
    "certified_round",
    "children",
    "find",
    "floor",
    "head",
    "keys",
    "latest",
    "leaf_hashes",
    "locations",
    "nodes",
    "objects",
    "raw",
    "round_nodes",
    "round_of_size",
    "rounds",
    "sealed_ids",
    "subtree_hashes",
    "tips",
    "transaction_ids",
]

PLACE_BITS: Final = 20
"""Bits of the seq in a place: a round has at most 2^20 transactions."""
LOCATION_BITS: Final = 20
"""Bits of the index within its segment in a transaction's location."""
INDEX_MASK: Final = (1 << LOCATION_BITS) - 1
"""The index's bits."""
SEGMENT_BITS: Final = 40
"""Bits of the segment's number in ``segments.id``; the city's stands above it."""
PREFIX: Final = struct.Struct(">q")
"""The first bytes of an id, as the indexes keep them."""
PARENT: Final = struct.Struct(">q32s")
"""A parent in ``nodes.parents``: place, node id."""
VOTE_HEADER: Final = struct.Struct(">32sI")
"""A vote in ``certificates.votes``: key id, length of the signature that follows."""

GONE: Final = bytes(32)
"""For the author of a transaction that retention took out of a segment; nobody's key id."""

_SEGMENTS_A_STEP: Final = 32
_SEGMENTS: Final = "SELECT " + ", ".join(
    f"(SELECT {column} FROM segments WHERE id = ?{number})"
    for number in range(1, _SEGMENTS_A_STEP + 1)
    for column in ("tx_ids", "authors", "ends", "envelopes")
)
"""The columns of so many segments, NULL where one is missing."""

_SEQ_MASK: Final = (1 << PLACE_BITS) - 1
_SEGMENT_MASK: Final = (1 << SEGMENT_BITS) - 1
_INT_MAX: Final = (1 << 63) - 1
_ROUND_MAX: Final = _INT_MAX >> PLACE_BITS

_NODE: Final = """
    group_concat(n.place || ',' || hex(n.tx_id) || ',' || hex(n.author) || ',' || hex(n.node_id)
    || ',' || hex(n.parents) || ',' || hex(n.pop) || ',' || hex(n.code) || ',' || hex(n.reason),
    ';')
"""

_CANDIDATES_ANYWHERE: Final = """(
    SELECT city, place FROM carray(?1) wanted
    CROSS JOIN recent_places r ON r.prefix = wanted.value
    UNION ALL SELECT city, place FROM carray(?1) wanted
    CROSS JOIN places p ON p.prefix = wanted.value
)"""
"""Where the ids with the prefixes ?1 may stand; two arms, lest SQLite copies both tables."""
_CANDIDATES: Final = """(
    SELECT place FROM carray(?1) wanted
    CROSS JOIN recent_places r ON r.prefix = wanted.value AND r.city = ?2
    UNION ALL SELECT place FROM carray(?1) wanted
    CROSS JOIN places p ON p.prefix = wanted.value AND p.city = ?2
)"""
"""The same in the city ?2."""

Connection = apsw.Connection


def _rows(answer: str | None) -> Iterator[list[str]]:
    return (row.split(",") for row in answer.split(";")) if answer else iter(())


def _prefixes(ids: Sequence[bytes]) -> apsw.CArrayBinding | None:
    """Prefixes of the ids to look up; None when there is none that could exist."""
    prefixes = array("q", [PREFIX.unpack_from(i)[0] for i in ids if len(i) == 32])
    return apsw.carray(prefixes) if prefixes else None


def _node(row: list[str]) -> SealedNode:
    place, tx_id, author, node_id, parents, pop, code, reason = row
    decode = bytes.fromhex
    return SealedNode(
        tx_id=decode(tx_id),
        author=decode(author),
        round=int(place) >> PLACE_BITS,
        seq=int(place) & _SEQ_MASK,
        node_id=decode(node_id) if node_id else None,
        parents=tuple(
            NodeRef(parent >> PLACE_BITS, parent & _SEQ_MASK, parent_id)
            for parent, parent_id in PARENT.iter_unpack(decode(parents))
        ),
        rejection=None if node_id else Rejection(decode(code).decode(), decode(reason).decode()),
        pop=decode(pop) if pop else None,
    )


def _place(round: int, seq: int) -> int:
    """A place as an integer; one that cannot exist becomes another that does not."""
    return min(round, _ROUND_MAX) << PLACE_BITS | min(seq, _SEQ_MASK)


# --- received transactions and keys ------------------------------------------


def keys(connection: Connection, city: int, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
    """Public keys by key id."""
    if not key_ids:
        return {}
    answer = connection.execute(
        "SELECT group_concat(hex(key_id) || ',' || hex(public_key), ';') FROM carray(?) wanted "
        "CROSS JOIN keys ON city = ? AND key_id = wanted.value",
        (apsw.carray(tuple(key_ids)), city),
    ).get
    return {bytes.fromhex(k): bytes.fromhex(public_key) for k, public_key in _rows(answer)}


def transaction_ids(
    connection: Connection, city: int, first: int, limit: int
) -> list[tuple[int, list[bytes]]]:
    """Ids in the next ``limit`` segments from ``first`` on, by segment, in arrival order."""
    answer = connection.execute(
        "SELECT group_concat(id || ',' || hex(tx_ids), ';') FROM (SELECT id, tx_ids "
        "FROM segments WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?)",
        (city << SEGMENT_BITS | first, city << SEGMENT_BITS | _SEGMENT_MASK, limit),
    ).get
    segments = [(int(id) & _SEGMENT_MASK, bytes.fromhex(ids)) for id, ids in _rows(answer)]
    return [(s, [ids[i : i + 32] for i in range(0, len(ids), 32)]) for s, ids in sorted(segments)]


def sealed_ids(connection: Connection, tx_ids: Sequence[bytes]) -> set[tuple[int, bytes]]:
    """Those that are sealed, each with the city's number, and perhaps some others that are."""
    if (prefixes := _prefixes(tx_ids)) is None:
        return set()
    answer = connection.execute(
        f"SELECT group_concat(n.city || ',' || hex(n.tx_id), ';') FROM {_CANDIDATES_ANYWHERE} i "
        "CROSS JOIN nodes n ON n.city = i.city AND n.place = i.place",
        (prefixes,),
    ).get
    return {(int(city), bytes.fromhex(tx_id)) for city, tx_id in _rows(answer)}


def locations(connection: Connection, city: int, tx_ids: Sequence[bytes]) -> dict[bytes, int]:
    """Where sealed transactions stand in the segments."""
    if (prefixes := _prefixes(tx_ids)) is None:
        return {}
    answer = connection.execute(
        "SELECT group_concat(hex(n.tx_id) || ',' || n.location, ';') FROM "
        f"{_CANDIDATES} i CROSS JOIN nodes n ON n.city = ?2 AND n.place = i.place "
        "WHERE n.location > 0",
        (prefixes, city),
    ).get
    wanted = set(tx_ids)
    found = {bytes.fromhex(tx_id): int(location) for tx_id, location in _rows(answer)}
    return {tx_id: location for tx_id, location in found.items() if tx_id in wanted}


def raw(connection: Connection, city: int, places: Iterable[int]) -> dict[bytes, RawTransaction]:
    """Transactions at the locations, without those that are gone."""
    indexes: dict[int, list[int]] = {}
    for location in places:
        id = city << SEGMENT_BITS | location >> LOCATION_BITS
        indexes.setdefault(id, []).append(location & INDEX_MASK)
    segments = sorted(indexes)
    found: dict[bytes, RawTransaction] = {}
    for begin in range(0, len(segments), _SEGMENTS_A_STEP):
        step = segments[begin : begin + _SEGMENTS_A_STEP]
        columns = iter(
            connection.execute(_SEGMENTS, step + [None] * (_SEGMENTS_A_STEP - len(step))).get
        )
        for segment, tx_ids, authors, packed_ends, envelopes in zip(
            step, columns, columns, columns, columns, strict=False
        ):
            if tx_ids is None:
                continue
            ends = (*struct.unpack(f">{len(packed_ends) // 4}I", packed_ends), 0)
            for i in indexes[segment]:
                at = slice(32 * i, 32 * i + 32)
                if authors[at] == GONE:
                    continue
                found[tx_ids[at]] = RawTransaction(
                    tx_ids[at], authors[at], envelopes[ends[i - 1] : ends[i]]
                )
    return found


# --- rounds --------------------------------------------------------------------


def head(connection: Connection, city: int, certified: int) -> Head:
    """The latest round."""
    row = connection.execute(
        "SELECT round, time_ms, epoch, size, peaks, checkpoint, checkpoint_hash FROM rounds "
        "WHERE city = ? ORDER BY round DESC LIMIT 1",
        (city,),
    ).get
    return replace(Head(*row), certified_round=certified) if row else Head()


def floor(connection: Connection, city: int) -> int:
    """A segment before which nothing is pending."""
    segment: int | None = connection.execute(
        "SELECT floor FROM rounds WHERE city = ? ORDER BY round DESC LIMIT 1", (city,)
    ).get
    return segment or 1


def rounds(connection: Connection, city: int, first: int, limit: int) -> list[StoredRound]:
    """Rounds in order, each with its certificate if it has one."""
    rows = connection.execute(
        "SELECT r.round, time_ms, first_index, size, record, checkpoint, r.checkpoint_hash, "
        "peaks, c.checkpoint_hash, votes FROM rounds r LEFT JOIN certificates c "
        "ON c.city = r.city AND c.round = r.round "
        "WHERE r.city = ? AND r.round >= ? ORDER BY r.round LIMIT ?",
        (city, min(first, _ROUND_MAX), limit),
    )
    return [
        replace(
            StoredRound(*columns),
            certificate=None if votes is None else Certificate(columns[0], hash, _votes(votes)),
        )
        for *columns, hash, votes in rows
    ]


_ROUND_OF_SIZE: Final = """
    WITH RECURSIVE search(low, high) AS (
        SELECT 1, 1 + coalesce((SELECT max(round) FROM rounds WHERE city = ?1), 0)
        UNION ALL
        SELECT iif(size < ?2, round + 1, low), iif(size < ?2, high, round)
        FROM search JOIN rounds ON city = ?1 AND round = (low + high) / 2
        WHERE low < high
    )
    SELECT low FROM search WHERE low = high
"""
"""By bisection, since sizes grow with rounds."""


def round_of_size(connection: Connection, city: int, size: int) -> StoredRound | None:
    """The first round after which the log had a size."""
    round = connection.execute(_ROUND_OF_SIZE, (city, min(size, _INT_MAX))).get
    found = rounds(connection, city, round, 1)
    return found[0] if found and found[0].size == size else None


def _votes(packed: bytes) -> tuple[Vote, ...]:
    votes = []
    at = 0
    while at < len(packed):
        key_id, length = VOTE_HEADER.unpack_from(packed, at)
        at += VOTE_HEADER.size
        votes.append(Vote(key_id, packed[at : at + length]))
        at += length
    return tuple(votes)


def certified_round(connection: Connection, city: int, known: int) -> tuple[int, set[int]]:
    """The round up to which all are certified, given an earlier such, and certified ones after."""
    answer = connection.execute(
        "SELECT group_concat(round, ';') FROM certificates WHERE city = ? AND round > ?",
        (city, known),
    ).get
    ahead = {int(round) for (round,) in _rows(answer)}
    while known + 1 in ahead:
        known += 1
        ahead.remove(known)
    return known, ahead


def leaf_hashes(connection: Connection, city: int, begin: int, end: int) -> bytes:
    """Leaf hashes in order."""
    answer = connection.execute(
        "SELECT group_concat(hex(substr(hashes, 1 + 32 * max(?2 - first_index, 0), "
        "32 * (?3 - max(first_index, ?2)))), '' ORDER BY first_index) "
        "FROM leaves WHERE city = ?1 AND first_index < ?3 AND first_index >= "
        "(SELECT max(first_index) FROM leaves WHERE city = ?1 AND first_index <= ?2)",
        (city, min(begin, _INT_MAX), min(end, _INT_MAX)),
    ).get
    return bytes.fromhex(answer or "")


def subtree_hashes(connection: Connection, city: int, level: int, begin: int, end: int) -> bytes:
    """Subtree hashes in order, up to the first that is not there."""
    answer = connection.execute(
        "SELECT group_concat(idx || ',' || hex(hash), ';' ORDER BY idx) FROM subtrees "
        "WHERE city = ? AND level = ? AND idx >= ? AND idx < ?",
        (city, min(level, _INT_MAX), min(begin, _INT_MAX), min(end, _INT_MAX)),
    ).get
    hashes = []
    for index, (found, hash) in enumerate(_rows(answer), start=begin):
        if int(found) != index:
            break
        hashes.append(hash)
    return bytes.fromhex("".join(hashes))


# --- nodes ---------------------------------------------------------------------


def find(connection: Connection, city: int, tx_ids: Sequence[bytes]) -> dict[bytes, SealedNode]:
    """Sealed transactions by transaction id."""
    if (prefixes := _prefixes(tx_ids)) is None:
        return {}
    answer = connection.execute(
        f"SELECT {_NODE} FROM {_CANDIDATES} i "
        "CROSS JOIN nodes n ON n.city = ?2 AND n.place = i.place",
        (prefixes, city),
    ).get
    wanted = set(tx_ids)
    return {node.tx_id: node for node in map(_node, _rows(answer)) if node.tx_id in wanted}


def nodes(connection: Connection, city: int, node_ids: Sequence[bytes]) -> dict[bytes, SealedNode]:
    """Linked nodes by node id."""
    if (prefixes := _prefixes(node_ids)) is None:
        return {}
    answer = connection.execute(
        f"SELECT {_NODE} FROM {_CANDIDATES} i "
        "CROSS JOIN nodes n ON n.city = ?2 AND n.place = i.place",
        (prefixes, city),
    ).get
    wanted = set(node_ids)
    found = map(_node, _rows(answer))
    return {n.node_id: n for n in found if n.node_id is not None and n.node_id in wanted}


def children(
    connection: Connection, city: int, parent: NodeRef, after: tuple[int, int], limit: int
) -> list[SealedNode]:
    """Children in order of place. Whoever has another node's id at this place has none."""
    answer = connection.execute(
        f"SELECT {_NODE} FROM (SELECT child FROM children WHERE city = ?1 AND parent = ?2 "
        "AND child > ?3 ORDER BY child LIMIT ?4) CROSS JOIN nodes n ON n.city = ?1 "
        "AND n.place = child",
        (city, _place(parent.round, parent.seq), _place(*after), limit),
    ).get
    found = sorted(map(_node, _rows(answer)), key=lambda node: (node.round, node.seq))
    return [node for node in found if parent in node.parents]


def round_nodes(connection: Connection, city: int, round: int) -> list[SealedNode]:
    """A round's transactions in order of seq."""
    answer = connection.execute(
        f"SELECT {_NODE} FROM nodes n WHERE city = ? AND place BETWEEN ? AND ?",
        (city, _place(round, 0), _place(round, _SEQ_MASK)),
    ).get
    return sorted(map(_node, _rows(answer)), key=lambda node: node.seq)


def tips(connection: Connection, city: int) -> list[NodeRef]:
    """Linked nodes of the latest round that has any."""
    answer = connection.execute(
        "SELECT group_concat(place || ',' || hex(node_id), ';') FROM nodes, (SELECT round "
        "FROM rounds WHERE city = ?1 AND linked > 0 ORDER BY round DESC LIMIT 1) "
        "WHERE city = ?1 AND node_id IS NOT NULL "
        "AND place BETWEEN round << ?2 AND (round + 1 << ?2) - 1",
        (city, PLACE_BITS),
    ).get
    return sorted(_ref(place, node_id) for place, node_id in _rows(answer))


def latest(connection: Connection, city: int, authors: Sequence[bytes]) -> dict[bytes, NodeRef]:
    """Each author's latest linked node."""
    if not authors:
        return {}
    answer = connection.execute(
        "SELECT group_concat(hex(l.author) || ',' || l.place || ',' || hex(n.node_id), ';') "
        "FROM carray(?1) wanted CROSS JOIN latest l ON l.city = ?2 AND l.author = wanted.value "
        "CROSS JOIN nodes n ON n.city = ?2 AND n.place = l.place",
        (apsw.carray(tuple(authors)), city),
    ).get
    return {bytes.fromhex(author): _ref(place, id) for author, place, id in _rows(answer)}


def _ref(place: str, node_id: str) -> NodeRef:
    return NodeRef(int(place) >> PLACE_BITS, int(place) & _SEQ_MASK, bytes.fromhex(node_id))


def objects(connection: Connection, city: int, names: Sequence[str]) -> dict[str, ObjectState]:
    """Object states by object."""
    if not names:
        return {}
    answer = connection.execute(
        "SELECT group_concat(hex(object) || ',' || version || ',' || hex(o.value), ';') "
        "FROM carray(?1) wanted CROSS JOIN objects o ON o.city = ?2 "
        "AND o.object = CAST(wanted.value AS TEXT)",
        (apsw.carray(tuple(name.encode() for name in names)), city),
    ).get
    return {
        bytes.fromhex(name).decode(): ObjectState(int(version), bytes.fromhex(value))
        for name, version, value in _rows(answer)
    }


def checkpoint_hashes(connection: Connection, city: int, rounds: Sequence[int]) -> dict[int, bytes]:
    """Checkpoint hashes by round."""
    hashes = {
        round: connection.execute(
            "SELECT checkpoint_hash FROM rounds WHERE city = ? AND round = ?", (city, round)
        ).get
        for round in rounds
        if round < 1 << 63  # Transactions name rounds that SQLite has no number for.
    }
    return {round: value for round, value in hashes.items() if value is not None}


def notes(connection: Connection, city: int, prefix: str) -> dict[str, bytes]:
    """Notes whose names begin with a prefix, in order of name."""
    begin = prefix.encode()
    rows = connection.execute(
        "SELECT name, note FROM notes WHERE city = ? AND name >= ? ORDER BY name", (city, begin)
    )
    found = {}
    for name, note in rows:
        if not name.startswith(begin):
            break
        found[name.decode()] = note
    return found


# --- cities --------------------------------------------------------------------


def city(connection: Connection, genesis: bytes) -> int | None:
    """The city's number."""
    number: int | None = connection.execute(
        "SELECT city FROM cities WHERE genesis = ?", (genesis,)
    ).get
    return number


def named_city(connection: Connection, genesis: bytes) -> int | None:
    """The city's number, if it has its name."""
    number: int | None = connection.execute(
        "SELECT city FROM cities WHERE genesis = ? AND name IS NOT NULL", (genesis,)
    ).get
    return number


def city_of_name(connection: Connection, name: str) -> tuple[bytes, bytes] | None:
    """Genesis id and genesis file of a city that has this name."""
    found: tuple[bytes, bytes] | None = connection.execute(
        "SELECT genesis, genesis_file FROM cities WHERE name = ?", (name,)
    ).fetchone()
    return found


def cities(connection: Connection) -> int:
    """The largest number of a city."""
    largest: int = connection.execute("SELECT coalesce(max(city), 0) FROM cities").get
    return largest


def progress(connection: Connection, city: int) -> tuple[int, int]:
    """Newest lease epoch, and the round up to which all are certified."""
    epoch, certified = connection.execute(
        "SELECT epoch, certified_round FROM progress WHERE city = ?", (city,)
    ).get
    return epoch, certified
