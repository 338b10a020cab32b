"""Copies a city's ledger from one storage to another, by what any `CityStorage` offers.

A round is built anew from its record and from what the source has of it, and all that is hashed
is hashed again on the way: a source that is damaged is found out before the copy is used. What was
copied before is not copied again, so a copy that was broken off goes on where it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from citychain import checkpoint, record
from citychain._native import link
from citychain._native.transactions import Transaction, decode_batch
from citychain.checkpoint import Checkpoint
from citychain.crypto import merkle
from citychain.errors import InvalidRound, RoundTaken, StorageError, VerificationError
from citychain.moving.pages import TRANSACTIONS_PAGE, RoundPages
from citychain.notes import HOME
from citychain.ports import CityStorage, Compute, StoredRound
from citychain.record import RoundRecord
from citychain.types import (
    NodeRef,
    Parent,
    RawTransaction,
    SealedNode,
    SealedRound,
    SubtreeHash,
)

__all__ = ["CityCopy", "copy_waiting"]

NOTES_BYTES: Final = 4 << 20
"""Of notes that are kept in one call."""
KEYS_KNOWN_MAX: Final = 1 << 17
"""Key ids whose copying is remembered."""

Told = Callable[[int, int], None]
"""Told how many rounds are done, and of how many."""


class _Given(NamedTuple):
    """What the source has of some rounds."""

    rounds: Sequence[StoredRound]
    decoded: Sequence[RoundRecord]
    nodes: Mapping[bytes, SealedNode]
    """By transaction id, as the next."""
    raw: Mapping[bytes, RawTransaction]
    leaf_hashes: bytes
    """Of all of them, one round after the other."""


class CityCopy:
    """Copies one city, as far as it has come, as often as it is asked to.

    Args:
        source: Goes on being written to meanwhile.
        target: Nobody else's to write to.
    """

    def __init__(
        self, genesis: bytes, source: CityStorage, target: CityStorage, compute: Compute
    ) -> None:
        self._genesis = genesis
        self._source = source
        self._target = target
        self._compute = compute
        self._tree = merkle.Tree()
        self._previous = genesis
        self._pages = RoundPages()
        self._keys: set[bytes] = set()
        self._before = 0
        self.round = 0
        """The last round of the copy."""

    @property
    def transactions(self) -> int:
        """Copied so far, of those that have a place."""
        return self._tree.size - self._before

    async def begin(self) -> None:
        """Take up the thread where the target has it.

        Raises:
            StorageError: the target has another history than the source.
        """
        head = await self._target.head()
        if head.round:
            same = await self._source.checkpoint_hashes([head.round])
            if same.get(head.round) != head.checkpoint_hash:
                raise StorageError(
                    f"it has another history of this city: its round {head.round} is not the "
                    "source's; give it another storage"
                )
            self._previous = head.checkpoint_hash
        self._tree = merkle.Tree(head.size, head.peaks)
        self._before = head.size
        self.round = head.round

    async def rounds(self, told: Told = lambda done, of: None) -> int:
        """Copy the rounds that the source has now, and their certificates; how many there were.

        Raises:
            InvalidRound: the source has a round that is not whole.
        """
        first, last = self.round + 1, (await self._source.head()).round
        reading = asyncio.create_task(self._page(first, last))
        try:
            while (given := await reading) is not None:
                # The next ones are read while these are written.
                reading = asyncio.create_task(self._page(given.rounds[-1].round + 1, last))
                await self._write(given)
                told(self.round, last)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await self._certify()
        return max(0, last + 1 - first)

    async def rest(self) -> None:
        """Copy what stands beside the rounds: notes, and transactions without a place."""
        await self._notes()
        await copy_waiting(self._source, self._target)

    # --- rounds

    async def _page(self, first: int, last: int) -> _Given | None:
        """The next rounds; ``None`` after the last."""
        if first > last:
            return None
        source = self._source
        rounds = await source.rounds(first, self._pages.limit(last + 1 - first))
        numbers = [stored.round for stored in rounds]
        if not numbers or numbers != list(range(first, first + len(numbers))):
            raise InvalidRound(first, "round", "the source does not give it, or one soon after it")
        self._pages.seen(rounds)
        try:
            decoded = await self._compute(_decoded, rounds)
        except VerificationError as error:
            raise InvalidRound(
                first, "layout", f"{error}, in this round or soon after it"
            ) from None
        tx_ids = [tx_id for item in decoded for tx_id in item.tx_ids]
        return _Given(
            rounds,
            decoded,
            await source.find(tx_ids) if tx_ids else {},
            await source.raw(tx_ids) if tx_ids else {},
            await source.leaf_hashes(rounds[0].first_index, rounds[-1].size),
        )

    async def _write(self, given: _Given) -> None:
        rounds, seats = await self._compute(
            _rebuilt, self._genesis, given, self._tree, self._previous
        )
        self._previous = rounds[-1].checkpoint_hash
        await self._append(list(given.raw.values()), seats)
        for sealed in rounds:
            await self._commit(sealed)
        certificates = [stored.certificate for stored in given.rounds]
        if there := [certificate for certificate in certificates if certificate is not None]:
            await self._target.certify(there)

    async def _commit(self, sealed: SealedRound) -> None:
        try:
            await self._target.commit(sealed)
        except RoundTaken:
            # By an earlier call of ours that was cut off, or it is somebody else's.
            found = await self._target.checkpoint_hashes([sealed.round])
            if found.get(sealed.round) != sealed.checkpoint_hash:
                raise
        self.round = sealed.round

    async def _certify(self) -> None:
        """Bring certificates that came after their rounds were copied."""
        first, pages = (await self._target.head()).certified_round + 1, RoundPages()
        while first <= self.round:
            page = await self._source.rounds(first, pages.limit(self.round + 1 - first))
            certificates = [stored.certificate for stored in page if stored.certificate is not None]
            if certificates:
                await self._target.certify(certificates)
            pages.seen(page)
            first += len(page)

    # --- what stands beside them

    async def _append(
        self, transactions: Sequence[RawTransaction], key_ids: Iterable[bytes] = ()
    ) -> None:
        wanted = {*(item.author for item in transactions), *key_ids} - self._keys
        keys = await self._source.keys(list(wanted)) if wanted else {}
        if transactions or keys:
            await self._target.append(transactions, keys)
        if len(self._keys) > KEYS_KNOWN_MAX:
            self._keys.clear()
        self._keys.update(keys)

    async def _notes(self) -> None:
        there = await self._target.notes("")
        batch: dict[str, bytes] = {}
        for name, note in (await self._source.notes("")).items():
            if name == HOME or there.get(name) == note:
                continue
            batch[name] = note
            if sum(map(len, batch.values())) >= NOTES_BYTES:
                await self._target.keep(batch)
                batch = {}
        if batch:
            await self._target.keep(batch)


async def copy_waiting(source: CityStorage, target: CityStorage) -> None:
    """Copy transactions without a place, and their authors' keys; what is there stays as it is."""
    there = set(await target.pending_ids())
    missing = [tx_id for tx_id in await source.pending_ids() if tx_id not in there]
    for start in range(0, len(missing), TRANSACTIONS_PAGE):
        page = missing[start : start + TRANSACTIONS_PAGE]
        raw = await source.raw(page)
        transactions = [raw[tx_id] for tx_id in page if tx_id in raw]
        if transactions:
            authors = list({item.author for item in transactions})
            await target.append(transactions, await source.keys(authors))


def _decoded(rounds: Sequence[StoredRound]) -> list[RoundRecord]:
    return [record.decode(stored.record) for stored in rounds]


def _rebuilt(
    genesis: bytes, given: _Given, tree: merkle.Tree, previous: bytes
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
                f"{len(missing)} are not in the source any more, {missing[0].hex()} the first",
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
