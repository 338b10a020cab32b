"""Repairs a city's archive while this server leads it, and reads all of it, little by little.

Every so often each announced segment is looked for in all stores. What is nowhere is made anew of
the other fragments, as `citychain rebalance ID` does, and so is what the holder of a store is not
proven to have any more. In between, the segment that was read longest ago is read, every byte; what
is wrong is made anew. When each was read is noted in the city's storage.

Nothing moves, and no good copy is removed: where fragments belong is for the operator to say. What
a store that does not answer may have is left to it, unless the ledger says that its holder does not
prove it any more. Each object is planned from what stores have, so it may be killed at any time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

from citychain import notes
from citychain.archive.resting import Rests
from citychain.errors import CitychainError
from citychain.fragments.pacing import Pace, PaceShare
from citychain.fragments.placement import Place
from citychain.fragments.rebalancing import rebalance_objects
from citychain.fragments.relocating import Means, Outcome
from citychain.fragments.sources import Silence, Source, find_sources
from citychain.fragments.summing import OutcomeSum
from citychain.genesis import Genesis
from citychain.holding.reading import unproven
from citychain.holding.stored import StoredRecounts
from citychain.ports import CityStorage, Clock, Compute, FragmentKey, FragmentStore
from citychain.statements import Segment

__all__ = ["RepairNumbers", "RepairPlan", "RepairedCity", "Repairer"]

logger = logging.getLogger(__name__)

FIRST: Final = timedelta(minutes=1)
"""Until the first look, so that who leads for a moment does nothing."""
DOUBLINGS_MAX: Final = 3
"""Looks come ever later while a store does not answer."""
READ_AGAIN: Final = timedelta(days=1)
"""A segment that could not be read in all stores is read again so much later."""

Unproven = frozenset[tuple[str, FragmentKey]]


class RepairedCity(Protocol):
    """What is asked of `citychain.city.pipeline.City`."""

    @property
    def genesis(self) -> Genesis: ...

    @property
    def storage(self) -> CityStorage: ...

    @property
    def pending(self) -> int: ...


@dataclass(slots=True)
class RepairNumbers:
    """What was done for one city since the server started."""

    looks: int = 0
    """At all segments."""
    read: int = 0
    """Segments of which every byte was read."""
    outcomes: OutcomeSum = field(default_factory=OutcomeSum)
    """Of all of these."""
    away: Collection[str] = ()
    """Stores that did not answer in the last look."""
    lost: Collection[str] = ()
    """Segments that could not be restored in the last look, by object."""


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What a city's archive is repaired with."""

    every: timedelta
    """Between two looks."""
    read_every: timedelta
    """Between two times that a segment is read."""
    stores: Callable[[], Mapping[str, FragmentStore]]
    """Those that are open now, by name."""
    places: Sequence[Place]
    """All that there should be."""
    holders: Mapping[str, bytes]
    """By the name of a store, the key that proves what is in it."""
    recounts: Callable[[Rests], StoredRecounts]
    """Makes those of the holders."""
    pace: Pace
    """Of looking and making anew."""
    read_pace: Pace
    """Of reading everything."""
    turns: asyncio.Semaphore
    """One is held while an object is worked on, with some megabytes in memory."""
    round_transactions: int
    """With so many a round of the city is full."""


