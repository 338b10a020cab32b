"""How rows become BSON: ids, received transactions, the body of a round, nodes.

What a transaction costs us here is paid for each of them, so documents with fixed fields are put
together from bytes, without the driver's encoder.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from citychain.types import NodeRef, ObjectWrite, Rejection, SealedNode, SubtreeHash

if TYPE_CHECKING:
    from citychain.types import RawTransaction, SealedRound

__all__ = [
    "BODY_BYTES_MAX",
    "Columns",
    "node_documents",
    "of_city",
    "place_key",
    "raw_document",
    "raw_stub",
    "sealed_node",
    "subtree_key",
]

BODY_BYTES_MAX: Final = 15 << 20
"""A round's body beyond it is kept in parts of this size."""

_ID_BYTES: Final = 32
_UINT64_MAX: Final = (1 << 64) - 1
_PLACE: Final = struct.Struct(">QI")
"""A parent's place: round, seq."""
_PARENT: Final = struct.Struct(">QI32s")
_SUBTREE: Final = struct.Struct(">HQ32s")
_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")
_NOTHING: Final = bytes(_ID_BYTES)
_INDEX_NAMES: Final = tuple(b"\x05%d\0\x20\0\0\0\0" % index for index in range(256))
"""Heads of the elements of an array of ids."""


def of_city(city: bytes, rest: bytes) -> bytes:
    """An ``_id`` of something in a city."""
    return city + rest


def place_key(city: bytes, round: int) -> bytes:
    """The ``_id`` of a round's document; one that cannot exist becomes the nearest that can."""
    return city + min(max(round, 0), _UINT64_MAX).to_bytes(8, "big")


def subtree_key(city: bytes, level: int, number: int) -> bytes:
    """The ``_id`` of a subtree hash."""
    return city + level.to_bytes(2, "big") + min(max(number, 0), _UINT64_MAX).to_bytes(8, "big")


def _bin(name: str, size: int = _ID_BYTES) -> bytes:
    """The head of a binary field of known size."""
    return b"\x05" + name.encode() + b"\0" + _INT32.pack(size) + b"\0"


def _document(*parts: bytes) -> bytes:
    """A document of encoded fields."""
    content = b"".join(parts)
    return _INT32.pack(len(content) + 5) + content + b"\0"


# --- received transactions ------------------------------------------------------

_RAW_ID: Final = b"\x07_id\0"
_CITY: Final = _bin("city")
_TX_ID: Final = _bin("tx_id")
_AUTHOR: Final = _bin("author")
_ARRIVAL: Final = b"\x12arrival\0"
_PENDING: Final = b"\x08pending\0\x01"
_WAKE: Final = b"\x08wake\0\x01"
_ENVELOPE: Final = b"\x05envelope\0"


def raw_document(
    city: bytes, transaction: RawTransaction, arrival: int, wake: bool
) -> RawBSONDocument:
    """A received transaction.

    Args:
        wake: Whether other servers are to hear of it: it is the last one of its group.
    """
    envelope = transaction.envelope
    return RawBSONDocument(
        _document(
            _RAW_ID,
            ObjectId().binary,
            _CITY,
            city,
            _TX_ID,
            transaction.tx_id,
            _AUTHOR,
            transaction.author,
            _ARRIVAL,
            _INT64.pack(arrival),
            _PENDING,
            _WAKE if wake else b"",
            _ENVELOPE,
            _INT32.pack(len(envelope)),
            b"\0",
            envelope,
        )
    )


def raw_stub(city: bytes, tx_id: bytes) -> RawBSONDocument:
    """Stands for a transaction that is sealed and was never received."""
    return RawBSONDocument(_document(_RAW_ID, ObjectId().binary, _CITY, city, _TX_ID, tx_id))


