"""The segments of a city's archive, as far as they are announced: proven, and read.

Proven is more than restorable. Every byte of every fragment was read and is right, none is lost,
and what they restore has the rounds that it is to have, with signatures and votes that hold.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from citychain import notes
from citychain.archive.passing import passing_folder
from citychain.archive.segment import Segment, decode
from citychain.archive.signed import Votes, check_signatures
from citychain.errors import NotFound, Pruned, StorageError, VerificationError
from citychain.fragments.checking import State, check_object
from citychain.fragments.restoring import restore_object
from citychain.fragments.sources import Silence, find_sources
from citychain.genesis import Genesis
from citychain.ports import CityStorage, Compute, FragmentStore
from citychain.statements import Segment as Announcement
from citychain.types import RawTransaction

__all__ = ["ArchivedTransactions", "NotProven", "Segments"]

KEPT_SEGMENTS: Final = 2
"""Segments whose transactions are in memory."""


class NotProven(StorageError):
    """A segment cannot be relied on now; the message says why."""


@dataclass(slots=True, eq=False)
class Segments:
    """The segments of one city, and the stores that have them."""

    genesis: Genesis
    storage: CityStorage
    stores: Mapping[str, FragmentStore]
    folder: Path
    """For what is restored, for a moment."""
    compute: Compute
    _votes: Votes | None = field(default=None, init=False)
    """Made when something is to be proven: it follows all committees."""
    _known: list[Announcement] = field(default_factory=list, init=False)
    """Those that were asked for, in order; none is ever announced otherwise."""

    async def announced(self) -> list[Announcement]:
        """Those whose announcement is approved, in order of their rounds."""
        found = await self.storage.notes(notes.SEGMENT)
        return await self.compute(_announcements, list(found.values()))

    async def of_round(self, round: int) -> Announcement | None:
        """The one that has a round; ``None`` if none that is announced has."""
        index = bisect_left(self._known, round, key=_last)
        if index < len(self._known) and self._known[index].first <= round:
            return self._known[index]
        # Years of them are too many to parse for one.
        found = await self.storage.notes(notes.SEGMENT)
        names = list(found)
        index = bisect_left(names, notes.round_name(notes.SEGMENT, round))
        if index == len(names):
            return None
        announced = Announcement.from_bytes(found[names[index]][32:])
        if announced.first > round:
            return None
        insort(self._known, announced, key=_last)
        return announced

    async def prove(self, announced: Announcement) -> Segment:
        """Read all fragments of a segment, and what they restore.

        Raises:
            NotProven: something is lost or wrong.
        """
        object_id = bytes.fromhex(announced.object)
        sources, faults = await find_sources(object_id, self.stores, self.compute)
        for fault in faults:
            if isinstance(fault, Silence):
                raise NotProven(f"store {fault.store} does not answer: {fault.detail}")
        checked = [
            it
            for it in await check_object(sources, self.compute)
            if it.root.hex() == announced.root
        ]
        if not checked or checked[0].state is not State.WHOLE:
            raise NotProven(_lacks(checked[0].loss, checked[0].missing) if checked else _NOWHERE)
        segment = await self.read(announced)
        if self._votes is None:
            self._votes = Votes(self.genesis, self.storage, self.compute)
        try:
            await self._votes.check([archived.stored for archived in segment.rounds])
            await self.compute(check_signatures, self.genesis.id, segment.envelopes(), segment.keys)
        except VerificationError as error:
            raise NotProven(f"object {announced.object} cannot be rebuilt from: {error}") from None
        return segment

    async def read(self, announced: Announcement) -> Segment:
        """Restore a segment.

        Raises:
            NotProven: it cannot be restored, or is not what was announced.
        """
        try:
            content = await self._restored(bytes.fromhex(announced.object))
            segment = await self.compute(decode, content)
        except (NotFound, StorageError, VerificationError) as error:
            raise NotProven(str(error)) from None
        header = segment.header
        due = (self.genesis.id, announced.first, announced.last)
        if (header.genesis, header.first, header.last) != due:
            raise NotProven(f"object {announced.object} has other rounds than were announced")
        return segment

    async def _restored(self, object_id: bytes) -> bytes:
        folder = await self.compute(passing_folder, self.folder)
        try:
            target = Path(folder.name) / object_id.hex()
            await restore_object(object_id, self.stores, target, self.compute)
            content: bytes = await self.compute(target.read_bytes)
            return content
        finally:
            await asyncio.shield(self.compute(folder.cleanup))


def _announcements(found: Sequence[bytes]) -> list[Announcement]:
    return [Announcement.from_bytes(note[32:]) for note in found]


def _last(announced: Announcement) -> int:
    return announced.last


_NOWHERE: Final = "no store has a fragment of it"


def _lacks(loss: str, missing: Sequence[int]) -> str:
    if loss:
        return f"it cannot be restored: {loss}"
    if missing:
        return f"{len(missing)} of its fragments are lost: citychain rebalance repairs it"
    return "some of its fragments are wrong: citychain scrub says which"


class ArchivedTransactions:
    """Gives transactions that were pruned back from the archive, a segment at a time."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._turn = asyncio.Lock()
        self._kept: OrderedDict[str, Mapping[bytes, RawTransaction]] = OrderedDict()
        """The latest that were read, by object."""

    async def raw(self, tx_ids: Sequence[bytes]) -> dict[bytes, RawTransaction]:
        """Sealed transactions by id.

        Raises:
            Pruned: the archive does not give one of them.
        """
        nodes = await self._segments.storage.find(tx_ids)
        found: dict[bytes, RawTransaction] = {}
        async with self._turn:  # One restore at a time: whoever asks for much waits.
            for round in sorted({node.round for node in nodes.values()}):
                if (announced := await self._segments.of_round(round)) is None:
                    raise Pruned(round, "no segment of the archive has it")
                there = await self._transactions(announced, round)
                wanted = [tx_id for tx_id, node in nodes.items() if node.round == round]
                if missing := [tx_id for tx_id in wanted if tx_id not in there]:
                    raise Pruned(round, f"its segment does not have {missing[0].hex()}")
                found |= {tx_id: there[tx_id] for tx_id in wanted}
        return found

    async def _transactions(
        self, announced: Announcement, round: int
    ) -> Mapping[bytes, RawTransaction]:
        if (there := self._kept.get(announced.object)) is None:
            try:
                segment = await self._segments.read(announced)
            except NotProven as error:
                detail = f"the archive does not give segment {announced.object}: {error}"
                raise Pruned(round, detail) from None
            there = {
                item.tx_id: item
                for archived in segment.rounds
                for item in (*archived.transactions, *archived.held)
            }
            self._kept[announced.object] = there
            while len(self._kept) > KEPT_SEGMENTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(announced.object)
        return there
