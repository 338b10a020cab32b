"""Consensus steps with one mistake each, such as authors make."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from biting import Mutant

from citychain.checkpoint import vote_message
from citychain.consensus._tally import Tally
from citychain.consensus.poh_pop import PohPop, PohPopOptions
from citychain.consensus.solo import Solo, SoloOptions
from citychain.consensus.votes import VoteBox
from citychain.crypto.keys import key_id
from citychain.errors import StorageError
from citychain.hooks.definitions import ConsensusDefinition
from citychain.testing.conformance import ConsensusSuite, _consensus_fronts
from citychain.types import Certificate, PohEntry, Rejection, Seat, Vote, VoteOutcome

__all__ = ["MUTANTS", "Suite"]


class Suite(ConsensusSuite):
    """The suite, smaller."""

    rounds = 6
    big_batch = 1_000
    many_votes = 1_500
    examples = 500

    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch):
        """A call that does not end is what some of these are about."""
        monkeypatch.setattr(_consensus_fronts, "SECONDS", 1)


def step(broken):
    """The definition of a broken step."""
    options = PohPopOptions if issubclass(broken, PohPop) else SoloOptions
    return ConsensusDefinition("broken", broken, options, api_version=2)


def boxed(broken):
    """The definition of a step whose votes go into a broken box."""

    class Step(PohPop):
        def __init__(self, options, city):
            super().__init__(options, city)
            self._votes = broken(city)

    return step(Step)


def tallied(broken):
    """The definition of a step whose votes are counted by a broken tally."""

    class Box(VoteBox):
        def _open(self, stored):
            tally = super()._open(stored)
            tally.__class__ = broken
            return tally

    return boxed(Box)


# --- judging


class RefusesTheOld(PohPop):
    """Compares with the server's clock instead of the round's time."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        oldest = self.city.clock.time_ms() - 30 * 365 * 86_400_000
        old = {
            index: Rejection("OLD", "made too long ago")
            for index, candidate in enumerate(candidates)
            if candidate.created_at_ms < oldest
        }
        return replace(judgement, refused={**judgement.refused, **old})


class DrawsLots(PohPop):
    """Breaks ties by chance, of which there are none in these rounds."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        return judgement if random.random() < 2 else replace(judgement, refused={})


class ReadsWords(PohPop):
    """Reads content as text."""

    async def judge(self, round, candidates, state):
        for candidate in candidates:
            (candidate.content or b"").decode()
        return await super().judge(round, candidates, state)


class TakesTheFirstOfEach(PohPop):
    """Of an author's transactions takes the one that came first."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        refused, seen = dict(judgement.refused), set()
        for index, candidate in enumerate(candidates):
            if candidate.author in seen:
                refused[index] = Rejection("ONE_EACH", "one transaction a round")
            seen.add(candidate.author)
        return replace(judgement, refused=refused)


class RemembersAuthors(PohPop):
    """Keeps in memory, not in the ledger, who wrote in the round before."""

    def __init__(self, options, city):
        super().__init__(options, city)
        self._authors = {}

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        self._authors[round.round] = {candidate.author for candidate in candidates}
        resting = self._authors.get(round.round - 1, set())
        tired = {
            index: Rejection("REST", "wait for a round")
            for index, candidate in enumerate(candidates)
            if candidate.author in resting
        }
        return replace(judgement, refused={**judgement.refused, **tired})


class SeatsInASet(PohPop):
    """Removes repeats from the committee by way of a set."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        return replace(judgement, committee=tuple(set(judgement.committee)))


class AsksTheOperator(Solo):
    """Names the committee from its own key, not from the genesis."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        own = key_id(self.city.operator.public_key)
        return replace(judgement, committee=(Seat(own, 1),))


class SortsInPlace(PohPop):
    """Sorts the list that it was given."""

    async def judge(self, round, candidates, state):
        candidates.sort(key=lambda candidate: candidate.tx_id)
        return await super().judge(round, candidates, state)


class MistakesStateForStorage(PohPop):
    """Asks the state for what only a storage has."""

    async def judge(self, round, candidates, state):
        await state.head()
        return await super().judge(round, candidates, state)


class ReadsNothingOnErrors(PohPop):
    """Takes an object that cannot be read for one that does not exist."""

    async def judge(self, round, candidates, state):
        try:
            return await super().judge(round, candidates, state)
        except StorageError:
            return await super().judge(round, candidates, Nothing())


