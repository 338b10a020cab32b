"""A representative in a process of its own: follows a city, checks everything, votes.

It keeps a copy of the ledger that it has checked, and a round is durable in that
copy before a vote for it is sent. A copy holds each round once, so whatever is
killed and whenever, a representative never signs two checkpoints of one round.
That holds for one key on one state directory: never run a key on two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from citychain import checkpoint
from citychain.city.replay import PublishedRound, Replay
from citychain.city.retry import pause_seconds
from citychain.city.state import LedgerState
from citychain.client.city import CityClient
from citychain.committee import CommitteeChain
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import (
    CitychainError,
    InvalidRound,
    StorageError,
    VerificationError,
)
from citychain.following.timeliness import Timeliness
from citychain.genesis import Genesis
from citychain.ports import CityStorage, Clock, Compute, StoredRound
from citychain.types import CastVote, Objection, RawTransaction, SealedRound, Vote, VoteOutcome

__all__ = ["Representative"]

logger = logging.getLogger(__name__)

REFUSED: Final = "refused/"
"""Notes of rounds that were dated back, by number: their checkpoint's hash. They get no vote
later either, when nothing shows it any more."""
REPEAT_SECONDS: Final = 1.0
"""How often votes that no certificate has answered are sent again."""
VOTES_MAX: Final = 64
"""Votes sent in one call."""
FINE: Final = frozenset((VoteOutcome.COUNTED, VoteOutcome.REPEATED, VoteOutcome.LATE))
UNCOUNTED: Final = {
    VoteOutcome.UNKNOWN_ROUND: "the server does not have this round, which we checked: did it go "
    "back to an old copy?",
    VoteOutcome.OTHER_CHECKPOINT: "the server has another version of this round than the one that "
    "we checked and voted for; there is one vote a round",
    VoteOutcome.NO_SEAT: "our key has no seat in its committee; we follow on, and vote once it has",
    VoteOutcome.BAD_SIGNATURE: "the server knows no public key under which its signature holds",
    VoteOutcome.EQUIVOCATION: "our key has voted for another version of this round: it is in use "
    "elsewhere, or its state directory was lost; the proof is public",
}
"""Why a vote was not counted."""


class Representative:
    """Follows one city with one key.

    Args:
        storage: The copy of the ledger, which nobody else writes.
        state: Over ``storage``.
        replay: Resumed from ``storage``.
        objected: Told of the round that is refused, once.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        key: SigningKey,
        client: CityClient,
        storage: CityStorage,
        state: LedgerState,
        replay: Replay,
        compute: Compute,
        clock: Clock,
        objected: Callable[[InvalidRound], None] | None = None,
    ) -> None:
        self._genesis = genesis
        self._key = key
        self.key_id = key_id(key.public_key)
        """Id of its key."""
        self._client = client
        self._storage = storage
        self._state = state
        self._replay = replay
        self._compute = compute
        self._clock = clock
        self._objected = objected
        self._votes: dict[int, CastVote] = {}
        """Sent, or to be sent, and not known to be certified."""
        self._to_send = asyncio.Event()
        self._told: dict[VoteOutcome, int] = {}
        """The last round of which it was said that the vote was not counted, by the reason."""
        self._approved_round = 0
        self._timeliness = Timeliness(clock)
        self._chain = CommitteeChain(genesis)

    async def run(self) -> None:
        """Follow and vote until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_votes())
            await self._follow()

    # --- following

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(
                    self._client.follow_transactions(self._replay.head.round + 1, sealed=True)
                ) as rounds:
                    async for stored, envelopes, waited in rounds:
                        if stored.certificate is None:
                            self._timeliness.arrived(waited)
                        await self._take(stored, envelopes)
                        failures = 0
            except InvalidRound as error:
                await self._object(error)
            except (CitychainError, TimeoutError) as error:
                logger.warning("%s: %s; trying again", self._genesis.city, error)
            failures += 1
            await self._clock.sleep(pause_seconds(failures))

    async def _take(self, stored: StoredRound, envelopes: Sequence[bytes]) -> None:
        """Check a round, keep it, vote for it."""
        self._refused = stored
        published = await self._replay.read(stored, envelopes)
        await self._check_time(published)
        sealed = await self._replay.check(published)
        await self._keep(published, sealed)
        self._replay.advance(sealed)
        self._state.apply(sealed)
        if stored.certificate is None:
            await self._vote(sealed)

    async def _check_time(self, published: PublishedRound) -> None:
        """A round must be of about now, unless a quorum found that it was."""
        stored, time_ms = published.stored, published.record.time_ms
        fault = self._timeliness.ahead(time_ms)
        name = f"{REFUSED}{stored.round:016x}"
        if fault is None:
            fault = self._timeliness.back(time_ms)
            if (
                fault is None
                and stored.checkpoint_hash in (await self._storage.notes(name)).values()
            ):
                fault = "it was dated back when it came first"
            if fault is not None:
                await self._storage.keep({name: stored.checkpoint_hash})
        if fault is not None and not await self._is_certified(stored):
            raise InvalidRound(stored.round, "time", fault)

    async def _is_certified(self, stored: StoredRound) -> bool:
        """Whether its certificate is by the committee in office."""
        if stored.certificate is None:
            return False
        verify = partial(self._chain.verify_certificate, stored.checkpoint, stored.certificate)
        try:
            try:
                await self._compute(verify)
            except VerificationError:
                # A recovery can replace the committee that came in this very round.
                known = max(self._chain.known_round - 1, 0)
                for handover in await self._client.handovers(known):
                    await self._compute(self._chain.apply, handover)
                await self._compute(verify)
        except VerificationError:
            return False
        return True

    async def _keep(self, published: PublishedRound, sealed: SealedRound) -> None:
        """Make the round durable here: from then on no other version of it gets our vote."""
        authors = list({item.author for item in published.transactions})
        known = await self._storage.keys(authors)
        missing = [author for author in authors if author not in known]
        await self._storage.append(
            [RawTransaction(item.tx_id, item.author, item.envelope) for item in
             published.transactions],
            await self._client.public_keys(missing) if missing else {},
        )  # fmt: skip
        try:
            await self._storage.commit(sealed)
        except StorageError:
            # It may have happened all the same, now or when it was tried before.
            kept = (await self._storage.checkpoint_hashes([sealed.round])).get(sealed.round)
            if kept != sealed.checkpoint_hash:
                raise

    # --- voting

    async def _vote(self, sealed: SealedRound) -> None:
        await self._add_vote(sealed.round, sealed.checkpoint_hash)
        self._to_send.set()

    async def _vote_again(self) -> None:
        """Votes of an earlier life that may not have arrived, the same as then."""
        approved = (await self._client.committee()).approved_round
        for stored in await self._storage.rounds(approved + 1, VOTES_MAX):
            await self._add_vote(stored.round, stored.checkpoint_hash)

    async def _add_vote(self, round: int, digest: bytes) -> None:
        message = checkpoint.vote_message(self._genesis.id, round, digest)
        signature = await self._compute(
            self._key.sign, message, checkpoint.VOTE_CONTEXT, deterministic=True
        )
        self._votes[round] = CastVote(round, digest, Vote(self.key_id, signature))

    async def _send_votes(self) -> None:
        failures, resumed = 0, False
        while True:
            try:
                if not resumed:
                    await self._vote_again()
                    resumed = True
                await self._send()
                failures = 0
                await self._to_send.wait()
                self._to_send.clear()
            except (CitychainError, TimeoutError) as error:
                logger.warning("%s: votes were not taken: %s", self._genesis.city, error)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))

    async def _send(self) -> None:
        """Send what is not certified yet, again and again: a server that died forgot it."""
        while self._votes:
            votes = [self._votes[round] for round in sorted(self._votes)][:VOTES_MAX]
            outcomes = await self._client.cast_votes(votes)
            for vote, outcome in zip(votes, outcomes, strict=True):
                self._tell(vote.round, outcome)
            # Only what is durable there needs our vote no more.
            approved = (await self._client.committee()).approved_round
            for round in [round for round in self._votes if round <= approved]:
                del self._votes[round]
            if approved < self._approved_round:
                await self._vote_again()
            self._approved_round = approved
            try:
                async with asyncio.timeout(REPEAT_SECONDS):
                    await self._to_send.wait()
            except TimeoutError:
                continue
            self._to_send.clear()

    def _tell(self, round: int, outcome: VoteOutcome) -> None:
        """Say why a vote was not counted: of each round once, though it is sent again and again,
        and of no seat once, since it lasts."""
        if outcome in FINE:
            self._told.pop(VoteOutcome.NO_SEAT, None)
            return
        before = self._told.get(outcome, 0)
        if round > before and not (before and outcome is VoteOutcome.NO_SEAT):
            self._told[outcome] = round
            level = logging.WARNING if outcome is VoteOutcome.NO_SEAT else logging.ERROR
            logger.log(
                level,
                "%s: our vote for round %d was not counted: %s",
                self._genesis.city,
                round,
                UNCOUNTED[outcome],
            )

    # --- objecting

    _refused: StoredRound
    _last_objection: tuple[int, str] | None = None

    async def _object(self, error: InvalidRound) -> None:
        """Say in plain words, here and to the city, why there is no vote."""
        if self._last_objection != (error.round, str(error)):
            self._last_objection = (error.round, str(error))
            logger.error("%s: no vote: %s", self._genesis.city, error)
            if self._objected is not None:
                self._objected(error)
        detail = error.detail.encode()[:512].decode(errors="ignore")
        message = checkpoint.objection_message(
            self._genesis.id, error.round, self._refused.checkpoint_hash, error.check, detail
        )
        signature = await self._compute(
            self._key.sign, message, checkpoint.OBJECTION_CONTEXT, deterministic=True
        )
        objection = Objection(
            error.round,
            self._refused.checkpoint_hash,
            error.check,
            detail,
            self.key_id,
            signature,
        )
        try:
            await self._client.cast_votes([], [objection])
        except (CitychainError, TimeoutError) as failure:
            logger.warning("%s: the objection was not taken: %s", self._genesis.city, failure)
