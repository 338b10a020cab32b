"""Packing approved rounds into a segment, as they come.

Each round is built anew from what the storage has of it before it is packed, and its signatures are
checked again: a storage that is damaged is found out, and nothing wrong is archived.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO

from citychain import checkpoint, notes
from citychain.archive.segment import Header, header_bytes, recoveries_bytes, round_bytes
from citychain.archive.signed import Votes, check_signatures
from citychain.crypto import merkle
from citychain.errors import InvalidRound
from citychain.moving.pages import RoundPages
from citychain.moving.reading import GivenRounds, read_page, rebuilt
from citychain.ports import CityStorage, Compute
from citychain.statements import Holding
from citychain.statements import Segment as Announcement
from citychain.types import RawTransaction, SealedRound

__all__ = ["OpenSegment"]


class OpenSegment:
    """A segment that more rounds can be put into, in a file."""

    def __init__(
        self,
        *,
        header: Header,
        previous_checkpoint: bytes,
        operator: bytes,
        storage: CityStorage,
        compute: Compute,
        votes: Votes,
        file: BinaryIO,
    ) -> None:
        self._header = header
        self._tree = merkle.Tree(header.size, header.peaks)
        self._previous = previous_checkpoint
        self._operator = operator
        self._storage = storage
        self._compute = compute
        self._pages = RoundPages()
        self._votes = votes
        self._keys: dict[bytes, bytes] = {}
        """By key id; so many as it has."""
        self.file = file
        """Has the object, once it is closed."""
        self.last = header.first - 1
        """The last round that it has."""
        self.bytes = 0
        """Of its rounds so far."""
        self.since_ms: int | None = None
        """Time of its first round that has anything but announcements of segments and receipts of
        those who hold them; these alone are no reason for another one."""

    @classmethod
    async def begin(
        cls,
        *,
        genesis: bytes,
        after: int,
        previous: bytes,
        operator: bytes,
        storage: CityStorage,
        compute: Compute,
        votes: Votes,
        file: BinaryIO,
    ) -> OpenSegment:
        """A segment of the rounds that come after one.

        Args:
            previous: Object id of the segment before.
            operator: Key id of the server, whose announcements they are.
            votes: Checks certificates of the city.
            file: Empty; it is written to in threads.

        Raises:
            InvalidRound: the storage does not have the round before.
        """
        size, peaks, before = 0, b"", genesis
        if after:
            page = await storage.rounds(after, 1)
            if [stored.round for stored in page] != [after]:
                raise InvalidRound(after, "round", "the storage does not give it")
            size, peaks, before = page[0].size, page[0].peaks, page[0].checkpoint_hash
        header = Header(genesis, after + 1, after, previous, size, peaks)
        segment = cls(
            header=header,
            previous_checkpoint=before,
            operator=operator,
            storage=storage,
            compute=compute,
            votes=votes,
            file=file,
        )
        await compute(file.write, header_bytes(header))
        return segment

    @property
    def first(self) -> int:
        """Its first round."""
        return self._header.first

    async def grow(self, last: int) -> None:
        """Put the next few rounds in, none after ``last``; they have certificates.

        Raises:
            InvalidRound: the storage has one of them that is not whole, or not signed.
            StorageError: the storage lacks a key of a committee.
        """
        storage = self._storage
        given = await read_page(storage, self.last + 1, last, self._pages, self._compute)
        await self._votes.check(given.rounds)
        rounds, seats = await self._compute(
            rebuilt, self._header.genesis, given, self._tree, self._previous
        )
        self._previous = rounds[-1].checkpoint_hash
        held_ids = [tx_id for sealed in rounds for tx_id in sealed.held]
        held = await storage.raw(held_ids) if held_ids else {}
        if missing := [tx_id for tx_id in held_ids if tx_id not in held]:
            raise InvalidRound(
                self.last + 1, "held", f"the storage does not have {missing[0].hex()} any more"
            )
        authors = {item.author for item in (*given.raw.values(), *held.values())}
        wanted = (authors | seats) - self._keys.keys()
        keys = await storage.keys(sorted(wanted)) if wanted else {}
        await self._compute(
            check_signatures,
            self._header.genesis,
            _envelopes(given, held),
            {name: key for name, key in {**self._keys, **keys}.items() if name in authors},
        )
        content = await self._compute(self._encoded, given, held, keys)
        await self._compute(self.file.write, content)
        self.bytes += len(content)
        if self.since_ms is None:
            self.since_ms = next((it.time_ms for it in rounds if self._is_worth_it(it)), None)
        self.last = rounds[-1].round

    def _is_worth_it(self, sealed: SealedRound) -> bool:
        # Who holds a segment says so: a segment of that would be held in its turn, for ever.
        return any(
            item.content_type != Holding.CONTENT_TYPE
            and (item.content_type != Announcement.CONTENT_TYPE or item.author != self._operator)
            for item in sealed.transactions
        )

    def _encoded(
        self,
        given: GivenRounds,
        held: Mapping[bytes, RawTransaction],
        keys: Mapping[bytes, bytes],
    ) -> bytes:
        parts = []
        for stored, decided in zip(given.rounds, given.decoded, strict=True):
            claimed = checkpoint.decode(stored.checkpoint)
            raw = [
                *(given.raw[tx_id] for tx_id in decided.tx_ids),
                *(held[tx_id] for tx_id in decided.held),
            ]
            named = {item.author for item in raw}
            for committee in (claimed.committee, claimed.next_committee or ()):
                named.update(seat.key_id for seat in committee)
            new = sorted(named & keys.keys() - self._keys.keys())
            self._keys.update((name, keys[name]) for name in new)
            parts.append(
                round_bytes(
                    stored,
                    [given.nodes[tx_id] for tx_id in decided.tx_ids],
                    (item.envelope for item in raw),
                    [keys[name] for name in new],
                )
            )
        return b"".join(parts)

    async def close(self) -> None:
        """Make the object whole; nothing can be put in any more."""
        there = await self._storage.notes(notes.RECOVERY)
        recoveries = {
            name: note
            for name, note in there.items()
            if self.first <= notes.round_of(name) <= self.last
        }
        await self._compute(self._finish, recoveries)

    def _finish(self, recoveries: Mapping[str, bytes]) -> None:
        self.file.write(recoveries_bytes(recoveries))
        self.file.seek(0)
        self.file.write(header_bytes(self._header._replace(last=self.last)))
        self.file.seek(0, io.SEEK_END)


def _envelopes(
    given: GivenRounds, held: Mapping[bytes, RawTransaction]
) -> list[tuple[int, list[bytes]]]:
    """By round, those of its transactions and of those that waited."""
    return [
        (
            decided.round,
            [
                *(given.raw[tx_id].envelope for tx_id in decided.tx_ids),
                *(held[tx_id].envelope for tx_id in decided.held),
            ],
        )
        for decided in given.decoded
    ]