class Nothing:
    async def objects(self, objects):
        return {}

    async def checkpoint_hashes(self, rounds):
        return {}


class LocksWithoutFinally(PohPop):
    """Gives a lock back only where all went well."""

    def __init__(self, options, city):
        super().__init__(options, city)
        self._lock = asyncio.Lock()

    async def judge(self, round, candidates, state):
        await self._lock.acquire()
        judgement = await super().judge(round, candidates, state)
        self._lock.release()
        return judgement


class RefusesById(PohPop):
    """Refuses by transaction id, where the index is asked."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        by_id = {candidates[index].tx_id: it for index, it in judgement.refused.items()}
        return replace(judgement, refused=by_id)


class ElectsForNobody(PohPop):
    """Names a next committee, and goes on with the one of the genesis."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        turn = (Seat(key_id(b"?" * 2592), 1),) if round.round == 2 else None
        return replace(judgement, next_committee=turn)


class CountsEffects(PohPop):
    """Adds up in the instance how much was approved."""

    approved = 0

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)

        def effects(approved):
            self.approved += len(approved)
            return {"$count": self.approved.to_bytes(8, "big")}

        return replace(judgement, effects=effects)


class PaysFees(PohPop):
    """Moves balances by itself, which is the rule's to do."""

    async def judge(self, round, candidates, state):
        judgement = await super().judge(round, candidates, state)
        payer = f"$balance/fees/{self.city.genesis.operator_id.hex()}"
        return replace(
            judgement, effects=lambda approved: {payer: len(approved).to_bytes(8, "big")}
        )


# --- sealing and approving


class SealsQuickly(Solo):
    """Takes a number of hashes of its own."""

    async def seal(self, previous_poh, mixin):
        entry = await super().seal(previous_poh, mixin)
        return PohEntry(entry.prev, 10, entry.mixin, entry.hash)


class SignsWhatItIsTold(Solo):
    """Stays with the first checkpoint of a round until it is started again."""

    def __init__(self, options, city):
        super().__init__(options, city)
        self._signed = {}

    async def approve(self, round):
        digest = self._signed.setdefault(round.round, round.checkpoint_hash)
        message = vote_message(self.city.genesis.id, round.round, digest)
        signature = self.city.operator.sign(message, b"citychain/vote/v1", deterministic=True)
        return Certificate(round.round, digest, (Vote(self._key_id, signature),))


class TriesThreeTimes(PohPop):
    """Tries again whatever happens, even where it is cancelled."""

    async def approve(self, round):
        for _ in range(2):
            try:
                return await super().approve(round)
            except BaseException:
                await asyncio.sleep(0)
        return await super().approve(round)


class SharesItsTask(PohPop):
    """Has all who ask about a round wait for one task, which the first to leave cancels."""

    def __init__(self, options, city):
        super().__init__(options, city)
        self._tasks = {}

    async def approve(self, round):
        if round.round not in self._tasks:
            self._tasks[round.round] = asyncio.create_task(super().approve(round))
        return await self._tasks[round.round]


# --- votes


class CountsRepeats(Tally):
    """Adds a stake for each vote that comes, also for one that is known."""

    again = 0

    def take(self, cast):
        if self.known(cast):
            self.again += dict(self.committee)[cast.vote.key_id]
        return super().take(cast)

    def known(self, cast):
        is_known = super().known(cast)
        self.again += is_known
        return is_known

    @property
    def stake_for(self):
        return super().stake_for + self.again


class CountsStrangers(Tally):
    """Takes whoever can sign for a member with a stake of 1."""

    def has_seat(self, key_id):
        return True

    @property
    def stake_for(self):
        return len(self.votes)


