"""A segment: approved rounds of a city in a row, as the content of one object.

Integers are big-endian::

    segment     header | rounds, one after the other | recoveries
    header      "citychain/segment/v1\\0" | genesis 32 | first 8 | last 8
                | object id of the segment before 32, zeros for the first
                | leaves of the log before 8 | peaks before 1, each 32
    round       record: length 4 | checkpoint: length 4
                | votes 2, each key id 32, signature: length 2
                | of each sealed transaction: parents 1, each 0, seq 4 for one of this round, or
                  1, round 8, seq 4, node id 32
                | 0, or 1 and of each sealed transaction its judgement of place: length 2
                | of each sealed transaction, then of each newly held one, its envelope: length 4
                | keys 4, each 2,592: of authors and seats, that no round before in the segment has
    recoveries  number 2, each from_round 8, number 2, note: length 4; all from rounds of this
                segment

What else a storage has of a round follows from these, and is computed anew. The same rounds have
the same segment, whoever packs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from citychain import checkpoint, notes, record
from citychain._native import link
from citychain._native.transactions import decode_batch
from citychain.crypto import merkle
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import PUBLIC_KEY_BYTES
from citychain.errors import VerificationError
from citychain.layout import Reader
from citychain.ports import StoredRound
from citychain.record import RoundRecord
from citychain.types import (
    Certificate,
    NodeRef,
    Parent,
    RawTransaction,
    SealedNode,
    Vote,
)

__all__ = [
    "HEADER_BYTES_MAX",
    "ArchivedRound",
    "Header",
    "Segment",
    "decode",
    "decode_header",
    "header_bytes",
    "recoveries_bytes",
    "round_bytes",
]

MAGIC: Final = b"citychain/segment/v1\0"
PEAKS_MAX: Final = 64
HEADER_BYTES_MAX: Final = len(MAGIC) + 32 + 8 + 8 + 32 + 8 + 1 + 32 * PEAKS_MAX
WHAT: Final = "segment"


class Header(NamedTuple):
    """What a segment begins with."""

    genesis: bytes
    first: int
    last: int
    previous: bytes
    """Object id of the segment before; 32 zero bytes for the first."""
    size: int
    """Leaves of the log before its rounds."""
    peaks: bytes
    """Of the log before its rounds."""


class ArchivedRound(NamedTuple):
    """A round as a storage gives it."""

    stored: StoredRound
    record: RoundRecord
    nodes: Sequence[SealedNode]
    transactions: Sequence[RawTransaction]
    """Sealed ones, in order of seq."""
    held: Sequence[RawTransaction]
    """Newly held ones."""
    leaf_hashes: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment, decoded."""

    header: Header
    rounds: Sequence[ArchivedRound]
    keys: Mapping[bytes, bytes]
    """Public keys by key id."""
    recoveries: Mapping[str, bytes]
    """Notes of recoveries, by name."""

    def envelopes(self) -> list[tuple[int, list[bytes]]]:
        """By round, those of its transactions and of those that waited."""
        return [
            (
                archived.stored.round,
                [item.envelope for item in (*archived.transactions, *archived.held)],
            )
            for archived in self.rounds
        ]


# --- writing ------------------------------------------------------------------


