"""A segment as what a city is copied from: see `citychain.moving.copying.CityCopy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from citychain import checkpoint, notes
from citychain.archive.segment import Segment
from citychain.ports import StoredRound
from citychain.types import Head, RawTransaction, SealedNode

__all__ = ["SegmentSource"]


class SegmentSource:
    """A `CopySource` of the rounds of one segment.

    What waits after its last round are the transactions that it holds and does not seal. Its notes
    are those of recoveries, and of its elections.
    """

    def __init__(self, segment: Segment) -> None:
        self._header = segment.header
        self._rounds = segment.rounds
        self._keys = segment.keys
        self._nodes: dict[bytes, SealedNode] = {}
        self._raw: dict[bytes, RawTransaction] = {}
        self._notes = dict(segment.recoveries)
        self._leaf_hashes = b"".join(archived.leaf_hashes for archived in segment.rounds)
        waiting: dict[bytes, None] = {}
        for archived in segment.rounds:
            for item in (*archived.transactions, *archived.held):
                self._raw[item.tx_id] = item
            waiting |= dict.fromkeys(item.tx_id for item in archived.held)
            for node in archived.nodes:
                self._nodes[node.tx_id] = node
                waiting.pop(node.tx_id, None)
            if checkpoint.decode(archived.stored.checkpoint).next_committee is not None:
                self._notes[notes.round_name(notes.HANDOVER, archived.stored.round)] = b""
        self._waiting = list(waiting)

    async def head(self) -> Head:
        """See `CityStorage.head`; the last round's number alone."""
        return Head(round=self._header.last)

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """See `CityStorage.rounds`."""
        begin = max(0, first - self._header.first)
        return [archived.stored for archived in self._rounds[begin : begin + limit]]

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `CityStorage.find`."""
        return {tx_id: self._nodes[tx_id] for tx_id in tx_ids if tx_id in self._nodes}

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """See `CityStorage.raw`."""
        return {tx_id: self._raw[tx_id] for tx_id in tx_ids if tx_id in self._raw}

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """See `CityStorage.leaf_hashes`."""
        before = self._header.size
        return self._leaf_hashes[32 * (begin - before) : 32 * (end - before)]

    async def keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `CityStorage.keys`."""
        return {key_id: self._keys[key_id] for key_id in key_ids if key_id in self._keys}

    async def notes(self, prefix: str) -> Mapping[str, bytes]:
        """See `CityStorage.notes`."""
        return {name: note for name, note in self._notes.items() if name.startswith(prefix)}

    async def pending_ids(self) -> Sequence[bytes]:
        """See `CityStorage.pending_ids`."""
        return self._waiting

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `CityStorage.checkpoint_hashes`; also of the round before its first."""
        first = self._rounds[0].stored
        hashes = {first.round - 1: checkpoint.decode(first.checkpoint).previous}
        hashes |= {item.stored.round: item.stored.checkpoint_hash for item in self._rounds}
        return {round: hashes[round] for round in rounds if round in hashes}
