"""Votes and objections that reach a server which does not lead the city.

They are verified there, and left as notes (`citychain.notes`); the leader reads these while rounds
wait for their certificates, and takes each as if it had come to it. It trusts no note: signatures
are verified again. A note in whose place another server writes its own costs a second:
representatives send a vote again until its round is certified.

Recoveries go to the leader alone: whoever sends one waits for what becomes of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, NoReturn

from citychain import notes
from citychain.city.standing import Standing
from citychain.city.watchers import Watchers
from citychain.errors import NotLeading
from citychain.ports import CityStorage, Clock, CommitteeStatus, SupportsVotes
from citychain.types import CastVote, Objection, VoteOutcome

__all__ = ["RelayReader", "Relayed", "SharedVoting"]

logger = logging.getLogger(__name__)

VERIFIED: Final = (
    VoteOutcome.COUNTED,
    VoteOutcome.LATE,
    VoteOutcome.OTHER_CHECKPOINT,
    VoteOutcome.EQUIVOCATION,
)
"""Outcomes of votes whose signatures hold."""
RETRY_AFTER: Final = timedelta(seconds=1)
REFRESH_SECONDS: Final = 1.0
"""Between two looks whether a recovery put a key in office."""
CERTIFIED_MAX: Final = 4
"""Votes of rounds that have their certificates, which are relayed once more with later ones."""
LOOK_SECONDS: Final = (0.1, 1.0)
"""Between two looks of the leader: while votes come, and while none do."""
SHARE: Final = 10
"""A look comes after a tenth of the time in which none came."""


class SharedVoting:
    """The `citychain.ports.SupportsVotes` of a city that several servers share.

    Args:
        step: The consensus step's own; it verifies, and counts while this server leads.
        resume: See `citychain.ports.resumes`.
        server: The name of this server.
        leads: Whether it leads the city now.
    """

    def __init__(
        self,
        *,
        slug: str,
        step: SupportsVotes,
        resume: Callable[[], Awaitable[None]] | None,
        storage: CityStorage,
        standing: Standing,
        clock: Clock,
        server: str,
        leads: Callable[[], bool],
    ) -> None:
        self._slug = slug
        self._step = step
        self._resume = resume
        self._storage = storage
        self._standing = standing
        self._clock = clock
        self._slot = notes.relay_slot(server)
        self._leads = leads
        self._latest: dict[str, list[CastVote]] = {}
        """Votes to relay, by the name of their note."""
        self._resumed = self._heard = clock.monotonic() - REFRESH_SECONDS
        self._relayed = Relayed(step, storage)

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        """See `SupportsVotes.cast`. What is relayed is durable when this returns."""
        outcomes = await self._step.cast(votes)
        if not self._leads():
            if VoteOutcome.NO_SEAT in outcomes and self._may_have_a_seat_now():
                await self._look_again()
                outcomes = await self._step.cast(votes)
            await self._relay(votes, outcomes)
        return outcomes

    async def _relay(self, votes: Sequence[CastVote], outcomes: Sequence[VoteOutcome]) -> None:
        certified, written = self._standing.certified_round, dict[str, bytes]()
        for vote, outcome in zip(votes, outcomes, strict=True):
            name = notes.relayed_name(notes.RELAYED_VOTES, self._slot, vote.vote.key_id)
            if outcome in VERIFIED:
                self._remember(name, vote)
            elif outcome is not VoteOutcome.REPEATED or vote.round <= certified:
                continue
            # Also of a repeated one, since another server may have written in its place.
            if latest := self._latest.get(name):
                written[name] = notes.relayed_votes_bytes(latest)
        if written:
            await self._storage.keep(written)

    def _remember(self, name: str, vote: CastVote) -> None:
        latest = self._latest.setdefault(name, [])
        if vote not in latest:
            latest.append(vote)
        certified = self._standing.certified_round
        done = [vote for vote in latest if vote.round <= certified][-CERTIFIED_MAX:]
        waiting = [vote for vote in latest if vote.round > certified]
        self._latest[name] = (done + waiting)[-notes.RELAYED_VOTES_MAX :]

    def _may_have_a_seat_now(self) -> bool:
        return self._clock.monotonic() - self._resumed >= REFRESH_SECONDS

    async def _look_again(self) -> None:
        """Learn of recoveries that the leader put in force."""
        self._resumed = self._clock.monotonic()
        if self._resume is not None and not self._leads():
            # It may have forgotten what it took.
            self._relayed = Relayed(self._step, self._storage)
            await self._resume()

    async def object(self, objections: Sequence[Objection]) -> None:
        """See `SupportsVotes.object`."""
        await self._step.object(objections)
        if self._leads():
            return
        heard = [
            member.objection
            for member in (await self._step.committee()).members
            if member.objection is not None
        ]
        by_name: dict[str, list[Objection]] = {}
        for one in heard:
            name = notes.relayed_name(notes.RELAYED_OBJECTIONS, self._slot, one.key_id)
            by_name.setdefault(name, []).append(one)
        written = {
            name: notes.relayed_objections_bytes(some)
            for name, some in by_name.items()
            if any(one in objections for one in some)
        }
        if written:
            await self._storage.keep(written)

    async def recover(self, envelope: bytes, public_keys: Sequence[bytes]) -> None:
        """See `SupportsVotes.recover`.

        Raises:
            NotLeading: this server does not lead the city.
        """
        if not self._leads():
            raise NotLeading(self._slug, RETRY_AFTER)
        await self._step.recover(envelope, public_keys)

    async def recovers(self, tx_id: bytes) -> bool:
        """See `SupportsVotes.recovers`."""
        if await self._step.recovers(tx_id):
            return True
        await self._look_again()
        return await self._step.recovers(tx_id)

    async def committee(self) -> CommitteeStatus:
        """See `SupportsVotes.committee`. Where this server does not lead, what others relayed is
        in it, and stake that the leader alone heard of is missing."""
        if not self._leads() and self._clock.monotonic() - self._heard >= REFRESH_SECONDS:
            self._heard = self._clock.monotonic()
            try:
                await self._relayed.look()
            except Exception as error:
                logger.warning("%s: relayed votes were not taken: %r", self._slug, error)
        return await self._step.committee()


class Relayed:
    """Takes what other servers relayed into a consensus step, each once.

    Args:
        step: The consensus step's own.
    """

    def __init__(self, step: SupportsVotes, storage: CityStorage) -> None:
        self._step = step
        self._storage = storage
        self._taken: dict[str, bytes] = {}
        """Hashes of notes by name."""

    async def look(self) -> bool:
        """Take what is new; whether there was any."""
        votes = await self._storage.notes(notes.RELAYED_VOTES, self._taken)
        for name, note in votes.items():
            await self._step.cast(notes.decode_relayed_votes(note))
            self._taken[name] = notes.digest(note)
        objections = await self._storage.notes(notes.RELAYED_OBJECTIONS, self._taken)
        for name, note in objections.items():
            await self._step.object(notes.decode_relayed_objections(note))
            self._taken[name] = notes.digest(note)
        return bool(votes or objections)


class RelayReader:
    """Takes what other servers relayed, while this one leads.

    Args:
        step: The consensus step's own.
    """

    def __init__(
        self,
        *,
        slug: str,
        step: SupportsVotes,
        storage: CityStorage,
        standing: Standing,
        watchers: Watchers,
        clock: Clock,
    ) -> None:
        self._slug = slug
        self._relayed = Relayed(step, storage)
        self._standing = standing
        self._watchers = watchers
        self._clock = clock

    async def run(self) -> NoReturn:
        """Look while rounds wait for their certificates, until cancelled."""
        came = self._clock.monotonic()
        least, most = LOOK_SECONDS
        while True:
            progress = self._watchers.progress()
            if self._standing.head.round == self._standing.certified_round:
                await asyncio.shield(progress)
                came = self._clock.monotonic()
            try:
                if await self._relayed.look():
                    came = self._clock.monotonic()
            except Exception as error:
                logger.warning("%s: relayed votes were not taken: %r", self._slug, error)
            quiet = (self._clock.monotonic() - came) / SHARE
            await self._clock.sleep(min(max(least, quiet), most))
