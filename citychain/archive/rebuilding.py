"""Rebuilds a city in an empty storage from its genesis and its segments alone.

Nothing that a store gives is believed. A segment is taken if each of its rounds follows on the one
before, has the hashes that its checkpoint names, signatures that hold, and a certificate of the
committee in office. What is broken off goes on where it ended: until it is whole, a note keeps
servers from opening the city.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from citychain import notes
from citychain._native.transactions import decode_batch
from citychain.archive.finding import Candidate, find_segments
from citychain.archive.passing import passing_folder
from citychain.archive.segment import Segment, decode
from citychain.archive.signed import check_signatures
from citychain.archive.source import SegmentSource
from citychain.city.handovers import Handovers
from citychain.committee import CommitteeChain
from citychain.errors import (
    InvalidRequest,
    LeaseLost,
    NotFound,
    NotRestorable,
    VerificationError,
)
from citychain.fragments.restoring import restore_object
from citychain.fragments.sources import Fault
from citychain.genesis import Genesis
from citychain.moving.copying import CityCopy
from citychain.moving.mark import REBUILDING, HomeNote, home_bytes
from citychain.moving.opening import home_note
from citychain.notes import ArchivedNote, ArchivingNote
from citychain.ports import CityStorage, Compute, FragmentStore
from citychain.statements import Segment as Announcement
from citychain.types import Handover

__all__ = ["Rebuilding", "Rebuilt", "mark_unfinished"]

logger = logging.getLogger(__name__)

NO_MOVE: Final = bytes(16)

Told = Callable[[int, int], None]
"""Told how many rounds are there, and of how many."""


@dataclass(slots=True)
class Rebuilt:
    """What there is now."""

    round: int = 0
    """The last round."""
    checkpoint_hash: bytes = b""
    transactions: int = 0
    """All that have a place."""
    segments: int = 0
    """That were read."""
    faults: list[str] = field(default_factory=list)
    """What stores lacked or had wrong, as far as it was noticed."""
    lost: str = ""
    """Why rounds cannot be had, or may be somewhere; empty if all was seen that there is."""


class Rebuilding:
    """Rebuilds one city.

    Args:
        target: Nobody else's to write to.
        folder: For one segment at a time.
        away: Names of stores that there are besides, and that do not answer.
    """

    def __init__(
        self,
        genesis: Genesis,
        stores: Mapping[str, FragmentStore],
        target: CityStorage,
        *,
        folder: Path,
        compute: Compute,
        told: Told = lambda done, of: None,
        away: Iterable[str] = (),
    ) -> None:
        self._genesis = genesis
        self._stores = stores
        self._target = target
        self._folder = folder
        self._compute = compute
        self._told = told
        self._chain = CommitteeChain(genesis)
        self._segments: list[Candidate] = []
        self._unrestorable: dict[Candidate, str] = {}
        self._refused: dict[Candidate, str] = {}
        self._away = set(away)
        self._unreadable = 0
        self._result = Rebuilt()

    async def run(self, *, incomplete: bool = False) -> Rebuilt:
        """Rebuild as much as the stores have.

        Args:
            incomplete: Let the city live with what there is, also if rounds are known to be lost.

        Raises:
            InvalidRequest: the storage has the city already, and not as an unfinished rebuild, or
                a server took its lease.
            NotFound: the stores have no segment of the city.
            StorageError: the storage failed.
        """
        await mark_unfinished(self._target)
        found = await find_segments(self._genesis.id, self._stores, self._compute, self._failed)
        self._unreadable = found.unreadable
        if found.unreadable:
            self._result.faults.append(
                f"of {found.unreadable} objects not even the beginning can be read: each may be "
                "a segment"
            )
        self._segments = found.segments
        head = await self._target.head()
        if not self._segments and not head.round and not incomplete:
            # The mark stays: a server would begin the city anew, with the same genesis.
            raise NotFound("segment", self._genesis.city)
        for handover in await Handovers(self._target).after(0):
            await self._compute(self._chain.apply, handover)
        at = max(1, head.round)
        while (candidate := self._next(at)) is not None:
            if await self._take(candidate):
                at = (await self._target.head()).round + 1
        return await self._end(incomplete)

    def _failed(self, fault: Fault) -> None:
        self._away.add(fault.store)
        self._result.faults.append(f"store {fault.store}: {fault.detail}")

    # --- which segment is next

    def _next(self, at: int) -> Candidate | None:
        """The segment that has this round and leads furthest; ``None`` if there is none."""
        able = [it for it in self._segments if it.header.first <= at <= it.header.last]
        if not able:
            return None
        if len(able) == 1:
            return able[0]
        reach = _reach(self._segments)
        return max(able, key=lambda it: (reach[it.header.last + 1], it.header.last, it.object_id))

    async def _take(self, candidate: Candidate) -> bool:
        """Copy the rounds of a segment that are missing; whether it was one."""
        self._segments.remove(candidate)
        name = candidate.object_id.hex()
        try:
            segment = await self._restored(candidate)
        except (NotFound, NotRestorable) as error:
            self._unrestorable[candidate] = str(error)
            return False
        except VerificationError as error:
            self._refuse(candidate, f"object {name} is no segment: {error}")
            return False
        try:
            await self._compute(_certified, self._chain, segment)
            await self._compute(
                check_signatures, segment.header.genesis, segment.envelopes(), segment.keys
            )
            source = SegmentSource(segment)
            copy = CityCopy(self._genesis.id, source, self._target, self._compute)
            await copy.begin()
            await copy.rounds(lambda done, of: self._told(done, self._last))
            await copy.rest()
        except LeaseLost:
            raise InvalidRequest(
                "--to", "servers have had the city open in this storage: name another one"
            ) from None
        except (VerificationError, ValueError) as error:
            self._refuse(candidate, f"object {name} has rounds that do not hold: {error}")
            return False
        await self._note_announcements(segment)
        self._result.segments += 1
        return True

    def _refuse(self, candidate: Candidate, why: str) -> None:
        self._refused[candidate] = why
        self._result.faults.append(why)

    @property
    def _last(self) -> int:
        """The last round that any segment claims to have."""
        return max((it.header.last for it in self._segments), default=0)

    async def _restored(self, candidate: Candidate) -> Segment:
        with await self._compute(passing_folder, self._folder) as folder:
            file = Path(folder) / "segment"
            restored = await restore_object(candidate.object_id, self._stores, file, self._compute)
            self._result.faults += (
                f"store {fault.store}: {fault.detail}" for fault in restored.faults
            )
            content = await self._compute(file.read_bytes)
        return await self._compute(decode, content)

    # --- what the archiver goes on from

    async def _note_announcements(self, segment: Segment) -> None:
        """Keep the notes of segments that this one has the announcements of."""
        operator = self._genesis.operator_id
        envelopes = [
            item.envelope
            for archived in segment.rounds
            for item, node in zip(archived.transactions, archived.nodes, strict=True)
            if item.author == operator and node.rejection is None
        ]
        kept = {}
        for item in await self._compute(decode_batch, envelopes):
            if item.content_type != Announcement.CONTENT_TYPE or item.content is None:
                continue
            try:
                announcement = Announcement.from_bytes(item.content)
            except VerificationError:
                continue
            name = notes.round_name(notes.SEGMENT, announcement.last)
            kept[name] = item.tx_id + item.content
        if kept:
            await self._target.keep(kept)

    async def _end(self, incomplete: bool) -> Rebuilt:
        head = await self._target.head()
        result = self._result
        result.round, result.transactions = head.round, head.size
        result.checkpoint_hash = head.checkpoint_hash
        result.lost = self._lost(head.round + 1)
        if result.lost and not incomplete:
            return result
        kept = {notes.HOME: b""}
        announced = sorted((await self._target.notes(notes.SEGMENT)).items())
        last = ArchivedNote(0, bytes(32))
        for _, note in announced:
            announcement = Announcement.from_bytes(note[32:])
            if announcement.first == last.round + 1 and announcement.last <= head.round:
                last = ArchivedNote(announcement.last, bytes.fromhex(announcement.object))
        if last.round:
            kept[notes.ARCHIVE_LAST] = notes.archived_bytes(last)
        if last.round < head.round:
            # The last one was announced in a round that no segment has: once more.
            kept[notes.ARCHIVE_NEXT] = notes.archiving_bytes(ArchivingNote(head.round))
        await self._target.keep(kept)
        return result

    def _lost(self, at: int) -> str:
        """Why there may be rounds after the last; empty if nothing speaks for it.

        A server that goes on without them has another history than those who saw them.
        """
        for candidate, why in self._unrestorable.items():
            if candidate.header.last >= at:
                first = max(at, candidate.header.first)
                return f"rounds {first} to {candidate.header.last} cannot be restored: {why}"
        if later := [it.header.first for it in self._segments if it.header.first > at]:
            return f"no store has rounds {at} to {min(later) - 1}, and there are later ones"
        for candidate, why in self._refused.items():
            if candidate.header.last >= at:
                return f"rounds {at} to {candidate.header.last} are claimed, and not had: {why}"
        if at == 1:
            return "no store has a segment of it"
        if self._away:
            names = ", ".join(sorted(self._away))
            return f"rounds from {at} on may be in stores that do not answer: {names}"
        if self._unreadable:
            return (
                f"rounds from {at} on may be in {self._unreadable} objects of which not even the "
                "beginning can be read"
            )
        return ""


async def mark_unfinished(target: CityStorage) -> None:
    """Keep servers from opening the city in an empty storage until a rebuild is done.

    Raises:
        InvalidRequest: the storage has the city already, and not as an unfinished rebuild.
    """
    note = await home_note(target)
    if note is not None and (note.moved or note.other != REBUILDING):
        raise InvalidRequest("--to", "another storage's copy of the city is there, or was")
    if note is None:
        head = await target.head()
        if head.round or await target.pending_ids(1):
            raise InvalidRequest(
                "--to",
                f"the storage has this city already, up to round {head.round}: name another "
                "storage, or remove what is damaged",
            )
        begun = HomeNote(False, NO_MOVE, 0, bytes(32), REBUILDING)
        await target.keep({notes.HOME: home_bytes(begun)})


def _reach(segments: list[Candidate]) -> dict[int, int]:
    """By round, the last one that segments in a row from there lead to."""
    reach = {it.header.last + 1: it.header.last for it in segments}
    for candidate in sorted(segments, key=lambda it: it.header.first, reverse=True):
        first, last = candidate.header.first, candidate.header.last
        reach[first] = max(reach.get(first, 0), reach[last + 1])
    return reach


def _certified(chain: CommitteeChain, segment: Segment) -> None:
    """Hold all rounds of a segment to the committees in office.

    Raises:
        VerificationError: a certificate does not hold, or a recovery is not the operator's.
    """
    recoveries = deque(
        (notes.round_of(name), Handover(kept.public_keys, recovery=kept.envelope))
        for name, note in sorted(segment.recoveries.items())
        for kept in (notes.decode_recovery(note),)
    )
    with chain.attempt():
        for archived in segment.rounds:
            stored = archived.stored
            while recoveries and recoveries[0][0] <= stored.round:
                chain.apply(recoveries.popleft()[1])
            assert stored.certificate is not None
            chain.advance(stored.checkpoint, stored.certificate, segment.keys)
    if recoveries:
        raise VerificationError(f"a recovery from round {recoveries[0][0]} is of no round of it")