# --- rounds ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Columns:
    """What a round's document carries of its transactions: all else is redone from it."""

    tx_ids: Sequence[bytes]
    authors: Sequence[bytes]
    node_ids: Sequence[bytes | None]
    parents: Sequence[tuple[NodeRef, ...]]
    verdicts: Sequence[Rejection | None]
    pops: Sequence[bytes] | None
    writes: Sequence[ObjectWrite]
    subtrees: Sequence[SubtreeHash]

    @classmethod
    def of(cls, sealed: SealedRound) -> Columns:
        """Those of a round, which must fit together."""
        tx_ids = [transaction.tx_id for transaction in sealed.transactions]
        count = len(tx_ids)
        columns = cls(
            tx_ids=tx_ids,
            authors=[transaction.author for transaction in sealed.transactions],
            node_ids=list(sealed.node_ids),
            parents=[tuple(parents) for parents in sealed.parents],
            verdicts=list(sealed.verdicts),
            pops=None if sealed.pops is None else list(sealed.pops),
            writes=list(sealed.writes),
            subtrees=list(sealed.subtrees),
        )
        lengths = {len(columns.node_ids), len(columns.parents), len(columns.verdicts)}
        if columns.pops is not None:
            lengths.add(len(columns.pops))
        if lengths != {count} or len(sealed.leaf_hashes) != _ID_BYTES * count:
            raise ValueError(f"the columns of round {sealed.round} differ in length")
        ids = (*columns.tx_ids, *columns.authors, *(columns.pops or ()))
        if any(len(id) != _ID_BYTES for id in ids):
            raise ValueError("ids are 32 bytes long")
        for node_id, verdict in zip(columns.node_ids, columns.verdicts, strict=True):
            if (node_id is None) != (verdict is not None):
                raise ValueError("a transaction has a node id or a rejection")
        return columns

    def body(self, sealed: SealedRound) -> bytes:
        """The body of the round's document, encoded."""
        return bson.encode(
            {
                "record": sealed.record,
                "leaf_hashes": sealed.leaf_hashes,
                "tx_ids": b"".join(self.tx_ids),
                "authors": b"".join(self.authors),
                "node_ids": b"".join([node_id or _NOTHING for node_id in self.node_ids]),
                "parents": b"".join(
                    [
                        bytes((len(parents),)) + b"".join([_PARENT.pack(*p) for p in parents])
                        for parents in self.parents
                    ]
                ),
                "rejections": [
                    {"seq": seq, "code": verdict.code, "reason": verdict.reason}
                    for seq, verdict in enumerate(self.verdicts)
                    if verdict is not None
                ],
                "pops": None if self.pops is None else b"".join(self.pops),
                "writes": [
                    {"object": object, "version": version, "value": value}
                    for object, version, value in self.writes
                ],
                "subtrees": b"".join([_SUBTREE.pack(*subtree) for subtree in self.subtrees]),
            }
        )

    @classmethod
    def read(cls, body: dict[str, Any]) -> Columns:
        """Those of a decoded body; what was left out of it is empty."""
        rejections = {
            entry["seq"]: Rejection(entry["code"], entry["reason"]) for entry in body["rejections"]
        }
        tx_ids = _ids(body["tx_ids"])
        seqs = range(len(tx_ids))
        return cls(
            tx_ids=tx_ids,
            authors=_ids(body["authors"]),
            node_ids=[
                None if seq in rejections else node_id
                for seq, node_id in enumerate(_ids(body["node_ids"]))
            ],
            parents=_parents(body["parents"]),
            verdicts=[rejections.get(seq) for seq in seqs],
            pops=None if body["pops"] is None else _ids(body["pops"]),
            writes=[
                ObjectWrite(write["object"], write["version"], write["value"])
                for write in body.get("writes", ())
            ],
            subtrees=[
                SubtreeHash(*fields) for fields in _SUBTREE.iter_unpack(body.get("subtrees", b""))
            ],
        )

    def nodes(self, round: int) -> list[SealedNode]:
        """The round's transactions in order of seq."""
        pops: Sequence[bytes | None] = self.pops or [None] * len(self.tx_ids)
        return [
            SealedNode(tx_id, author, round, seq, node_id, parents, verdict, pop)
            for seq, (tx_id, author, node_id, parents, verdict, pop) in enumerate(
                zip(
                    self.tx_ids,
                    self.authors,
                    self.node_ids,
                    self.parents,
                    self.verdicts,
                    pops,
                    strict=True,
                )
            )
        ]


