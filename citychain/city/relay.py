"""Votes and objections that reach a server which does not lead the city.

They are verified there, and left as notes (`citychain.notes`); the leader reads these while rounds
wait for their certificates, and takes each as if it had come to it. It trusts no note: signatures
are verified again. Representatives send a vote again until its round is certified: what is not in
the notes comes into them then. A server that finds another one's votes where it had left its own
leaves them elsewhere from then on.

Recoveries go to the leader alone: whoever sends one waits for what becomes of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, NoReturn, TypeVar

from citychain import notes
from citychain.city.standing import Standing
from citychain.city.watchers import Watchers
from citychain.errors import NotLeading, VerificationError
from citychain.ports import CityStorage, Clock, CommitteeStatus, SupportsVotes
from citychain.types import CastVote, Objection, VoteOutcome

__all__ = ["RelayReader", "Relayed", "SharedVoting"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

VERIFIED: Final = (
    VoteOutcome.COUNTED,
    VoteOutcome.LATE,
    VoteOutcome.OTHER_CHECKPOINT,
    VoteOutcome.EQUIVOCATION,
)
"""Outcomes of votes whose signatures hold."""
SENT_AGAIN: Final = (VoteOutcome.REPEATED, VoteOutcome.OTHER_CHECKPOINT, VoteOutcome.EQUIVOCATION)
"""Outcomes of votes that may have come before: one that is held against its key never counts, so it
is never told to be repeated."""
RETRY_AFTER: Final = timedelta(seconds=1)
REFRESH_SECONDS: Final = 1.0
"""Between two looks whether a recovery put a key in office."""
CERTIFIED_MAX: Final = 4
"""Votes of rounds that have their certificates, which are relayed once more with later ones."""
A_KEY_MAX: Final = 2
"""Votes of a key for one round: two accuse it, and no more of them take others' places."""
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
        self._server = server
        self._slot, self._moves = notes.relay_slot(server), 0
        self._leads = leads
        self._latest: dict[int, list[CastVote]] = {}
        """Votes to relay, by the group of their keys."""
        self._written: dict[str, bytes] = {}
        """Hashes of notes with votes by name, as this server left them."""
        self._resumed = self._heard = clock.monotonic() - REFRESH_SECONDS
        self._relayed = Relayed(slug, step, storage)

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        """See `SupportsVotes.cast`. What is relayed is durable when this returns."""
        outcomes = await self._step.cast(votes)
        if not self._leads():
            unknown = VoteOutcome.NO_SEAT in outcomes or self._heard_otherwise(votes, outcomes)
            if unknown and self._may_look_again():
                await self._look_again()
                outcomes = await self._step.cast(votes)
            await self._relay(votes, outcomes)
        return outcomes

    def _heard_otherwise(self, votes: Sequence[CastVote], outcomes: Sequence[VoteOutcome]) -> bool:
        """Whether a vote is known that is not here: another server relayed it, which may be gone,
        or this one led. That it is repeated does not say that its signature holds."""
        return any(
            outcome is VoteOutcome.REPEATED and self._waits(vote) and not self._remembers(vote)
            for vote, outcome in zip(votes, outcomes, strict=True)
        )

    async def _relay(self, votes: Sequence[CastVote], outcomes: Sequence[VoteOutcome]) -> None:
        keys, again = dict[int, bytes](), set[int]()
        for vote, outcome in zip(votes, outcomes, strict=True):
            group, waits = notes.relay_group(vote.vote.key_id), self._waits(vote)
            if outcome in SENT_AGAIN and waits and self._remembers(vote):
                again.add(group)
            # What is late by what the step knows, and not yet by what is told, is not verified.
            elif outcome in VERIFIED and not (outcome is VoteOutcome.LATE and waits):
                self._remember(vote)
            else:
                continue
            keys[group] = vote.vote.key_id
        for group in again:
            await self._see_that_it_is_there(keys[group])
        await asyncio.gather(*(self._leave(key_id) for key_id in keys.values()))

    def _waits(self, vote: CastVote) -> bool:
        return vote.round > self._standing.certified_round

    def _remembers(self, vote: CastVote) -> bool:
        """Whether a vote that says the same is to be relayed."""
        latest = self._latest.get(notes.relay_group(vote.vote.key_id), ())
        return any((*one[:2], one.vote[0]) == (*vote[:2], vote.vote[0]) for one in latest)

    def _remember(self, vote: CastVote) -> None:
        latest = self._latest.setdefault(notes.relay_group(vote.vote.key_id), [])
        if vote not in latest:
            latest.append(vote)
        same = [one for one in latest if (one.round, one.vote[0]) == (vote.round, vote.vote[0])]
        if len(same) > A_KEY_MAX:
            latest.remove(same[0])

    def _to_leave(self, group: int) -> list[CastVote]:
        """What is to be in the note of a group. What waits and has no place there stays here: it
        is sent again until its round is certified, and there is place when older ones are."""
        latest = self._latest[group]
        done = [vote for vote in latest if not self._waits(vote)][-CERTIFIED_MAX:]
        latest[:] = done + sorted(filter(self._waits, latest), key=lambda vote: vote.round)
        return latest[: notes.RELAYED_VOTES_MAX]

    async def _see_that_it_is_there(self, key_id: bytes) -> None:
        """See that a note is there still; move on where another server writes in its place."""
        slot, group = self._slot, notes.relay_group(key_id)
        name = notes.relayed_name(notes.RELAYED_VOTES, slot, key_id)
        if name not in self._written:
            return
        there = (await self._storage.notes(name, self._written)).get(name)
        if there is None:
            return
        self._written.pop(name, None)
        try:
            votes = notes.decode_relayed_votes(there)
        except VerificationError:
            return
        strange = any(self._waits(vote) and vote not in self._latest[group] for vote in votes)
        if strange and slot == self._slot:
            self._moves += 1
            self._slot = notes.relay_slot(self._server, self._moves)

    async def _leave(self, key_id: bytes) -> None:
        """Write the note of a key's group, if it is not there.

        Each note is a call of its own: which ones change together differs each time, and all of
        them are more than what one call keeps.
        """
        name = notes.relayed_name(notes.RELAYED_VOTES, self._slot, key_id)
        note = notes.relayed_votes_bytes(self._to_leave(notes.relay_group(key_id)))
        hash = notes.digest(note)
        if self._written.get(name) != hash:
            await self._storage.keep({name: note})
            self._written[name] = hash

    def _may_look_again(self) -> bool:
        return self._clock.monotonic() - self._resumed >= REFRESH_SECONDS

    async def _look_again(self) -> None:
        """Learn of recoveries that the leader put in force, and of votes anew."""
        self._resumed = self._clock.monotonic()
        if self._resume is not None and not self._leads():
            # It may have forgotten what it took.
            self._relayed = Relayed(self._slug, self._step, self._storage)
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

    def __init__(self, slug: str, step: SupportsVotes, storage: CityStorage) -> None:
        self._slug = slug
        self._step = step
        self._storage = storage
        self._taken: dict[str, bytes] = {}
        """Hashes of notes by name."""

    async def look(self) -> bool:
        """Take what is new; whether there was any."""
        step = self._step
        votes = await self._take(notes.RELAYED_VOTES, notes.decode_relayed_votes, step.cast)
        objections = await self._take(
            notes.RELAYED_OBJECTIONS, notes.decode_relayed_objections, step.object
        )
        return votes or objections

    async def _take(
        self,
        kind: str,
        decode: Callable[[bytes], Sequence[T]],
        take: Callable[[Sequence[T]], Awaitable[object]],
    ) -> bool:
        found = await self._storage.notes(kind, self._taken)
        for name, note in found.items():
            try:
                relayed = decode(note)
            except VerificationError as error:
                # It stays so until it is written again: those after it are not to wait for it.
                logger.warning("%s: note %s is passed over: %s", self._slug, name, error)
            else:
                await take(relayed)
            self._taken[name] = notes.digest(note)
        return bool(found)


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
        self._relayed = Relayed(slug, step, storage)
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
