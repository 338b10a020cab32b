"""The ledger as the last committed round left it, with what is asked for often in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from citychain.errors import StorageError
from citychain.ports import CityStorage, StoredRound
from citychain.types import NodeRef, ObjectState, ObjectWrite, SealedNode, SealedRound

__all__ = ["LedgerState", "MemoryState"]

K = TypeVar("K")
V = TypeVar("V")

ENTRIES_MAX: Final = 65_536
"""Objects, and authors, remembered a city."""
ROUNDS_MAX: Final = 8
"""Rounds whose nodes are remembered: the latest of those that were asked for."""


class LedgerState:
    """A `StateView` for the city's one sequencer, which tells it each round it commits.

    Args:
        shared: Other servers write to the storage: what they wrote may become visible piece by
            piece, and a round's nodes are believed only when all are there.
    """

    def __init__(self, storage: CityStorage, *, shared: bool = False) -> None:
        self._storage = storage
        self._shared = shared
        self._committed = 0
        """All rounds up to this one are known to be committed."""
        self._objects = _ReadThrough[str, ObjectState](storage.objects)
        self._latest = _ReadThrough[bytes, NodeRef](storage.latest)
        self._rounds: dict[int, Sequence[SealedNode]] = {}
        self._tips: Sequence[NodeRef] | None = None

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `citychain.ports.StateView.objects`."""
        return await self._objects.get(objects)

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """See `citychain.ports.StateView.latest`."""
        return await self._latest.get(authors)

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `citychain.ports.StateView.find`."""
        return await self._storage.find(tx_ids) if tx_ids else {}

    async def tips(self) -> Sequence[NodeRef]:
        """See `citychain.ports.StateView.tips`."""
        if self._tips is None:
            self._tips = await self._storage.tips()
        return self._tips

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """See `citychain.ports.StateView.round_nodes`.

        Raises:
            StorageError: those of a committed round are not all visible yet.
        """
        if (known := self._rounds.get(round)) is not None:
            return known
        if not self._shared:
            if nodes := await self._storage.round_nodes(round):
                self._remember(round, nodes)
            return nodes
        if (stored := await self._storage.rounds(round, 1)) and stored[0].round == round:
            return await self.nodes_of(stored[0])
        if 1 <= round <= self._committed:
            raise StorageError(f"round {round} is not visible yet")
        return ()

    async def nodes_of(self, stored: StoredRound) -> Sequence[SealedNode]:
        """The nodes of a round that was read back.

        Raises:
            StorageError: they are not all visible yet.
        """
        if (known := self._rounds.get(stored.round)) is not None:
            return known
        nodes = await self._storage.round_nodes(stored.round)
        if len(nodes) != (count := stored.size - stored.first_index):
            raise StorageError(f"of round {stored.round}, {len(nodes)} of {count} nodes are there")
        self._remember(stored.round, nodes)
        return nodes

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `citychain.ports.StateView.checkpoint_hashes`."""
        return await self._storage.checkpoint_hashes(rounds) if rounds else {}

    def expect(self, committed: int) -> None:
        """All rounds up to this one are committed, visible or not."""
        self._committed = max(self._committed, committed)

    def forget(self) -> None:
        """Other servers committed rounds: read what they changed again.

        Nodes of rounds never change.
        """
        self._objects.clear()
        self._latest.clear()
        self._tips = None

    def apply(self, sealed: SealedRound) -> Sequence[SealedNode]:
        """Move on to the state that a committed round leaves; returns its nodes."""
        nodes = _sealed_nodes(sealed)
        self._remember(sealed.round, nodes)
        linked = [node.ref for node in nodes if node.rejection is None]
        if linked:
            self._tips = linked
        self._latest.update({node.author: node.ref for node in nodes if node.rejection is None})
        self._objects.update(
            {object: ObjectState(version, value) for object, version, value in sealed.writes}
        )
        return nodes

    def _remember(self, round: int, nodes: Sequence[SealedNode]) -> None:
        self._rounds[round] = nodes
        self.expect(round)
        if len(self._rounds) > ROUNDS_MAX:
            # Not the first that was read: who looks through old rounds takes no room of new ones.
            del self._rounds[min(self._rounds)]


class MemoryState:
    """A `StateView` for who repeats a whole ledger: all of it in memory, some 600 bytes a
    transaction, and nothing on disk."""

    def __init__(self, initial: Sequence[ObjectWrite]) -> None:
        self._objects = {write.object: ObjectState(write[1], write[2]) for write in initial}
        self._sealed: dict[bytes, SealedNode] = {}
        self._latest: dict[bytes, NodeRef] = {}
        self._rounds: list[tuple[Sequence[SealedNode], bytes]] = []
        self._tips: Sequence[NodeRef] = ()

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `citychain.ports.StateView.objects`."""
        return {name: self._objects[name] for name in objects if name in self._objects}

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """See `citychain.ports.StateView.latest`."""
        return {author: self._latest[author] for author in authors if author in self._latest}

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `citychain.ports.StateView.find`."""
        return {tx_id: self._sealed[tx_id] for tx_id in tx_ids if tx_id in self._sealed}

    async def tips(self) -> Sequence[NodeRef]:
        """See `citychain.ports.StateView.tips`."""
        return self._tips

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """See `citychain.ports.StateView.round_nodes`."""
        return self._rounds[round - 1][0] if 1 <= round <= len(self._rounds) else ()

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `citychain.ports.StateView.checkpoint_hashes`."""
        known = range(1, len(self._rounds) + 1)
        return {round: self._rounds[round - 1][1] for round in rounds if round in known}

    def apply(self, sealed: SealedRound) -> None:
        """Move on to the state that a round leaves."""
        nodes = _sealed_nodes(sealed)
        self._rounds.append((nodes, sealed.checkpoint_hash))
        linked = [node for node in nodes if node.node_id is not None]
        self._sealed.update((node.tx_id, node) for node in nodes)
        self._latest.update((node.author, node.ref) for node in linked)
        self._tips = [node.ref for node in linked] or self._tips
        for object, version, value in sealed.writes:
            self._objects[object] = ObjectState(version, value)


def _sealed_nodes(sealed: SealedRound) -> list[SealedNode]:
    """A round's transactions as storage will return them."""
    pops: Sequence[bytes | None] = sealed.pops or [None] * len(sealed.transactions)
    return [
        SealedNode(
            tx_id=transaction.tx_id,
            author=transaction.author,
            round=sealed.round,
            seq=seq,
            node_id=node_id,
            parents=parents,
            rejection=verdict,
            pop=pop,
        )
        for seq, (transaction, node_id, parents, verdict, pop) in enumerate(
            zip(
                sealed.transactions,
                sealed.node_ids,
                sealed.parents,
                sealed.verdicts,
                pops,
                strict=True,
            )
        )
    ]


class _ReadThrough(Generic[K, V]):
    """The most recently used entries of a table that has one writer."""

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._entries: OrderedDict[K, V | None] = OrderedDict()

    async def get(self, keys: Sequence[K]) -> dict[K, V]:
        missing = [key for key in keys if key not in self._entries]
        found = await self._read(missing) if missing else {}
        result: dict[K, V] = {}
        for key in keys:
            value = found.get(key) if key not in self._entries else self._entries[key]
            if value is not None:
                result[key] = value
        self.update({key: found.get(key) for key in missing})
        return result

    def clear(self) -> None:
        self._entries.clear()

    def update(self, entries: Mapping[K, V] | Mapping[K, V | None]) -> None:
        for key, value in entries.items():
            self._entries[key] = value
            self._entries.move_to_end(key)
        while len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)