def _ids(packed: bytes) -> list[bytes]:
    return [packed[at : at + _ID_BYTES] for at in range(0, len(packed), _ID_BYTES)]


def _parents(packed: bytes) -> list[tuple[NodeRef, ...]]:
    parents = []
    at = 0
    while at < len(packed):
        begin, at = at + 1, at + 1 + packed[at] * _PARENT.size
        parents.append(tuple([NodeRef(*p) for p in _PARENT.iter_unpack(packed[begin:at])]))
    return parents


# --- nodes ----------------------------------------------------------------------

_NODE_ID: Final = _bin("_id")
_REJECTED_ID: Final = _bin("_id", 2 * _ID_BYTES)
_POP: Final = _bin("pop")
_POH: Final = _bin("poh")
_ROUND: Final = b"\x12round\0"
_SEQ: Final = b"\x10seq\0"
_TS: Final = b"\x09ts\0"
_LINKED: Final = b"\x08linked\0\x01"
_PARENT_IDS: Final = b"\x04parent_ids\0"
_PLACES: Final = b"\x05parent_places\0"
_REJECTION: Final = b"\x03rejection\0"
_PAYLOAD: Final = b"\x03payload\0"


def node_documents(
    city: bytes,
    round: int,
    time_ms: int,
    columns: Columns,
    payloads: Sequence[bytes | None],
    *,
    rule: str | None,
    poh: bytes | None,
) -> list[RawBSONDocument]:
    """The documents of a round's transactions in ``dag_nodes``.

    Args:
        payloads: For each transaction what people can query, encoded; ``None`` if unknown.
        rule: Of the city.
        poh: Hash of the round's proof-of-history entry.
    """
    in_city = _CITY + city
    of_round = _ROUND + _INT64.pack(round) + _TS + _INT64.pack(time_ms)
    if rule is not None:
        text = rule.encode()
        of_round += b"\x02rule\0" + _INT32.pack(len(text) + 1) + text + b"\0"
    if poh is not None:
        of_round += _POH + poh
    documents = []
    for node, payload in zip(columns.nodes(round), payloads, strict=True):
        if node.node_id is not None:
            id, link = _NODE_ID + node.node_id, _link(node.parents)
        else:
            assert node.rejection is not None
            id = _REJECTED_ID + city + node.tx_id
            link = _REJECTION + bson.encode(node.rejection._asdict())
        documents.append(
            RawBSONDocument(
                _document(
                    id,
                    in_city,
                    _TX_ID,
                    node.tx_id,
                    _AUTHOR,
                    node.author,
                    of_round,
                    _SEQ,
                    _INT32.pack(node.seq),
                    link,
                    b"" if node.pop is None else _POP + node.pop,
                    b"" if payload is None else _PAYLOAD + payload,
                )
            )
        )
    return documents


def _link(parents: Sequence[NodeRef]) -> bytes:
    ids = _document(*(_INDEX_NAMES[index] + parent.node_id for index, parent in enumerate(parents)))
    places = b"".join([_PLACE.pack(parent.round, parent.seq) for parent in parents])
    return _LINKED + _PARENT_IDS + ids + _PLACES + _INT32.pack(len(places)) + b"\0" + places


def sealed_node(document: dict[str, Any]) -> SealedNode:
    """A document of ``dag_nodes``, without its payload, as storage answers it."""
    rejection = document.get("rejection")
    parents: tuple[NodeRef, ...] = ()
    if rejection is None:
        places = _PLACE.iter_unpack(document["parent_places"])
        parents = tuple(
            NodeRef(round, seq, node_id)
            for (round, seq), node_id in zip(places, document["parent_ids"], strict=True)
        )
    return SealedNode(
        tx_id=document["tx_id"],
        author=document["author"],
        round=document["round"],
        seq=document["seq"],
        node_id=document["_id"] if rejection is None else None,
        parents=parents,
        rejection=None if rejection is None else Rejection(rejection["code"], rejection["reason"]),
        pop=document.get("pop"),
    )
