"""A city's ledger in the simplest form, to fill a storage backend and to judge its answers.

A `Ledger` makes plausible rounds: ids and hashes are random bytes, since storage
verifies none of them. What the backend is told, the ledger is told too, and
`Ledger.check` then compares all that the backend can be asked.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar, cast

from citychain.ports import StoredRound
from citychain.types import (
    Certificate,
    Head,
    NodeRef,
    ObjectState,
    ObjectWrite,
    RawTransaction,
    Rejection,
    SealedNode,
    SealedRound,
    SubtreeHash,
    Vote,
)

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction
    from citychain.ports import CityStorage

__all__ = ["LEVEL", "Ledger", "pending"]

Key = TypeVar("Key")
Value = TypeVar("Value")

LEVEL = 8
"""The level of subtrees that a `Ledger` makes."""


class Ledger:
    """One city: what is stored in it, in plain lists and dicts.

    Methods named as a noun make something and change nothing; `receive`,
    `commit`, `certify`, `keep` and `prune` tell the ledger what the backend has been told.
    """

    def __init__(self, seed: int, initial: Sequence[ObjectWrite] = ()) -> None:
        self.random = random.Random(seed)
        self.genesis = os.urandom(32)
        """New each time: a storage may know the cities of an earlier run."""
        self.initial = initial
        self.keys: dict[bytes, bytes] = {}
        self.received: dict[bytes, RawTransaction] = {}
        """In order of arrival."""
        self.pruned: set[bytes] = set()
        """Ids of those of which nothing is left but what the ledger says."""
        self.rounds: list[StoredRound] = []
        self.nodes: list[list[SealedNode]] = []
        """By round."""
        self.sealed: dict[bytes, SealedNode] = {}
        self.objects = {w.object: ObjectState(w.version, w.value) for w in initial}
        self.leaf_hashes = b""
        self.subtrees: list[bytes] = []
        """Hashes at level 8."""
        self.notes: dict[str, bytes] = {}
        self.epoch = 0
        self._authors = [self.random.randbytes(32) for _ in range(20)]

    # What can be stored

    def transaction(self, size: int = 100) -> RawTransaction:
        """A new transaction by one of a few authors, with an envelope of this size."""
        author = self.random.choice(self._authors)
        return RawTransaction(self.random.randbytes(32), author, self.random.randbytes(size))

    def transactions(self, count: int, size: int = 100) -> list[RawTransaction]:
        """New transactions."""
        return [self.transaction(size) for _ in range(count)]

    def round(
        self,
        transactions: Iterable[RawTransaction],
        rejected: Iterable[int] = (),
        *,
        writes: Sequence[ObjectWrite] = (),
        pops: bool = False,
        held: Sequence[bytes] = (),
        epoch: int | None = None,
    ) -> SealedRound:
        """The next round, sealing these in this order, some of them rejected by seq."""
        transactions = list(transactions)
        count = len(transactions)
        number = self.head.round + 1
        refused = set(rejected)
        node_ids = [None if i in refused else self._node_id() for i in range(count)]
        earlier = [
            node.ref for nodes in self.nodes[-3:] for node in nodes if node.node_id is not None
        ] or [NodeRef(0, 0, self.genesis)]
        parents: list[tuple[NodeRef, ...]] = []
        for node_id in node_ids:
            chosen = self.random.sample(earlier, self.random.randint(1, min(8, len(earlier))))
            parents.append(() if node_id is None else tuple(chosen))
            if node_id is not None:
                earlier.append(NodeRef(number, len(parents) - 1, node_id))
        size = self.head.size
        return SealedRound(
            round=number,
            time_ms=1_700_000_000_000 + 500 * number,
            epoch=self.epoch if epoch is None else epoch,
            first_index=size,
            record=self.random.randbytes(100 + 34 * count),
            checkpoint=self.random.randbytes(300),
            checkpoint_hash=self.random.randbytes(32),
            transactions=cast("Sequence[Transaction]", transactions),
            verdicts=[
                Rejection("CONFLICT", f"取引 {i}, by me; \x00 'quoted'") if i in refused else None
                for i in range(count)
            ],
            node_ids=node_ids,
            parents=parents,
            pops=[self.random.randbytes(32) for _ in range(count)] if pops else None,
            held=held,
            writes=writes,
            leaf_hashes=self.random.randbytes(32 * count),
            peaks=self.random.randbytes(32 * (size + count).bit_count()),
            subtrees=[
                SubtreeHash(LEVEL, index, self.random.randbytes(32))
                for index in range(size >> LEVEL, (size + count) >> LEVEL)
            ],
        )

    def _node_id(self) -> bytes:
        """A new one. No two cities have one in common: it is a hash over the genesis."""
        return sha256(self.genesis + self.random.randbytes(32)).digest()

    def certificate(self, round: int) -> Certificate:
        """A certificate of a committed round by three representatives."""
        votes = [Vote(self.random.randbytes(32), self.random.randbytes(200)) for _ in range(3)]
        return Certificate(round, self.rounds[round - 1].checkpoint_hash, tuple(votes))

    # What is stored

    def receive(
        self, transactions: Iterable[RawTransaction], keys: dict[bytes, bytes] | None = None
    ) -> None:
        """Note an append."""
        for transaction in transactions:
            self.received.setdefault(transaction.tx_id, transaction)
        for key_id, public_key in (keys or {}).items():
            self.keys.setdefault(key_id, public_key)

    def commit(self, sealed: SealedRound) -> None:
        """Note a committed round."""
        nodes = [
            SealedNode(
                tx_id=transaction.tx_id,
                author=transaction.author,
                round=sealed.round,
                seq=seq,
                node_id=sealed.node_ids[seq],
                parents=sealed.parents[seq],
                rejection=sealed.verdicts[seq],
                pop=None if sealed.pops is None else sealed.pops[seq],
            )
            for seq, transaction in enumerate(sealed.transactions)
        ]
        self.nodes.append(nodes)
        self.sealed.update({node.tx_id: node for node in nodes})
        self.leaf_hashes += sealed.leaf_hashes
        self.objects.update({w.object: ObjectState(w.version, w.value) for w in sealed.writes})
        self.subtrees += [subtree.hash for subtree in sealed.subtrees]
        self.epoch = sealed.epoch
        self.rounds.append(
            StoredRound(
                round=sealed.round,
                time_ms=sealed.time_ms,
                first_index=sealed.first_index,
                size=len(self.leaf_hashes) // 32,
                record=sealed.record,
                checkpoint=sealed.checkpoint,
                checkpoint_hash=sealed.checkpoint_hash,
                peaks=sealed.peaks,
            )
        )

    def certify(self, certificates: Iterable[Certificate]) -> None:
        """Note certificates."""
        for certificate in certificates:
            stored = self.rounds[certificate.round - 1]
            if stored.certificate is None:
                self.rounds[certificate.round - 1] = replace(stored, certificate=certificate)

    def keep(self, notes: Mapping[str, bytes]) -> None:
        """Note notes."""
        self.notes.update(notes)

    def prune(self, tx_ids: Iterable[bytes]) -> None:
        """Note what was pruned; what has no place stays."""
        self.pruned.update(tx_id for tx_id in tx_ids if tx_id in self.sealed)

    # What follows from it

    @property
    def head(self) -> Head:
        """Where the ledger stands."""
        if not self.rounds:
            return Head()
        last = self.rounds[-1]
        certified = 0
        while certified < len(self.rounds) and self.rounds[certified].certificate is not None:
            certified += 1
        return Head(
            round=last.round,
            time_ms=last.time_ms,
            epoch=self.epoch,
            size=last.size,
            peaks=last.peaks,
            checkpoint=last.checkpoint,
            checkpoint_hash=last.checkpoint_hash,
            certified_round=certified,
        )

    @property
    def pending(self) -> list[RawTransaction]:
        """What has no place, in order of arrival."""
        return [t for t in self.received.values() if t.tx_id not in self.sealed]

    @property
    def linked(self) -> list[SealedNode]:
        """All linked nodes in order of place."""
        return [node for nodes in self.nodes for node in nodes if node.node_id is not None]

    @property
    def tips(self) -> list[NodeRef]:
        """Linked nodes of the latest round that has any."""
        linked = self.linked
        return [node.ref for node in linked if node.round == linked[-1].round]

    def children(self, parent: NodeRef) -> list[SealedNode]:
        """Nodes that name the parent, in order of place."""
        return [node for node in self.linked if parent in node.parents]

    async def check(self, city: CityStorage, sample: int = 50, ids: int | None = None) -> None:
        """Assert that the backend answers as the ledger does.

        Children, and the ranges of hashes, are asked for ``sample`` times; of ids, ``ids`` of
        each kind, or all.
        """
        absent = self.random.randbytes(32)
        linked = self.linked
        size = self.head.size
        last = len(self.rounds)

        def some(known: Mapping[Key, Value]) -> dict[Key, Value]:
            if ids is None or len(known) <= ids:
                return dict(known)
            return {key: known[key] for key in self.random.sample(list(known), ids)}

        _same("head()", await city.head(), self.head)
        _same("rounds()", list(await city.rounds(1, last + 1)), self.rounds)
        for number, nodes in enumerate(self.nodes, start=1):
            _same(f"round_nodes({number})", list(await city.round_nodes(number)), nodes)
        _same("round_nodes() of no round", list(await city.round_nodes(last + 1)), [])
        hashes = {stored.round: stored.checkpoint_hash for stored in self.rounds}
        _same("checkpoint_hashes()", await city.checkpoint_hashes([*hashes, last + 1]), hashes)
        received = some(self.received)
        raw = {tx_id: it for tx_id, it in received.items() if tx_id not in self.pruned}
        asked = [*some(self.sealed), *received, absent]
        sealed = {tx_id: self.sealed[tx_id] for tx_id in asked if tx_id in self.sealed}
        _same("find()", await city.find(asked), sealed)
        by_id = some({node.ref.node_id: node for node in linked})
        _same("nodes()", await city.nodes([*by_id, absent]), by_id)
        latest = {node.author: node.ref for node in linked}
        authors = {transaction.author for transaction in self.received.values()}
        _same("latest()", await city.latest([*authors, *latest, absent]), latest)
        _same("tips()", list(await city.tips()), self.tips)
        objects = some(self.objects)
        _same("objects()", await city.objects([*objects, absent.hex()]), objects)
        _same("keys()", await city.keys([*self.keys, absent]), self.keys)
        _same("raw()", await city.raw([*received, absent]), raw)
        waiting = await pending(city, limit=len(self.received) // 3 + 1)
        _same("pending(), page by page,", waiting, self.pending)
        notes = await city.notes("")
        _same("notes('')", notes, self.notes)
        _same("the order of notes('')", list(notes), sorted(self.notes, key=str.encode))
        _same("leaf_hashes()", await city.leaf_hashes(0, size + 3), self.leaf_hashes)
        subtrees = await city.subtree_hashes(LEVEL, 0, size)
        _same("subtree_hashes()", subtrees, b"".join(self.subtrees))
        for _ in range(sample if size else 0):
            begin, end = sorted(self.random.choices(range(size + 1), k=2))
            found = await city.leaf_hashes(begin, end)
            _same(f"leaf_hashes({begin}, {end})", found, self.leaf_hashes[32 * begin : 32 * end])
        for parent in [NodeRef(0, 0, self.genesis), *(n.ref for n in linked)][:sample]:
            expected = self.children(parent)
            children = list(await city.children(parent, (0, 0), len(expected) + 1))
            _same(f"children() of {parent.round}/{parent.seq}", children, expected)


def _same(what: str, got: object, expected: object) -> None:
    assert got == expected, f"{what} must answer what was stored (right side), and answers other"


async def pending(city: CityStorage, limit: int = 1000) -> list[RawTransaction]:
    """All pending transactions, read in pages of ``limit``."""
    found: list[RawTransaction] = []
    cursor = None
    while True:
        page = await city.pending(cursor, limit)
        assert len(page.transactions) <= limit, "a page of pending() is longer than its limit"
        found += page.transactions
        once = len({t.tx_id for t in found}) == len(found)
        assert once, "pending() gives a transaction twice: a page begins after its cursor"
        if page.cursor is None:
            return found
        assert page.cursor != cursor, "the cursor of a page of pending() must lead on"
        cursor = page.cursor