def header_bytes(header: Header) -> bytes:
    """See the layout above."""
    return b"".join(
        (
            MAGIC,
            header.genesis,
            header.first.to_bytes(8, "big"),
            header.last.to_bytes(8, "big"),
            header.previous,
            header.size.to_bytes(8, "big"),
            bytes((len(header.peaks) // 32,)),
            header.peaks,
        )
    )


def round_bytes(
    stored: StoredRound,
    nodes: Sequence[SealedNode],
    envelopes: Iterable[bytes],
    keys: Sequence[bytes],
) -> bytes:
    """A round; see the layout above.

    Args:
        nodes: Of its sealed transactions, in order of seq.
        envelopes: Of its sealed transactions, then of its newly held ones.
        keys: Public keys that no round before in the segment has.
    """
    assert stored.certificate is not None
    parts = [
        _counted(stored.record, 4),
        _counted(stored.checkpoint, 4),
        len(stored.certificate.votes).to_bytes(2, "big"),
    ]
    for vote in stored.certificate.votes:
        parts += (vote.key_id, _counted(vote.signature, 2))
    for node in nodes:
        parts.append(bytes((len(node.parents),)))
        parts += (_parent_bytes(stored.round, parent) for parent in node.parents)
    pops = [node.pop for node in nodes if node.pop is not None]
    parts.append(b"\1" if pops else b"\0")
    parts += (_counted(pop, 2) for pop in pops)
    parts += (_counted(envelope, 4) for envelope in envelopes)
    return b"".join((*parts, len(keys).to_bytes(4, "big"), *keys))


def recoveries_bytes(recoveries: Mapping[str, bytes]) -> bytes:
    """Notes of recoveries, by name; see the layout above."""
    parts = [len(recoveries).to_bytes(2, "big")]
    for name, note in sorted(recoveries.items()):
        number = int(name.split("/")[2], 16)
        parts += (
            notes.round_of(name).to_bytes(8, "big"),
            number.to_bytes(2, "big"),
            _counted(note, 4),
        )
    return b"".join(parts)


def _parent_bytes(round: int, parent: NodeRef) -> bytes:
    seq = parent.seq.to_bytes(4, "big")
    if parent.round == round:
        return b"\0" + seq
    return b"\1" + parent.round.to_bytes(8, "big") + seq + parent.node_id


def _counted(data: bytes, length_bytes: int) -> bytes:
    return len(data).to_bytes(length_bytes, "big") + data


# --- reading ------------------------------------------------------------------


def decode_header(begin: bytes) -> Header | None:
    """The header of a segment, of which these are the first bytes; ``None`` of anything else."""
    if not begin.startswith(MAGIC):
        return None
    try:
        return _header(Reader(begin, WHAT))
    except VerificationError:
        return None


def decode(content: bytes) -> Segment:
    """Read a segment. That its rounds are what they claim is for whoever copies them.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(content, WHAT)
    header = _header(reader)
    if header.last < header.first:
        raise VerificationError(f"{WHAT}: has no round")
    tree = merkle.Tree(header.size, header.peaks)
    keys: dict[bytes, bytes] = {}
    rounds: list[ArchivedRound] = []
    for number in range(header.first, header.last + 1):
        try:
            rounds.append(_round(reader, number, tree, keys))
        except ValueError as error:
            raise VerificationError(f"{WHAT}: round {number}: {error}") from None
    recoveries = {}
    for _ in range(reader.integer(2)):
        name = notes.recovery_name(reader.integer(8), reader.integer(2))
        recoveries[name] = reader.take(reader.integer(4))
    reader.end()
    return Segment(header, rounds, keys, recoveries)


def _header(reader: Reader) -> Header:
    if reader.take(len(MAGIC)) != MAGIC:
        raise VerificationError(f"{WHAT}: it is none, or of another version")
    genesis, first, last = reader.take(32), reader.integer(8), reader.integer(8)
    previous, size, peaks = reader.take(32), reader.integer(8), reader.integer(1)
    if peaks != size.bit_count():
        raise VerificationError(f"{WHAT}: a log of {size} leaves does not have {peaks} peaks")
    return Header(genesis, first, last, previous, size, reader.take(32 * peaks))


def _round(
    reader: Reader, number: int, tree: merkle.Tree, keys: dict[bytes, bytes]
) -> ArchivedRound:
    """The next round; its leaves are appended to ``tree``, its keys put with ``keys``."""
    encoded, signed = reader.take(reader.integer(4)), reader.take(reader.integer(4))
    votes = tuple(
        Vote(reader.take(32), reader.take(reader.integer(2))) for _ in range(reader.integer(2))
    )
    decided, claimed = record.decode(encoded), checkpoint.decode(signed)
    if not number == decided.round == claimed.round:
        raise VerificationError("another round is in its place")
    sealed = len(decided.tx_ids)
    parents = [_parents(reader) for _ in range(sealed)]
    pops = [reader.take(reader.integer(2)) for _ in range(sealed)] if reader.integer(1) else None
    raw = _raw([reader.take(reader.integer(4)) for _ in range(sealed + len(decided.held))])
    for _ in range(reader.integer(4)):
        public_key = reader.take(PUBLIC_KEY_BYTES)
        keys[key_id(public_key)] = public_key
    node_ids = link.node_ids(
        rule=claimed.rule,
        genesis=claimed.genesis,
        round=number,
        tx_ids=decided.tx_ids,
        parents=parents,
        approved=[verdict is None for verdict in decided.verdicts],
        pops=pops,
    )
    leaf_hashes = link.leaf_hashes(
        round=number, tx_ids=decided.tx_ids, node_ids=node_ids, rejections=decided.verdicts
    )
    first_index = tree.size
    tree.append(leaf_hashes)
    digest = checkpoint.checkpoint_hash(signed)
    stored = StoredRound(
        round=number,
        time_ms=decided.time_ms,
        first_index=first_index,
        size=tree.size,
        record=encoded,
        checkpoint=signed,
        checkpoint_hash=digest,
        peaks=tree.peaks,
        certificate=Certificate(number, digest, votes),
    )
    nodes = [
        SealedNode(
            tx_id=tx_id,
            author=item.author,
            round=number,
            seq=seq,
            node_id=node_ids[seq],
            parents=tuple(_reference(number, parent, node_ids) for parent in parents[seq]),
            rejection=decided.verdicts[seq],
            pop=None if pops is None else pops[seq],
        )
        for seq, (tx_id, item) in enumerate(zip(decided.tx_ids, raw[:sealed], strict=True))
    ]
    for tx_id, item in zip(chain(decided.tx_ids, decided.held), raw, strict=True):
        if item.tx_id != tx_id:
            raise VerificationError(f"transaction {tx_id.hex()} is another one")
    return ArchivedRound(stored, decided, nodes, raw[:sealed], raw[sealed:], leaf_hashes)


def _raw(envelopes: Sequence[bytes]) -> list[RawTransaction]:
    return [
        RawTransaction(item.tx_id, item.author, envelope)
        for item, envelope in zip(decode_batch(envelopes), envelopes, strict=True)
    ]


def _parents(reader: Reader) -> tuple[Parent, ...]:
    return tuple(
        NodeRef(reader.integer(8), reader.integer(4), reader.take(32))
        if reader.integer(1)
        else reader.integer(4)
        for _ in range(reader.integer(1))
    )


def _reference(round: int, parent: Parent, node_ids: Sequence[bytes | None]) -> NodeRef:
    if isinstance(parent, NodeRef):
        return parent
    node_id = node_ids[parent] if parent < len(node_ids) else None
    if node_id is None:
        raise VerificationError(f"a parent at seq {parent} is no node of its round")
    return NodeRef(round, parent, node_id)
