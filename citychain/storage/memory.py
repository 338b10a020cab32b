"""A storage backend in plain dicts: nothing outlives the process.

It is the shortest complete answer to `citychain.ports.StorageBackend`: read it
to learn what a backend does, then write your own. No call here awaits anything
before its effect is complete, and that alone makes every write atomic and
every read consistent.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from citychain.errors import LeaseLost, NameTaken, RoundTaken, StorageError
from citychain.genesis import city_name
from citychain.notes import HOME, not_known
from citychain.ports import PendingPage, StoredRound
from citychain.types import Head, NodeRef, ObjectState, SealedNode

if TYPE_CHECKING:
    from citychain.ports import Clock, StorageContext
    from citychain.types import Certificate, ObjectWrite, RawTransaction, SealedRound

__all__ = ["MemoryBackend", "MemoryCity", "Names", "PrunableCity"]

_CURSOR: Final = struct.Struct(">Q")
"""Arrival number of the last transaction of a page."""


class Names:
    """Which city has which name, for a backend that knows all of its cities."""

    def __init__(self) -> None:
        self._cities: dict[str, tuple[bytes, bytes]] = {}
        """Genesis id and file by name."""

    def take(self, genesis: bytes, genesis_file: bytes) -> None:
        """Give a city its name, if the file says one.

        Raises:
            NameTaken: another city has it.
        """
        if (name := city_name(genesis_file)) is None:
            return
        there, file = self._cities.setdefault(name, (genesis, genesis_file))
        if there != genesis:
            raise NameTaken(name, file)

    def free(self, genesis: bytes) -> None:
        """Let another city have the name of this one."""
        for name in [name for name, (city, _) in self._cities.items() if city == genesis]:
            del self._cities[name]


class MemoryBackend:
    """A `StorageBackend` that forgets everything when it goes."""

    def __init__(self, context: StorageContext) -> None:
        self._clock = context.clock
        self._cities: dict[bytes, MemoryCity] = {}
        self._names = Names()

    async def __aenter__(self) -> MemoryBackend:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> MemoryCity:
        """See `StorageBackend.city`."""
        self._names.take(genesis, genesis_file)
        if genesis not in self._cities:
            self._cities[genesis] = self._founded(genesis_file, initial)
        return self._cities[genesis]

    def _founded(self, genesis_file: bytes, initial: Sequence[ObjectWrite]) -> MemoryCity:
        return PrunableCity(self._clock, genesis_file, initial)

    async def forget(self, city: bytes, initial: Sequence[ObjectWrite]) -> None:
        """See `citychain.upkeep.SupportsForgetting.forget`."""
        if (left := self._cities.get(city)) is not None:
            self._cities[city] = self._founded(left.genesis_file, initial)
            if HOME in left._notes:
                self._cities[city]._notes[HOME] = left._notes[HOME]
            self._names.free(city)


class MemoryCity:
    """One city's `CityStorage`."""

    def __init__(self, clock: Clock, genesis_file: bytes, initial: Sequence[ObjectWrite]) -> None:
        self._clock = clock
        self.genesis_file = genesis_file
        """As it was given when the city was new."""
        self._keys: dict[bytes, bytes] = {}
        self._arrivals = 0
        self._raw: dict[bytes, RawTransaction] = {}
        self._pending: dict[bytes, int] = {}
        """Arrival number by transaction id, in arrival order."""
        self._epoch = 0
        self._head = Head()
        self._rounds: list[StoredRound] = []
        self._nodes_by_round: list[list[SealedNode]] = []
        self._sealed: dict[bytes, SealedNode] = {}
        self._linked: dict[bytes, SealedNode] = {}
        self._children: dict[NodeRef, list[SealedNode]] = {}
        self._latest: dict[bytes, NodeRef] = {}
        self._tips: list[NodeRef] = []
        self._objects = {w.object: ObjectState(w.version, w.value) for w in initial}
        self._leaf_hashes = bytearray()
        self._notes: dict[str, bytes] = {}
        self._subtrees: dict[tuple[int, int], bytes] = {}

    # Intake

    async def append(
        self, transactions: Sequence[RawTransaction], keys: Mapping[bytes, bytes]
    ) -> None:
        """See `CityStorage.append`."""
        for key_id, public_key in keys.items():
            self._keys.setdefault(key_id, public_key)
        for transaction in transactions:
            tx_id = transaction.tx_id
            if tx_id in self._raw or tx_id in self._sealed:
                continue
            self._arrivals += 1
            self._raw[tx_id] = transaction
            self._pending[tx_id] = self._arrivals

    async def keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `CityStorage.keys`."""
        return {k: self._keys[k] for k in key_ids if k in self._keys}

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """See `CityStorage.raw`."""
        return {t: self._raw[t] for t in tx_ids if t in self._raw}

    async def pending(self, cursor: bytes | None, limit: int) -> PendingPage:
        """See `CityStorage.pending`."""
        after = 0 if cursor is None else _CURSOR.unpack(cursor)[0]
        rest = ((number, tx_id) for tx_id, number in self._pending.items() if number > after)
        page = list(islice(rest, limit + 1))
        more = len(page) > limit
        page = page[:limit]
        return PendingPage(
            transactions=[self._raw[tx_id] for _, tx_id in page],
            cursor=_CURSOR.pack(page[-1][0]) if more else None,
        )

    async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
        """See `CityStorage.pending_ids`."""
        return list(islice(self._pending, limit))

    async def changed(self, timeout: timedelta) -> None:
        """See `CityStorage.changed`; nobody else writes here."""
        await self._clock.sleep(timeout.total_seconds())

    # Sequencer

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        """See `CityStorage.acquire_lease`; always granted."""
        self._epoch = max(self._epoch, self._head.epoch) + 1
        return self._epoch

    async def renew_lease(self, epoch: int, ttl: timedelta) -> None:
        """See `CityStorage.renew_lease`."""
        if epoch != self._epoch:
            raise LeaseLost(epoch)

    async def release_lease(self, epoch: int) -> None:
        """See `CityStorage.release_lease`; nobody waits for it here."""

    async def commit(self, sealed: SealedRound) -> None:
        """See `CityStorage.commit`."""
        head = self._head
        if sealed.epoch < self._epoch:
            raise LeaseLost(sealed.epoch)
        if sealed.round <= head.round:
            raise RoundTaken(sealed.round)
        if sealed.round != head.round + 1 or sealed.first_index != head.size:
            raise StorageError(
                f"round {sealed.round} from leaf {sealed.first_index} does not follow "
                f"round {head.round} with {head.size} leaves"
            )
        nodes = _nodes(sealed)
        self._head = replace(
            head,
            round=sealed.round,
            time_ms=sealed.time_ms,
            epoch=sealed.epoch,
            size=head.size + len(nodes),
            peaks=sealed.peaks,
            checkpoint=sealed.checkpoint,
            checkpoint_hash=sealed.checkpoint_hash,
        )
        self._rounds.append(_stored_round(sealed, self._head.size))
        self._nodes_by_round.append(nodes)
        for node in nodes:
            self._sealed[node.tx_id] = node
            self._pending.pop(node.tx_id, None)
            if node.node_id is not None:
                self._linked[node.node_id] = node
                self._latest[node.author] = node.ref
                for parent in node.parents:
                    self._children.setdefault(parent, []).append(node)
        self._tips = [node.ref for node in nodes if node.node_id is not None] or self._tips
        for write in sealed.writes:
            self._objects[write.object] = ObjectState(write.version, write.value)
        self._leaf_hashes += sealed.leaf_hashes
        for subtree in sealed.subtrees:
            self._subtrees[subtree.level, subtree.number] = subtree.hash

    async def head(self) -> Head:
        """See `CityStorage.head`."""
        return self._head

    # Approver

    async def certify(self, certificates: Sequence[Certificate]) -> None:
        """See `CityStorage.certify`."""
        for certificate in certificates:
            if not 1 <= certificate.round <= self._head.round:
                raise StorageError(f"round {certificate.round} is not committed")
        for certificate in certificates:
            index = certificate.round - 1
            if self._rounds[index].certificate is None:
                self._rounds[index] = replace(self._rounds[index], certificate=certificate)
        certified = self._head.certified_round
        while certified < len(self._rounds) and self._rounds[certified].certificate:
            certified += 1
        self._head = replace(self._head, certified_round=certified)

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        """See `CityStorage.keep`."""
        self._notes.update(notes)

    async def notes(
        self, prefix: str, known: Mapping[str, bytes] | None = None
    ) -> Mapping[str, bytes]:
        """See `CityStorage.notes`."""
        found = {n: self._notes[n] for n in sorted(self._notes) if n.startswith(prefix)}
        return not_known(found, known)

    # Reads

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `StateView.objects`."""
        return {name: self._objects[name] for name in objects if name in self._objects}

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `StateView.find`."""
        return {t: self._sealed[t] for t in tx_ids if t in self._sealed}

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """See `StateView.latest`."""
        return {a: self._latest[a] for a in authors if a in self._latest}

    async def tips(self) -> Sequence[NodeRef]:
        """See `StateView.tips`."""
        return self._tips

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """See `StateView.round_nodes`."""
        return self._nodes_by_round[round - 1] if 1 <= round <= self._head.round else ()

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `StateView.checkpoint_hashes`."""
        known = range(1, self._head.round + 1)
        return {r: self._rounds[r - 1].checkpoint_hash for r in rounds if r in known}

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """See `CityStorage.rounds`."""
        begin = max(first - 1, 0)
        return self._rounds[begin : begin + limit]

    async def round_of_size(self, size: int) -> StoredRound | None:
        """See `CityStorage.round_of_size`."""
        index = bisect_left(self._rounds, size, key=lambda stored: stored.size)
        found = self._rounds[index : index + 1]
        return found[0] if found and found[0].size == size else None

    async def nodes(self, node_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `CityStorage.nodes`."""
        return {n: self._linked[n] for n in node_ids if n in self._linked}

    async def children(
        self, parent: NodeRef, after: tuple[int, int], limit: int
    ) -> Sequence[SealedNode]:
        """See `CityStorage.children`."""
        rest = (n for n in self._children.get(parent, ()) if (n.round, n.seq) > after)
        return list(islice(rest, limit))

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """See `CityStorage.leaf_hashes`."""
        return bytes(self._leaf_hashes[32 * begin : 32 * end])

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        """See `CityStorage.subtree_hashes`."""
        hashes = bytearray()
        for index in range(begin, end):
            if (level, index) not in self._subtrees:
                break
            hashes += self._subtrees[level, index]
        return bytes(hashes)


class PrunableCity(MemoryCity):
    """A `MemoryCity` that is a `SupportsRetention` too.

    Apart from it because others inherit that one and make its writes durable: they offer what they
    keep, and no more.
    """

    async def sizes(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, int]:
        """See `SupportsRetention.sizes`."""
        there = (tx_id for tx_id in tx_ids if tx_id in self._sealed and tx_id in self._raw)
        return {tx_id: len(self._raw[tx_id].envelope) for tx_id in there}

    async def prune(self, tx_ids: Sequence[bytes]) -> None:
        """See `SupportsRetention.prune`."""
        for tx_id in tx_ids:
            if tx_id in self._sealed:
                self._raw.pop(tx_id, None)

    async def reclaim(self) -> bool:
        """See `SupportsRetention.reclaim`; there is nothing to give back."""
        return False


def _nodes(sealed: SealedRound) -> list[SealedNode]:
    pops = sealed.pops if sealed.pops is not None else [None] * len(sealed.transactions)
    columns = zip(
        sealed.transactions, sealed.node_ids, sealed.parents, sealed.verdicts, pops, strict=True
    )
    return [
        SealedNode(tx.tx_id, tx.author, sealed.round, seq, node_id, tuple(parents), verdict, pop)
        for seq, (tx, node_id, parents, verdict, pop) in enumerate(columns)
    ]


def _stored_round(sealed: SealedRound, size: int) -> StoredRound:
    return StoredRound(
        round=sealed.round,
        time_ms=sealed.time_ms,
        first_index=sealed.first_index,
        size=size,
        record=sealed.record,
        checkpoint=sealed.checkpoint,
        checkpoint_hash=sealed.checkpoint_hash,
        peaks=sealed.peaks,
    )