class Repairer:
    """Repairs the archive of one city, for one term of leading it.

    Args:
        numbers: Are added to.
    """

    def __init__(
        self,
        city: RepairedCity,
        plan: RepairPlan,
        numbers: RepairNumbers,
        *,
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._slug = city.genesis.city
        self._storage = city.storage
        self._plan = plan
        self._numbers = numbers
        self._compute = compute
        self._clock = clock
        self._rests = Rests(lambda: city.pending, plan.round_transactions, clock)
        self._recounts = plan.recounts(self._rests)
        self._unproven: Unproven = frozenset()
        """As found by the last look."""
        self._repairs: Unproven = frozenset()
        """Of these, those that were so in the look before, too: who holds them may be away."""
        self._is_first = True
        self._next = deque[_Reading]()
        """Segments to read, in that order; empty for whoever has to ask."""
        self._warned: dict[str, str] = {}
        """What was last said of an object, or of this work as a whole."""

    async def run(self) -> None:
        """Repair the archive until it is cancelled; what fails is tried again."""
        await self._clock.sleep(min(FIRST, self._plan.every).total_seconds())
        failures = 0
        while True:
            try:
                all_answer = await self.look()
                self._warned.pop("", None)
            except Exception as error:  # The city goes on without it.
                all_answer = False
                self._warn("", f"its archive is not repaired for now: {_told(error)}")
            failures = 0 if all_answer else failures + 1
            pause = self._plan.every * 2 ** min(failures, DOUBLINGS_MAX)
            await self._read_until(self._clock.monotonic() + pause.total_seconds())

    async def _read_until(self, due: float) -> None:
        """Read what is due until the next look is."""
        while (left := due - self._clock.monotonic()) > 0:
            try:
                has_read = await self.read_next()
            except Exception as error:
                has_read = False
                self._warn("", f"its archive is not read for now: {_told(error)}")
            if not has_read:
                await self._clock.sleep(left)

    def _warn(self, what: str, text: str, same: str = "") -> None:
        """Say it, unless the same was said before.

        Args:
            same: What makes it the same, where the text has numbers that change.
        """
        if self._warned.get(what) != (same or text):
            self._warned[what] = same or text
            logger.warning("%s: %s", self._slug, text)

    # --- a look at everything

    async def look(self) -> bool:
        """Make anew what is lost of any segment; whether all stores answered."""
        # At first it is counted from the first round on: what is lost does not wait for that.
        is_first, self._is_first = self._is_first, False
        if not is_first:
            await self._recount()
        away: set[str] = set()
        share = self._plan.pace.share()
        means = self._means(share, away)
        segments = await self._storage.notes(notes.SEGMENT)
        lost = set[str]()
        for name, note in segments.items():
            try:
                segment = Segment.from_bytes(note[32:])
                await self._mend(segment, means, share, away, lost, check=False)
            except Exception as error:  # The others may be better off.
                self._warn(name, f"the segment in note {name} is not repaired: {_told(error)}")
        self._numbers.looks += 1
        self._numbers.away = sorted({*means.silent, *means.failed})
        self._numbers.lost = sorted(lost)
        if is_first:
            await self._recount()
        return not self._numbers.away

    async def _recount(self) -> None:
        """Find what holders of stores are not proven to have any more."""
        if not self._plan.holders:
            return
        try:
            recounts = await self._recounts.follow()
        except Exception as error:  # What is lost is repaired without it.
            self._warn("recount", f"its holdings are not counted for now: {_told(error)}")
            return
        self._warned.pop("recount", None)
        found = set[tuple[str, FragmentKey]]()
        for store, holder in self._plan.holders.items():
            holders = {store: holder}
            found |= await self._compute(unproven, recounts[holder], holders, self._clock.time_ms())
        self._unproven, before = frozenset(found), self._unproven
        self._repairs = self._unproven & before

    def _means(self, pace: Pace, away: Collection[str]) -> Means:
        return Means(
            stores=dict(self._plan.stores()),
            places=self._plan.places,
            away=away,
            compute=self._compute,
            pace=pace,
            moves=False,
            unproven=self._repairs,
        )

    async def _mend(
        self,
        segment: Segment,
        means: Means,
        share: PaceShare,
        away: set[str],
        lost: set[str],
        *,
        check: bool,
    ) -> bool:
        """Make anew what is lost of a segment, or wrong, and rest; whether nothing is left to do.

        Args:
            away: Gets the stores that do not answer, which are asked no more.
            lost: Gets the object, if it cannot be restored.
        """
        settled = True
        async with self._plan.turns:
            began, waited = self._clock.monotonic(), share.waited
            found = self._found(segment, means, away, lost)
            async with aclosing(rebalance_objects(found, means, check=check)) as outcomes:
                async for outcome in outcomes:
                    settled &= outcome.is_settled
                    self._numbers.outcomes.add(outcome)
                    self._tell(outcome)
                    if outcome.loss and not outcome.unanswered:
                        lost.add(segment.object)
            settled &= segment.object not in lost and not (means.silent or means.failed)
        await self._rests.after(began + share.waited - waited)
        return settled

    async def _found(
        self, segment: Segment, means: Means, away: set[str], lost: set[str]
    ) -> AsyncIterator[list[Source]]:
        """The fragments of a segment."""
        there = {name: it for name, it in means.stores.items() if name not in away}
        sources, faults = await find_sources(bytes.fromhex(segment.object), there, self._compute)
        away |= {fault.store for fault in faults if isinstance(fault, Silence)}
        # The same content may have been stored otherwise, too: that is none of the archive.
        if own := [it for it in sources if it.key.root.hex() == segment.root]:
            yield own
        elif not means.silent:
            lost.add(segment.object)
            self._warn(segment.object, f"no store has segment {segment.object} any more")

    def _tell(self, outcome: Outcome) -> None:
        segment = outcome.object_id.hex()
        for index, name in sorted(outcome.made.items()):
            logger.info(
                "%s: fragment %d of segment %s was made anew in store %s",
                *(self._slug, index, segment, name),
            )
        for index, name in outcome.removed:
            logger.info(
                "%s: a wrong fragment %d of segment %s was removed from store %s",
                *(self._slug, index, segment, name),
            )
        if outcome.loss and not outcome.unanswered:
            self._warn(segment, f"segment {segment} cannot be restored: {outcome.loss}")
        elif outcome.missing:
            missing = ", ".join(map(str, outcome.missing))
            self._warn(segment, f"no store takes fragments {missing} of segment {segment}")
        elif outcome.troubles:
            index, name, detail = outcome.troubles[0]
            where = f"store {name}, fragment {index} of segment {segment}"
            self._warn(segment, f"{where}: {detail}", where)
        else:
            self._warned.pop(segment, None)

    # --- reading

    async def read_next(self) -> bool:
        """Read the segment that was read longest ago, if that is long enough; whether it was."""
        if not self._next:
            segments = await self._storage.notes(notes.SEGMENT)
            noted = await self._storage.notes(notes.SEGMENT_READ)
            self._next = await self._compute(_by_time_read, [*segments], noted)
        now_ms = self._clock.time_ms()
        every_ms = self._plan.read_every // timedelta(milliseconds=1)
        again_ms = min(READ_AGAIN // timedelta(milliseconds=1), every_ms)
        if not self._next or self._next[0].read_ms + every_ms > now_ms:
            self._next.clear()  # Segments may come before this is due.
            return False
        name = self._next.popleft().segment
        found = await self._storage.notes(name)
        away: set[str] = set()
        share = self._plan.read_pace.share()
        means = self._means(share, away)
        try:
            segment = Segment.from_bytes(found[name][32:])
            settled = await self._mend(segment, means, share, away, set(), check=True)
        except Exception:
            await self._note_read(name, now_ms - every_ms + again_ms)
            raise
        await self._note_read(name, now_ms if settled else now_ms - every_ms + again_ms)
        self._numbers.read += 1
        return True

    async def _note_read(self, segment: str, time_ms: int) -> None:
        name = notes.round_name(notes.SEGMENT_READ, notes.round_of(segment))
        await self._storage.keep({name: notes.number_bytes(max(time_ms, 0))})


class _Reading(NamedTuple):
    """When a segment was read."""

    read_ms: int
    """0 for never."""
    segment: str
    """The name of its note."""


def _by_time_read(segments: Sequence[str], noted: Mapping[str, bytes]) -> deque[_Reading]:
    """Those that were read longest ago first."""
    read = {notes.round_of(name): notes.decode_number(note) for name, note in noted.items()}
    return deque(sorted(_Reading(read.get(notes.round_of(name), 0), name) for name in segments))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, CitychainError) else repr(error)
