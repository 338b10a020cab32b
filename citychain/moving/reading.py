"""Reads rounds from what any `CityStorage` offers, and builds them anew.

All that is hashed is hashed again on the way: a source that is damaged is found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from citychain import checkpoint, record
from citychain._native import link
from citychain._native.transactions import Transaction, decode_batch
from citychain.checkpoint import Checkpoint
from citychain.crypto import merkle
from citychain.errors import InvalidRound, VerificationError
from citychain.moving.pages import RoundPages
from citychain.ports import Compute, StoredRound
from citychain.record import RoundRecord
from citychain.types import (
    NodeRef,
    Parent,
    RawTransaction,
    SealedNode,
    SealedRound,
    SubtreeHash,
)

__all__ = ["GivenRounds", "RoundsSource", "read_page", "rebuilt"]


class RoundsSource(Protocol):
    """What is read of a `CityStorage`, or of what stands in for one."""

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """See `CityStorage.rounds`."""

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `CityStorage.find`."""

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """See `CityStorage.raw`."""

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """See `CityStorage.leaf_hashes`."""


class GivenRounds(NamedTuple):
    """What the source has of some rounds."""

    rounds: Sequence[StoredRound]
    decoded: Sequence[RoundRecord]
    nodes: Mapping[bytes, SealedNode]
    """By transaction id, as the next."""
    raw: Mapping[bytes, RawTransaction]
    leaf_hashes: bytes
    """Of all of them, one round after the other."""


async def read_page(
    source: RoundsSource, first: int, last: int, pages: RoundPages, compute: Compute
) -> GivenRounds:
    """The rounds from ``first`` on, as many as make a page, and none after ``last``.

    Raises:
        InvalidRound: the source does not have one of them, or it cannot be read.
    """
    rounds = await source.rounds(first, pages.limit(last + 1 - first))
    numbers = [stored.round for stored in rounds]
    if not numbers or numbers != list(range(first, first + len(numbers))):
        raise InvalidRound(first, "round", "the source does not give it, or one soon after it")
    pages.seen(rounds)
    try:
        decoded = await compute(_decoded, rounds)
    except VerificationError as error:
        raise InvalidRound(first, "layout", f"{error}, in this round or soon after it") from None
    tx_ids = [tx_id for item in decoded for tx_id in item.tx_ids]
    return GivenRounds(
        rounds,
        decoded,
        await source.find(tx_ids) if tx_ids else {},
        await source.raw(tx_ids) if tx_ids else {},
        await source.leaf_hashes(rounds[0].first_index, rounds[-1].size),
    )


def _decoded(rounds: Sequence[StoredRound]) -> list[RoundRecord]:
    return [record.decode(stored.record) for stored in rounds]


def rebuilt(
    genesis: bytes, given: GivenRounds, tree: merkle.Tree, previous: bytes
) -> tuple[list[SealedRound], set[bytes]]:
    """Rounds as they were committed, and who has a seat; leaves are appended to ``tree``.

    Raises:
        InvalidRound: the parts of one do not fit together.
    """
    rounds: list[SealedRound] = []
    seats: set[bytes] = set()
    begin = tree.size
    for stored, decoded in zip(given.rounds, given.decoded, strict=True):
        if missing := [tx_id for tx_id in decoded.tx_ids if tx_id not in given.raw]:
            raise InvalidRound(
                stored.round,
                "transactions",
                f"{len(missing)} are not in the source any more, {missing[0].hex()} the first; if "
                "they were pruned, citychain rebuild makes the city from its archive",
            )
        span = slice(32 * (tree.size - begin), 32 * (tree.size - begin + len(decoded.tx_ids)))
        try:
            sealed, claimed = _rebuilt_round(
                stored,
                decoded,
                [given.nodes[tx_id] for tx_id in decoded.tx_ids if tx_id in given.nodes],
                [given.raw[tx_id] for tx_id in decoded.tx_ids],
                given.leaf_hashes[span],
                tree,
                previous,
            )
        except VerificationError as error:
            raise InvalidRound(stored.round, "copy", str(error)) from None
        if claimed.genesis != genesis:
            raise InvalidRound(stored.round, "genesis", "it is another city's")
        rounds.append(sealed)
        previous = stored.checkpoint_hash
        for committee in (claimed.committee, claimed.next_committee or ()):
            seats.update(seat.key_id for seat in committee)
    return rounds, seats


