"""Rebuilds a city in an empty storage from its genesis and its segments alone.

Nothing that a store gives is believed. A segment is taken if each of its rounds follows on the one
before, has the hashes that its checkpoint names, signatures that hold, and a certificate of the
committee in office. What is broken off goes on where it ended: until it is whole, a note keeps
servers from opening the city.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from citychain import notes
from citychain._native.transactions import decode_batch
from citychain.archive.announced import announced_segments
from citychain.archive.finding import Candidate, find_segments
from citychain.archive.histories import History, follow_certificates, history_of, parted
from citychain.archive.passing import passing_folder
from citychain.archive.segment import Segment, decode
from citychain.archive.signed import check_signatures
from citychain.archive.source import SegmentSource
from citychain.city.handovers import Handovers
from citychain.committee import CommitteeChain, Term
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
from citychain.moving.mark import REBUILDING, UNFINISHED
from citychain.moving.opening import home_note
from citychain.notes import ArchivedNote, ArchivingNote
from citychain.ports import CityStorage, Compute, FragmentStore
from citychain.statements import Segment as Announcement

__all__ = ["Rebuilding", "Rebuilt", "mark_unfinished"]

logger = logging.getLogger(__name__)

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

    @property
    def beyond(self) -> str:
        """What there was besides, if the last rounds are those of a segment: its announcement came
        after it, and goes into the next one. Empty if there is nothing to say."""
        if self.lost or not self.segments:
            return ""
        return (
            f"rounds after {self.round}, such as the one that announced the last segment, are in "
            "no store: do not start the city where somebody may have a receipt of one"
        )


class Rebuilding:
    """Rebuilds one city.

    Args:
        target: Nobody else's to write to.
        folder: For one segment at a time.
        away: Names of stores that there are besides, and that do not answer.
        claimed: Rounds that are certified by what nobody can check, and the hashes of their
            checkpoints: the city lives only with them, and another attempt knows nothing of them.
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
        claimed: Mapping[int, bytes] | None = None,
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
        self._forked = ""
        self._histories: dict[Candidate, History | None] = {}
        """Of those that have rounds of others; ``None`` of what is not certified."""
        self._planned: list[tuple[int, int]] = []
        """First and last rounds of segments that there were before."""
        self._away = set(away)
        self._claimed = claimed or {}
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
            VerificationError: a round that is known to be certified is not there.
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
        self._planned = sorted(it.header[1:3] for it in found.segments)
        head = await self._target.head()
        if not self._segments and not head.round and not incomplete:
            # The mark stays: a server would begin the city anew, with the same genesis.
            raise NotFound("segment", self._genesis.city)
        for handover in await Handovers(self._target).after(0):
            await self._compute(self._chain.apply, handover)
        await self._look_back(head.round)
        at = max(1, head.round)
        while True:
            if (candidate := await self._chosen(at, incomplete)) is not None:
                if await self._take(candidate):
                    at = (await self._target.head()).round + 1
            elif at == head.round:
                at += 1  # Of the segments that can be had, none has the last round that is there.
            else:
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

    async def _chosen(self, at: int, incomplete: bool) -> Candidate | None:
        """The segment to take; ``None`` if there is none, or more than one history goes on.

        A city that was rebuilt without its last rounds has others in their place, and those that
        were lost may come back with their store: the committee certified both. Where segments end
        says nothing of where histories part, so all that have rounds of the next one are read.
        """
        while (incomplete or not self._forked) and (chosen := self._next(at)) is not None:
            beside = [it for it in self._beside(chosen) if it.header.last >= at]
            if not beside:
                return chosen
            if (segment := await self._following(chosen)) is None:
                self._segments.remove(chosen)
                continue
            ours = await self._compute(history_of, self._genesis, self._chain.terms, segment)
            del segment  # One at a time is in memory.
            if ours is None:
                return chosen  # It is refused when it is taken.
            self._histories[chosen] = ours
            for other in beside:
                theirs = await self._history(other, ours.terms)
                if theirs and (round := parted(ours.hashes, theirs.hashes)) is not None:
                    following = (await self._target.head()).round + 1
                    self._leave_one(chosen, other, round, following)
                    break
            else:
                return chosen
        return None

    def _beside(self, candidate: Candidate) -> list[Candidate]:
        """Other segments that claim to have rounds of this one."""
        _, first, last, *_ = candidate.header
        able = [it for it in self._segments if it.header.first <= last and it.header.last >= first]
        return [it for it in able if it != candidate]

    async def _history(self, candidate: Candidate, terms: Sequence[Term]) -> History | None:
        """The certified rounds of a segment; ``None`` if it has none."""
        if candidate in self._histories:
            return self._histories[candidate]
        if (segment := await self._readable(candidate)) is None:
            self._segments.remove(candidate)
            return None
        # Of a history that parted long ago, the committee is that of before.
        for known in (terms, self._chain.terms):
            history = await self._compute(history_of, self._genesis, known, segment)
            if history is not None:
                break
        self._histories[candidate] = history
        return history

    def _leave_one(self, one: Candidate, other: Candidate, round: int, following: int) -> None:
        """Of two segments with another round each, leave out that which is earlier in time.

        Args:
            one: Follows on what is there.
            other: Is left out if it cannot follow: rounds before it are lost, or are others.
            following: The first round that is not there.
        """
        ours, theirs = self._histories[one], self._histories[other]
        assert ours is not None
        assert theirs is not None
        kept, left, why = one, other, "goes on from what is there, unlike"
        is_before = round - 1 in ours.hashes.keys() & theirs.hashes.keys()
        rest = [it for it in self._segments if it != one]
        if round >= following and is_before and _has_all(rest, following, other.header.first - 1):
            why = "is later in time than"
            if theirs.moment(round) > ours.moment(round):
                kept, left = other, one
        self._part(round, f"that of object {kept.object_id.hex()} {why} that of", left)
        self._segments.remove(left)

    async def _look_back(self, head: int) -> None:
        """Hold rounds that were there before this run to the segments that may have others."""
        there = await self._target.notes(notes.SEGMENT)
        announced = {Announcement.from_bytes(note[32:]).object for note in there.values()}
        for candidate in [it for it in self._segments if it.header.last < head]:
            if candidate.object_id.hex() in announced and not self._beside(candidate):
                continue  # It is of the history that is there, which says so.
            history = await self._history(candidate, self._chain.terms)
            if history is not None and await self._is_another(candidate, history):
                self._segments.remove(candidate)

    async def _is_another(self, candidate: Candidate, history: History) -> bool:
        """Whether certified rounds of a segment are other ones than those that are there."""
        there = await self._target.checkpoint_hashes(sorted(history.hashes))
        if (round := parted(there, history.hashes)) is None:
            return False
        self._part(round, "that which is there already is not that of", candidate)
        return True

    def _part(self, round: int, told: str, left: Candidate) -> None:
        self._forked = self._forked or (
            f"more than one history goes on from round {round}, with a certificate each: {told} "
            f"object {left.object_id.hex()}; --incomplete takes the former; so does a repetition "
            "once no store has a fragment of the latter"
        )

    async def _following(self, candidate: Candidate) -> Segment | None:
        """A segment, if it can be had and is of the history that is there; else it is noted."""
        if (segment := await self._readable(candidate)) is None:
            return None
        head = await self._target.head()
        before = await SegmentSource(segment).checkpoint_hashes([head.round])
        if head.round and before.get(head.round) != head.checkpoint_hash:
            name = candidate.object_id.hex()
            self._refuse(candidate, f"object {name} has a history without round {head.round}")
            terms = self._chain.terms
            history = await self._compute(history_of, self._genesis, terms, segment)
            if history is not None:
                await self._is_another(candidate, history)
            return None
        return segment

    async def _readable(self, candidate: Candidate) -> Segment | None:
        """A segment, if it can be had and is one; else it is noted."""
        try:
            return await self._restored(candidate)
        except (NotFound, NotRestorable) as error:
            self._unrestorable[candidate] = str(error)
        except VerificationError as error:
            name = candidate.object_id.hex()
            self._refuse(candidate, f"object {name} is no segment: {error}")
        return None

    async def _take(self, candidate: Candidate) -> bool:
        """Copy the rounds of a segment that are missing; whether it was one."""
        self._segments.remove(candidate)
        if (segment := await self._following(candidate)) is None:
            return False
        name = candidate.object_id.hex()
        try:
            await self._compute(follow_certificates, self._chain, segment)
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
        kept = announced_segments(operator, await self._compute(decode_batch, envelopes))
        if kept:
            await self._target.keep(kept)

    async def _end(self, incomplete: bool) -> Rebuilt:
        known = await self._known()
        head = await self._target.head()
        result = self._result
        result.round, result.transactions = head.round, head.size
        result.checkpoint_hash = head.checkpoint_hash
        result.lost = self._lost(head.round + 1)
        if result.lost and not incomplete:
            return result
        kept = {notes.HOME: b"", **dict.fromkeys(known, b"")}
        announced = sorted((await self._target.notes(notes.SEGMENT)).items())
        last = ArchivedNote(0, bytes(32))
        for _, note in announced:
            announcement = Announcement.from_bytes(note[32:])
            if announcement.first == last.round + 1 and announcement.last <= head.round:
                last = ArchivedNote(announcement.last, bytes.fromhex(announcement.object))
        if last.round:
            kept[notes.ARCHIVE_LAST] = notes.archived_bytes(last)
        if last.round < head.round:
            # The next one was announced in a round that no segment has, or in none: once more.
            # Those after it are packed anew: all of them at once might be too many for one.
            lasts = [last_of for first, last_of in self._planned if first == last.round + 1]
            planned = min((it for it in lasts if last.round < it <= head.round), default=0)
            if planned:
                kept[notes.ARCHIVE_NEXT] = notes.archiving_bytes(ArchivingNote(planned))
        await self._target.keep(kept)
        return result

    async def _known(self) -> Mapping[str, bytes]:
        """The notes of rounds that somebody showed to be certified; all of them are there.

        Raises:
            VerificationError: one is not. A server that went on would give its number to another.
        """
        known = await self._target.notes(notes.KNOWN)
        due = [(notes.round_of(name), digest) for name, digest in known.items() if digest]
        due += self._claimed.items()
        there = await self._target.checkpoint_hashes([round for round, _ in due])
        for round, digest in due:
            if there.get(round) != digest:
                what = "other than the one that is there" if round in there else "and is not there"
                raise VerificationError(
                    f"round {round} is certified, {what}: {self._genesis.city} cannot go on as the "
                    "same city; bring stores, or a later backup, that have it, or begin another "
                    "city, with a genesis of its own"
                )
        return known

    def _lost(self, at: int) -> str:
        """Why there may be rounds after the last; empty if nothing speaks for it.

        A server that goes on without them has another history than those who saw them.
        """
        if self._forked:
            return self._forked
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


async def mark_unfinished(target: CityStorage) -> bool:
    """Keep servers from opening the city in an empty storage until a rebuild is done; whether
    nothing did before.

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
        await target.keep({notes.HOME: UNFINISHED})
    return note is None


def _reach(segments: list[Candidate]) -> dict[int, int]:
    """By round, the last one that segments in a row from there lead to."""
    reach = {it.header.last + 1: it.header.last for it in segments}
    for candidate in sorted(segments, key=lambda it: it.header.first, reverse=True):
        first, last = candidate.header.first, candidate.header.last
        reach[first] = max(reach.get(first, 0), reach[last + 1])
    return reach


def _has_all(segments: Iterable[Candidate], first: int, last: int) -> bool:
    """Whether segments claim to have all of these rounds."""
    for header in sorted(it.header[1:3] for it in segments):
        if header[0] <= first <= header[1]:
            first = header[1] + 1
    return first > last