class NeedsHalf(Tally):
    """Approves by half of the stake."""

    @property
    def stake_needed(self):
        return -(-sum(seat.stake for seat in self.committee) // 2)


class DropsAVote(Tally):
    """Leaves the last vote out of the certificate."""

    def certificate(self):
        certificate = super().certificate()
        return certificate and replace(certificate, votes=certificate.votes[:-1])


class NeverLate(Tally):
    """Counts votes for a round that has its certificate."""

    def take(self, cast):
        outcome, before = super().take(cast)
        return VoteOutcome.COUNTED if outcome is VoteOutcome.LATE else outcome, before


class KeepsAll(Tally):
    """Keeps each vote for another checkpoint."""

    def take(self, cast):
        self.__dict__.setdefault("all", []).append(cast)
        return super().take(cast)


class BelievesSignatures(VoteBox):
    """Looks the key up, and does not verify by it."""

    def _take(self, vote, public_key):
        members = {member.key_id: member for member in self._city.genesis.committee}
        member = members.get(vote.vote.key_id)
        return super()._take(vote, member and bytes.fromhex(member.public_key))


class KeepsProofsInMemory(VoteBox):
    """Does not write the proofs of two votes down."""

    async def _keep(self):
        self._unkept.clear()


class HearsOnlyWhenAsked(VoteBox):
    """Does not know a round before it is to be approved."""

    async def _open_rounds(self, numbers):
        pass


MUTANTS = [
    Mutant("judges by the clock", step(RefusesTheOld), "test_only_the_rounds_time_counts"),
    Mutant("draws lots", step(DrawsLots), "test_it_reads_no_clock_no_chance_no_file"),
    Mutant(
        "reads content as text",
        step(ReadsWords),
        "test_nothing_that_residents_write_makes_it_fail",
    ),
    Mutant(
        "refuses by position",
        step(TakesTheFirstOfEach),
        "test_the_order_of_candidates_does_not_matter",
    ),
    Mutant(
        "keeps state of earlier rounds",
        step(RemembersAuthors),
        "test_another_instance_says_the_same",
    ),
    Mutant("seats from a set", step(SeatsInASet), "test_other_processes_say_the_same"),
    Mutant("reads the operator", step(AsksTheOperator), "test_who_only_follows_says_the_same"),
    Mutant("sorts in place", step(SortsInPlace), "test_judging_leaves_its_arguments_as_they_are"),
    Mutant(
        "takes the state for a storage",
        step(MistakesStateForStorage),
        "test_it_works_behind_a_proxy",
    ),
    Mutant(
        "goes on without what cannot be read",
        step(ReadsNothingOnErrors),
        "test_a_read_that_fails_fails_the_judgement",
    ),
    Mutant(
        "locks without finally",
        step(LocksWithoutFinally),
        "test_judging_can_be_cancelled_at_each_await",
    ),
    Mutant("refuses by id", step(RefusesById), "test_a_judgement_fits_its_layout"),
    Mutant(
        "elects for nobody",
        step(ElectsForNobody),
        "test_committees_come_into_office_when_they_are_named",
    ),
    Mutant("counts effects", step(CountsEffects), "test_effects_are_pure"),
    Mutant(
        "writes others' objects",
        step(PaysFees),
        "test_effects_write_objects_of_the_step_alone",
    ),
    Mutant(
        "seals with other hashes",
        step(SealsQuickly),
        "test_an_entry_takes_the_hashes_that_the_genesis_asks",
    ),
    Mutant(
        "signs another checkpoint after a restart",
        step(SignsWhatItIsTold),
        "test_no_key_signs_two_checkpoints_of_a_round",
    ),
    Mutant(
        "swallows cancellation",
        step(TriesThreeTimes),
        "test_approving_can_be_cancelled_at_each_await",
    ),
    Mutant(
        "lets one caller cancel the others",
        step(SharesItsTask),
        "test_approve_waits_and_can_be_cancelled",
    ),
    Mutant("counts repeats", tallied(CountsRepeats), "test_a_vote_counts_once"),
    Mutant("counts strangers", tallied(CountsStrangers), "test_a_stranger_has_no_seat"),
    Mutant(
        "approves by half",
        tallied(NeedsHalf),
        "test_a_quorum_is_reached_exactly_at_its_threshold",
    ),
    Mutant(
        "gives certificates a vote short",
        tallied(DropsAVote),
        "test_a_quorum_is_reached_exactly_at_its_threshold",
    ),
    Mutant("counts late votes", tallied(NeverLate), "test_a_late_vote_is_told"),
    Mutant("keeps all votes", tallied(KeepsAll), "test_very_many_votes_take_no_memory"),
    Mutant(
        "believes signatures",
        boxed(BelievesSignatures),
        "test_a_signature_that_does_not_hold_is_refused",
    ),
    Mutant(
        "forgets proofs",
        boxed(KeepsProofsInMemory),
        "test_two_votes_of_a_key_are_proof_against_it",
    ),
    Mutant(
        "hears only when asked",
        boxed(HearsOnlyWhenAsked),
        "test_votes_count_before_approve_is_called",
    ),
    Mutant("counts repeats, over time", tallied(CountsRepeats), "test_any_sequence_of_votes"),
]