def _rebuilt_round(
    stored: StoredRound,
    decoded: RoundRecord,
    nodes: Sequence[SealedNode],
    raw: Sequence[RawTransaction],
    leaf_hashes: bytes,
    tree: merkle.Tree,
    previous: bytes,
) -> tuple[SealedRound, Checkpoint]:
    """One round, and its checkpoint; its leaves are appended to ``tree``.

    Raises:
        VerificationError: the parts do not fit together.
    """
    claimed = checkpoint.decode(stored.checkpoint)
    transactions = _opened(decoded, raw)
    node_ids = _node_ids(stored.round, decoded, nodes, claimed)
    hashes = link.leaf_hashes(
        round=stored.round,
        tx_ids=decoded.tx_ids,
        node_ids=node_ids,
        rejections=decoded.verdicts,
    )
    first_index = tree.size
    subtrees = [SubtreeHash(*subtree) for subtree in tree.append(hashes)]
    for what, here, due in (
        ("round of the record", decoded.round, stored.round),
        ("round of the checkpoint", claimed.round, stored.round),
        ("city of the record", decoded.genesis, claimed.genesis),
        ("hash of the record", record.record_hash(record.without_poh(stored.record)),
         claimed.record_hash),
        ("checkpoint's hash", checkpoint.checkpoint_hash(stored.checkpoint),
         stored.checkpoint_hash),
        ("previous checkpoint", claimed.previous, previous),
        ("first leaf", stored.first_index, first_index),
        ("leaf hashes", leaf_hashes, hashes),
        ("log size", (claimed.size, stored.size), (tree.size, tree.size)),
        ("log root", claimed.root, tree.root()),
        ("log's peaks", stored.peaks, tree.peaks),
        ("time", stored.time_ms, decoded.time_ms),
    ):  # fmt: skip
        if here != due:
            raise VerificationError(f"the {what} in the source is not what its other parts give")
    pops = [node.pop for node in nodes if node.pop is not None]
    sealed = SealedRound(
        round=stored.round,
        time_ms=stored.time_ms,
        epoch=decoded.epoch,
        first_index=stored.first_index,
        record=stored.record,
        checkpoint=stored.checkpoint,
        checkpoint_hash=stored.checkpoint_hash,
        transactions=transactions,
        verdicts=decoded.verdicts,
        node_ids=node_ids,
        parents=[node.parents for node in nodes],
        pops=pops if pops else None,
        held=decoded.held,
        writes=decoded.writes,
        leaf_hashes=hashes,
        peaks=stored.peaks,
        subtrees=subtrees,
    )
    return sealed, claimed


def _opened(decoded: RoundRecord, raw: Sequence[RawTransaction]) -> list[Transaction]:
    try:
        transactions = decode_batch([item.envelope for item in raw])
    except ValueError as error:
        raise VerificationError(f"a transaction in the source cannot be read: {error}") from None
    for tx_id, item, transaction in zip(decoded.tx_ids, raw, transactions, strict=True):
        if not transaction.tx_id == item.tx_id == tx_id or transaction.author != item.author:
            raise VerificationError(f"transaction {tx_id.hex()} in the source is another one")
    return transactions


def _node_ids(
    round: int, decoded: RoundRecord, nodes: Sequence[SealedNode], claimed: Checkpoint
) -> list[bytes | None]:
    """Ids of a round's nodes, computed anew."""
    places = [(node.tx_id, node.round, node.seq) for node in nodes]
    if places != [(tx_id, round, seq) for seq, tx_id in enumerate(decoded.tx_ids)]:
        raise VerificationError("the nodes in the source are not those of the record")
    if [node.rejection for node in nodes] != list(decoded.verdicts):
        raise VerificationError("a verdict in the source is not that of the record")
    pops = [node.pop for node in nodes if node.pop is not None]
    if pops and len(pops) != len(nodes):
        raise VerificationError("some nodes in the source have no judgement of place")
    try:
        node_ids = link.node_ids(
            rule=claimed.rule,
            genesis=claimed.genesis,
            round=round,
            tx_ids=decoded.tx_ids,
            parents=[tuple(_parent(round, ref) for ref in node.parents) for node in nodes],
            approved=[verdict is None for verdict in decoded.verdicts],
            pops=pops if pops else None,
        )
    except ValueError as error:
        raise VerificationError(f"the nodes in the source are none: {error}") from None
    if node_ids != [node.node_id for node in nodes]:
        raise VerificationError("a node's id in the source is not what its parts give")
    return node_ids


def _parent(round: int, parent: NodeRef) -> Parent:
    return parent.seq if parent.round == round else parent
