"""The votes of representatives, wherever they are: what consensus steps with a committee share.

A step offers what `citychain.ports.SupportsVotes` asks for by way of its `VoteBox`, and has it
approve rounds. Votes for a round that is sealed count before `VoteBox.approve` has heard of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from citychain import checkpoint, notes
from citychain.consensus._durable import durable_hash
from citychain.consensus._recoveries import Recoveries, SignedRecovery
from citychain.consensus._tally import Tally
from citychain.consensus._verifier import Verifier
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import CityUnavailable, ConsensusError, InvalidRequest
from citychain.ports import (
    CityContext,
    CityStorage,
    CommitteeStatus,
    RepresentativeStatus,
    StoredRound,
)
from citychain.types import (
    CastVote,
    Certificate,
    ConflictingVotes,
    Objection,
    Recovery,
    VoteOutcome,
)
from citychain.waiting import conflict_in_words, objection_in_words

__all__ = ["VoteBox"]

logger = logging.getLogger(__name__)

RECENT_ROUNDS: Final = notes.LATE_ROUNDS
"""The latest certified rounds: later votes for them are verified and kept."""
AHEAD_ROUNDS: Final = 64
"""Sealed rounds after the last certified one whose votes are taken."""


class VoteBox:
    """Takes votes for one city's rounds and makes certificates of them.

    It is a `citychain.ports.SupportsVotes`; `close` it with the city.
    """

    def __init__(self, city: CityContext) -> None:
        self._city = city
        self._recoveries = Recoveries(city)
        self._own = {key_id(key.public_key): key for key in city.representatives}
        self._verifier = Verifier(city, self._recoveries)
        self._tallies: dict[int, Tally] = {}
        self._certified_round = 0
        """What storage knew of it when it was last asked."""
        self._last_rounds: dict[bytes, int] = {}
        self._objections: dict[bytes, Objection] = {}
        self._conflicts: dict[bytes, ConflictingVotes] = {}
        self._unkept: dict[str, ConflictingVotes | Tally] = {}
        """Conflicts, and tallies with late votes, to be kept under these names."""
        self._keeping = asyncio.Lock()
        self._deciding = asyncio.Lock()
        """Held while a certificate is made, and while it changes who makes them."""
        self._recovering: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loading = asyncio.Lock()
        self._loaded = False

    @property
    def _storage(self) -> CityStorage:
        assert self._city.storage is not None, "a city that is only followed takes no votes"
        return self._city.storage

    # --- certificates

    async def approve(self, round: StoredRound) -> Certificate:
        """See `citychain.ports.ConsensusStep.approve`.

        Raises:
            ConsensusError: storage has another checkpoint of this round.
        """
        # Before the first await: rounds come in order, and one can elect who is next.
        tally = self._tallies.get(round.round) or self._open(round)
        await self._load()
        durable = await durable_hash(self._city, round.round)
        if tally.checkpoint_hash != durable and self._tallies.get(round.round) is tally:
            del self._tallies[round.round]
        if not tally.checkpoint_hash == durable == round.checkpoint_hash:
            raise ConsensusError(f"storage has another checkpoint of round {round.round}")
        while True:
            tally.changed.clear()
            await self._sign(tally)
            async with self._deciding:
                if self._is_next(tally) and (certificate := tally.certificate()) is not None:
                    tally.certified = True
                    if (after := self._tallies.get(tally.round + 1)) is not None:
                        after.changed.set()
                    self._forget()
                    return certificate
            await tally.changed.wait()

    def _is_next(self, tally: Tally) -> bool:
        """Whether the round before has its certificate: a recovery replaces who certifies a
        round and all after it."""
        before = self._tallies.get(tally.round - 1)
        return before is None or before.certified

    async def _sign(self, tally: Tally) -> None:
        """Vote with the keys inside the server that have a seat; they always repeat a vote."""
        keys = {
            signer: key
            for signer, key in self._own.items()
            if tally.has_seat(signer) and signer not in tally.votes
        }
        if not keys:
            return
        message = self._message(tally.round, tally.checkpoint_hash)
        for signer, signature in (await self._city.compute(_sign_all, keys, message)).items():
            if signer not in tally.votes:
                tally.add(signer, signature)
                self._voted(signer, tally.round)

    def _message(self, round: int, checkpoint_hash: bytes) -> bytes:
        return checkpoint.vote_message(self._city.genesis.id, round, checkpoint_hash)

    def _open(self, stored: StoredRound) -> Tally:
        decoded = checkpoint.decode(stored.checkpoint)
        if decoded.next_committee is not None:
            self._recoveries.elected(stored.round)
        tally = Tally(
            stored.round, stored.checkpoint_hash, decoded.committee, self._city.genesis.quorum
        )
        self._seat(tally)
        self._tallies[stored.round] = tally
        return tally

    def _seat(self, tally: Tally) -> None:
        tally.seat(self._recoveries.in_office(tally.round, tally.named))

    def _learn(self, certified_round: int) -> None:
        """What storage has certificates of is certified, on whichever server."""
        self._certified_round = certified_round
        waiting = [tally for tally in self._tallies.values() if not tally.certified]
        for tally in waiting:
            tally.certified = tally.round <= certified_round
        if any(tally.certified for tally in waiting):
            self._forget()

    def _forget(self) -> None:
        """Let go of certified rounds that are too old for late votes."""
        certified = [number for number, tally in self._tallies.items() if tally.certified]
        for number in certified:
            if number <= max(certified) - RECENT_ROUNDS:
                del self._tallies[number]

    async def _load(self) -> None:
        """Read what was kept, once."""
        async with self._loading:
            if self._loaded:
                return
            await self._recoveries.load(self._storage)
            for note in (await self._storage.notes(notes.CONFLICT)).values():
                conflict = notes.decode_conflict(note)
                self._conflicts[conflict.first.vote.key_id] = conflict
            self._loaded = True
            for tally in self._tallies.values():
                self._seat(tally)

    async def resume(self) -> None:
        """See `citychain.ports.resumes`: rounds, recoveries and conflicts are read anew, and
        recoveries that could not be kept yet are given up."""
        await self.close()
        self._closed = False
        async with self._loading:
            self._tallies.clear()
            self._recoveries.forget()
            self._loaded = False

    # --- the committee

    async def recover(self, envelope: bytes, public_keys: Sequence[bytes]) -> None:
        """See `citychain.ports.SupportsVotes.recover`; one that is in force already changes
        nothing."""
        await self._load()
        order = await self._verifier.in_turn(partial(self._recoveries.read, envelope, public_keys))
        if self._closed:
            raise self._closing()
        # Its keeping must not end half-way, whatever becomes of the caller.
        keeping = asyncio.create_task(self._recover(order))
        self._recovering.add(keeping)
        keeping.add_done_callback(self._recovering.discard)
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            if keeping.cancelled():
                raise self._closing() from None
            raise

    async def close(self) -> None:
        """Give up recoveries that could not be kept yet: the next opening finds what of them
        is durable."""
        self._closed = True
        for keeping in (recovering := [*self._recovering]):
            keeping.cancel()
        await asyncio.gather(*recovering, return_exceptions=True)

    def _closing(self) -> CityUnavailable:
        return CityUnavailable(self._city.slug, "closing", timedelta(seconds=1))

    async def _recover(self, order: SignedRecovery) -> None:
        async with self._deciding:
            if self._recoveries.knows(order.tx_id):
                return
            await self._check_place(order.recovery)
            self._recoveries.check_order(order)
            await self._recoveries.keep(order, self._storage)
            for tally in self._tallies.values():
                self._seat(tally)

    async def recovers(self, tx_id: bytes) -> bool:
        """See `citychain.ports.SupportsVotes.recovers`."""
        await self._load()
        return self._recoveries.knows(tx_id)

    async def _check_place(self, recovery: Recovery) -> None:
        """Hold a recovery to where the ledger stands."""
        head = await self._storage.head()
        first = head.certified_round + 1
        while first in self._tallies and self._tallies[first].certified:
            first += 1
        if recovery.from_round != first:
            raise InvalidRequest(
                "transaction.body.recovery.from_round",
                f"is {recovery.from_round}; the first round without a certificate is {first}",
            )
        hashes = await self._storage.checkpoint_hashes([first - 1])
        if recovery.previous != hashes.get(first - 1, self._city.genesis.id):
            raise InvalidRequest(
                "transaction.body.recovery.previous",
                f"is not the hash of the checkpoint of round {first - 1}",
            )

    async def committee(self) -> CommitteeStatus:
        """See `citychain.ports.SupportsVotes.committee`."""
        await self._load()
        head = await self._storage.head()
        self._learn(head.certified_round)
        tally = await self._waiting()
        return CommitteeStatus(
            round=tally.round,
            members=[
                RepresentativeStatus(
                    seat.key_id,
                    seat.stake,
                    self._last_rounds.get(seat.key_id, 0),
                    self._objections.get(seat.key_id),
                )
                for seat in tally.committee
            ],
            stake_for=tally.stake_for,
            stake_needed=tally.stake_needed,
            sealed_round=head.round,
            approved_round=head.certified_round,
            conflicting=tuple(self._conflicts.values()),
        )

    async def _waiting(self) -> Tally:
        """Of the first round that waits for its certificate, or an empty one of the next."""
        waiting = [number for number, tally in self._tallies.items() if not tally.certified]
        if waiting:
            return self._tallies[min(waiting)]
        head = await self._storage.head()
        named = self._city.genesis.seats
        if head.round:
            last = checkpoint.decode(head.checkpoint)
            named = last.next_committee or last.committee
        tally = Tally(head.round + 1, b"", named, self._city.genesis.quorum)
        self._seat(tally)
        return tally

    # --- votes

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        """See `citychain.ports.SupportsVotes.cast`. What is late, and what conflicts, is
        durable when this returns."""
        await self._load()
        await self._open_rounds({vote.round for vote in votes})
        if any(self._outcome_at_once(vote) is None for vote in votes):
            outcomes = await self._verifier.in_turn(partial(self._verify_and_take, votes))
        else:
            outcomes = [self._take(vote, None) for vote in votes]
        await self._keep()
        return outcomes

    async def _verify_and_take(self, votes: Sequence[CastVote]) -> list[VoteOutcome]:
        # What came while others had their turn needs no signature any more. A vote that is held
        # against its key does: another one of the call can make it the second.
        open_to_doubt = (None, VoteOutcome.OTHER_CHECKPOINT)
        doubtful = list(
            dict.fromkeys(vote for vote in votes if self._outcome_at_once(vote) in open_to_doubt)
        )
        found = await self._verifier.public_keys(
            [
                (
                    vote.vote.key_id,
                    self._message(vote.round, vote.checkpoint_hash),
                    checkpoint.VOTE_CONTEXT,
                    vote.vote.signature,
                )
                for vote in doubtful
            ],
            self._storage,
        )
        keys = dict(zip(doubtful, found, strict=True))
        return [self._take(vote, keys.get(vote)) for vote in votes]

    async def _open_rounds(self, numbers: set[int]) -> None:
        """Begin to count for rounds of which `approve` has not heard, or not since the opening."""
        numbers -= self._tallies.keys()
        if not numbers:
            return
        head = await self._storage.head()
        self._learn(head.certified_round)
        first = head.certified_round + 1
        # One of these can elect who certifies the next: none is left out.
        last = min(max(numbers), head.round, head.certified_round + AHEAD_ROUNDS)
        # Rounds of which storage does not know yet that they are certified count too: of two
        # rounds that far apart, only one has a place for its late votes.
        through = head.certified_round
        while through + 1 in self._tallies and self._tallies[through + 1].certified:
            through += 1
        late = {number for number in numbers if max(0, through - RECENT_ROUNDS) < number < first}
        for number in [*sorted(late), *range(first, last + 1)]:
            if number in self._tallies:
                continue
            [stored] = await self._storage.rounds(number, 1)
            kept = await self._late_votes(number) if number in late else {}
            if number in self._tallies:
                continue
            tally = self._open(stored)
            if stored.certificate is not None:
                tally.votes.update(stored.certificate.votes)
                tally.certified = True
            for signer, signature in kept.items():
                tally.add(signer, signature)

    async def _late_votes(self, number: int) -> Mapping[bytes, bytes]:
        name = notes.late_votes_name(number)
        if (note := (await self._storage.notes(name)).get(name)) is None:
            return {}
        round, signatures = notes.decode_late_votes(note)
        return signatures if round == number else {}

    def _outcome_at_once(self, vote: CastVote) -> VoteOutcome | None:
        """What becomes of a vote whatever its signature is; ``None`` if that decides."""
        if (tally := self._tallies.get(vote.round)) is None:
            past = vote.round <= self._certified_round
            return VoteOutcome.LATE if past else VoteOutcome.UNKNOWN_ROUND
        if not tally.has_seat(vote.vote.key_id):
            return VoteOutcome.NO_SEAT
        if tally.known(vote):
            return VoteOutcome.REPEATED
        return VoteOutcome.OTHER_CHECKPOINT if tally.holds_against(vote) else None

    def _take(self, vote: CastVote, public_key: bytes | None) -> VoteOutcome:
        """Take a vote whose signature holds for this key, or does not."""
        # Meanwhile it can have come another way, or its round got another committee.
        if (outcome := self._outcome_at_once(vote)) is not None:
            return outcome
        if public_key is None:
            return VoteOutcome.BAD_SIGNATURE
        tally, signer = self._tallies[vote.round], vote.vote.key_id
        outcome, before = tally.take(vote)
        if tally.known(vote):
            self._voted(signer, vote.round)
            if tally.certified:
                self._unkept[notes.late_votes_name(tally.round)] = tally
        if before is not None and signer not in self._conflicts:
            self._conflict(ConflictingVotes(public_key, before, vote))
        return outcome

    def _conflict(self, conflict: ConflictingVotes) -> None:
        signer = conflict.first.vote.key_id
        self._conflicts[signer] = self._unkept[f"{notes.CONFLICT}{signer.hex()}"] = conflict
        logger.error("%s: %s; the proof is kept", self._city.slug, conflict_in_words(conflict))

    async def _keep(self) -> None:
        """Make durable what is not yet. Calls that come while one writes share the next write."""
        if not self._unkept and not self._keeping.locked():
            return
        async with self._keeping:
            if not (taken := dict(self._unkept)):
                return
            self._unkept.clear()
            try:
                for one in taken.values():
                    if isinstance(one, Tally):
                        await self._add_kept(one)
                await self._storage.keep(
                    {
                        name: notes.late_votes_bytes(one.round, one.late)
                        if isinstance(one, Tally)
                        else notes.conflict_bytes(one)
                        for name, one in taken.items()
                    }
                )
            except BaseException:
                self._unkept = taken | self._unkept
                raise

    async def _add_kept(self, tally: Tally) -> None:
        """Add the late votes that another server kept."""
        for signer, signature in (await self._late_votes(tally.round)).items():
            if signer not in tally.votes:
                tally.add(signer, signature)

    def _voted(self, signer: bytes, round: int) -> None:
        self._last_rounds[signer] = max(round, self._last_rounds.get(signer, 0))
        objection = self._objections.get(signer)
        if objection is not None and objection.round <= round:
            del self._objections[signer]

    # --- objections

    async def object(self, objections: Sequence[Objection]) -> None:
        """See `citychain.ports.SupportsVotes.object`."""
        await self._load()
        office = await self._waiting()
        heard = [one for one in objections if office.has_seat(one.key_id) and self._is_news(one)]
        if heard:
            await self._verifier.in_turn(partial(self._verify_and_note, heard))

    async def _verify_and_note(self, objections: Sequence[Objection]) -> None:
        heard = [one for one in dict.fromkeys(objections) if self._is_news(one)]
        found = await self._verifier.public_keys(
            [
                (
                    one.key_id,
                    checkpoint.objection_message(self._city.genesis.id, *one[:4]),
                    checkpoint.OBJECTION_CONTEXT,
                    one.signature,
                )
                for one in heard
            ],
            self._storage,
        )
        for one, public_key in zip(heard, found, strict=True):
            if public_key is not None and self._is_news(one):
                self._objections[one.key_id] = one
                logger.warning("%s: %s", self._city.slug, objection_in_words(one))

    def _is_news(self, objection: Objection) -> bool:
        """Whether it says something new, and the key did not vote since."""
        known = self._objections.get(objection.key_id)
        if known is not None and (known[:5] == objection[:5] or known.round > objection.round):
            return False
        return objection.round > self._last_rounds.get(objection.key_id, 0)


def _sign_all(keys: Mapping[bytes, SigningKey], message: bytes) -> dict[bytes, bytes]:
    return {
        signer: key.sign(message, checkpoint.VOTE_CONTEXT, deterministic=True)
        for signer, key in keys.items()
    }
