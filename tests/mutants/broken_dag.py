"""DAG rules with one mistake each, such as authors make."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import time
from collections import Counter
from dataclasses import replace

from biting import Mutant
from pydantic import BaseModel, ConfigDict, Field

from citychain.dag.dependencies_only import DependenciesOnly
from citychain.dag.sealed_rounds import SealedRounds
from citychain.errors import ConsensusError
from citychain.hooks.definitions import DagDefinition
from citychain.testing.conformance import DagSuite
from citychain.types import NodeRef, ObjectWrite, Rejection

__all__ = ["MUTANTS", "Suite"]


class Suite(DagSuite):
    """The suite, smaller."""

    big_batch = 2_000
    examples = 500


class Linking(SealedRounds):
    """A base for rules that link in another way: `linked` is given the parents by seq."""

    async def parents(self, round, order, approved, dependencies, state):
        parents = await super().parents(round, order, approved, dependencies, state)
        tips = await self.tips(state)
        return [
            tuple(self.linked(round, seq, order[seq], parents[seq], tips)) if fine else ()
            for seq, fine in enumerate(approved)
        ]

    async def tips(self, state):
        return await state.tips()

    def linked(self, round, seq, transaction, parents, tips):
        return parents


class Deciding(DependenciesOnly):
    """A base for rules that change what was decided."""

    async def decide(self, round, candidates, held_since, refused, state):
        decision = await super().decide(round, candidates, held_since, refused, state)
        return self.changed(round, decision)

    def changed(self, round, decision):
        return decision


# --- the same for everybody


class DropsRepeatsByASet(Linking):
    """A set has another order in another process."""

    def linked(self, round, seq, transaction, parents, tips):
        return set(parents)


class PicksByHash(Linking):
    """`hash` of bytes is another in each process."""

    def linked(self, round, seq, transaction, parents, tips):
        return [tips[hash(transaction.tx_id) % len(tips)]] if tips else parents


class PicksAtRandom(Linking):
    """Tips as in the paper, drawn anew each time."""

    def linked(self, round, seq, transaction, parents, tips):
        return [random.choice(tips)] if tips else parents


class DrawsForNothing(Linking):
    """Draws, and comes to the same by luck."""

    def linked(self, round, seq, transaction, parents, tips):
        random.random()
        return parents


class GoesByTheHostsClock(SealedRounds):
    """Validity by the time at which the server happens to decide."""

    def validate(self, transaction, round):
        until = transaction.valid_until_ms
        if until is not None and until < time.time() * 1_000:
            return Rejection("EXPIRED", "too late")
        return None


class TellsTheTime(SealedRounds):
    """A reason with a date is another tomorrow."""

    def validate(self, transaction, round):
        if transaction.action == "transfer":
            return Rejection("RULE", f"no payments on {datetime.datetime.now():%A}")
        return None


class AsksTheEnvironment(SealedRounds):
    """A limit that each operator sets for himself."""

    def validate(self, transaction, round):
        if transaction.size > int(os.environ.get("NARA_BYTES_MAX", "100000")):
            return Rejection("RULE", "too long")
        return None


class AsksTheCitysClock(SealedRounds):
    """The clock of the context is the server's, not the round's."""

    async def decide(self, round, candidates, held_since, refused, state):
        self.city.clock.time_ms()
        return await super().decide(round, candidates, held_since, refused, state)


class RemembersAuthors(SealedRounds):
    """Counts what it saw: who begins later to follow the city has other counts."""

    def __init__(self, city):
        super().__init__(city)
        self.seen = Counter()

    def validate(self, transaction, round):
        self.seen[transaction.author, round.round] += 1
        others = sum(self.seen[transaction.author, past] for past in range(round.round))
        return Rejection("RULE", "too many of you") if others > 6 else None


class CachesById(SealedRounds):
    """An address is used again once its object is gone."""

    def __init__(self, city):
        super().__init__(city)
        self.verdicts = {}

    def validate(self, transaction, round):
        if id(transaction) not in self.verdicts:
            expires = transaction.valid_until_ms is not None
            self.verdicts[id(transaction)] = Rejection("RULE", "no end") if expires else None
        return self.verdicts[id(transaction)]


class GoesByTheOrderOfAMapping(Linking):
    """Takes the first of what the ledger knows of the authors."""

    async def decide(self, round, candidates, held_since, refused, state):
        authors = sorted({candidate.author for candidate in candidates})
        self.first = next(iter((await state.latest(authors)).values()), None)
        return await super().decide(round, candidates, held_since, refused, state)

    def linked(self, round, seq, transaction, parents, tips):
        return [self.first] if self.first else parents


class DiffersOnTheServer(Linking):
    """Who only follows the city has no operator's key."""

    def linked(self, round, seq, transaction, parents, tips):
        return parents if self.city.operator else parents[:1]


class AsksTheStorage(SealedRounds):
    """The server's ledger is its storage, with more to ask; others have no such thing."""

    async def decide(self, round, candidates, held_since, refused, state):
        await state.head()
        return await super().decide(round, candidates, held_since, refused, state)


class NewestFirst(DependenciesOnly):
    """Who repeats the round is given the order that came of it, and turns it again."""

    async def decide(self, round, candidates, held_since, refused, state):
        last = len(candidates) - 1
        return await super().decide(
            round,
            candidates[::-1],
            held_since[::-1],
            {last - index: refusal for index, refusal in refused.items()},
            state,
        )


class HalfPinned(BaseModel):
    """Options of which one is not written down."""

    model_config = ConfigDict(frozen=True)

    limit: int = Field(default=5, exclude=True)


class OneForAllCities:
    """What a round is about, kept where all instances find it."""

    round = None


class SharesBetweenCities(Linking):
    """Another city's round begins while this one waits for its ledger."""

    async def decide(self, round, candidates, held_since, refused, state):
        OneForAllCities.round = round
        return await super().decide(round, candidates, held_since, refused, state)

    def linked(self, round, seq, transaction, parents, tips):
        return [NodeRef(0, 0, OneForAllCities.round.genesis)]


# --- what it is given


class AddsToTheRefused(SealedRounds):
    """Merges its own verdicts into the caller's mapping."""

    async def decide(self, round, candidates, held_since, refused, state):
        for index, candidate in enumerate(candidates):
            if candidate.transfer is not None and candidate.transfer[2] > 50:
                refused.setdefault(index, Rejection("RULE", "too much"))
        return await super().decide(round, candidates, held_since, refused, state)


class TurnsTheTips(Linking):
    """Reverses in place what the ledger gave out."""

    async def tips(self, state):
        tips = await state.tips()
        tips.reverse()
        return tips


class SwallowsErrors(Linking):
    """No tips are better than an error, it thinks."""

    async def parents(self, round, order, approved, dependencies, state):
        try:
            return await super().parents(round, order, approved, dependencies, state)
        except Exception:
            return [(NodeRef(0, 0, round.genesis),) if fine else () for fine in approved]


class StaysBusy(SealedRounds):
    """One round at a time, and none after one that was cancelled."""

    busy = False

    async def decide(self, round, candidates, held_since, refused, state):
        if self.busy:
            raise ConsensusError("one round at a time")
        self.busy = True
        decision = await super().decide(round, candidates, held_since, refused, state)
        self.busy = False
        return decision


class BelongsToALoop(SealedRounds):
    """Takes hold of the loop that runs when it is made."""

    def __init__(self, city):
        super().__init__(city)
        self.loop = asyncio.get_running_loop()


class ReadsAnything(SealedRounds):
    """Residents do not always write UTF-8."""

    def validate(self, transaction, round):
        return (
            Rejection("RULE", "shout") if (transaction.content or b"").decode().isupper() else None
        )


class ClosesForAll(SealedRounds):
    """Leaving one city closes what all of them use."""

    open = 0

    async def __aenter__(self):
        type(self).open = 1
        return self

    async def __aexit__(self, *exc_info):
        type(self).open = 0

    async def decide(self, round, candidates, held_since, refused, state):
        if not self.open:
            raise ConsensusError("closed")
        return await super().decide(round, candidates, held_since, refused, state)


# --- where each candidate goes


class ForgetsWhatArrived(Deciding):
    """Credits what comes from another city, and does not keep that it came."""

    def changed(self, round, decision):
        kept = [write for write in decision.writes if not write.object.startswith("$inbox/")]
        return replace(decision, writes=kept)


class SaysThatItSettles(DependenciesOnly):
    """Approves whatever comes from other cities, as if it were a note."""

    async def decide(self, round, candidates, held_since, refused, state):
        decision = await super().decide(round, candidates, held_since, refused, state)
        genesis = (NodeRef(0, 0, round.genesis),)
        sealed = zip(decision.order, decision.verdicts, decision.parents, strict=True)
        said = [
            (None, parents or genesis) if item.action in self.settles else (verdict, parents)
            for item, verdict, parents in sealed
        ]
        verdicts, parents = [verdict for verdict, _ in said], [parents for _, parents in said]
        return replace(decision, verdicts=verdicts, parents=parents)


class NoAnchors(DependenciesOnly):
    """Settles what comes from other cities, and not what shows their committees."""

    settles = DependenciesOnly.settles - {"anchor"}


class DropsWhatWaits(Deciding):
    """Forgets those that it cannot decide."""

    def changed(self, round, decision):
        return replace(decision, held=())


class HoldsForEver(DependenciesOnly):
    """Takes each candidate for a new one."""

    async def decide(self, round, candidates, held_since, refused, state):
        return await super().decide(round, candidates, [0] * len(candidates), refused, state)


class DoesNotWait(Deciding):
    """Approves what depends on something that may never come."""

    def changed(self, round, decision):
        genesis = (NodeRef(0, 0, round.genesis),)
        return replace(
            decision,
            order=[*decision.order, *decision.held],
            verdicts=[*decision.verdicts, *(None for _ in decision.held)],
            parents=[*decision.parents, *(genesis for _ in decision.held)],
            held=(),
        )


class SealsTwice(Deciding):
    """Once in arrival order, and once more with those that were waited for."""

    def changed(self, round, decision):
        return replace(
            decision,
            order=[*decision.order, *decision.order[:1]],
            verdicts=[*decision.verdicts, *decision.verdicts[:1]],
            parents=[*decision.parents, *decision.parents[:1]],
        )


class IgnoresRefusals(DependenciesOnly):
    """Leaves place and stakes to others."""

    async def decide(self, round, candidates, held_since, refused, state):
        return await super().decide(round, candidates, held_since, {}, state)


class WordsRefusals(Deciding):
    """Says in its own words what the consensus step said."""

    def changed(self, round, decision):
        return replace(
            decision,
            verdicts=[
                Rejection("RULE", "refused") if verdict and "REFUSED" in verdict.code else verdict
                for verdict in decision.verdicts
            ],
        )


# --- parents


class HangsOnTheNext(Linking):
    """Counts from one."""

    def linked(self, round, seq, transaction, parents, tips):
        return [seq + 1]


class HangsOnTheRejected(Linking):
    """A chain of all that was sealed, whatever its verdict."""

    def linked(self, round, seq, transaction, parents, tips):
        return [seq - 1] if seq else parents


class HangsOnAll(DependenciesOnly):
    """A parent is every node of the round so far."""

    async def parents(self, round, order, approved, dependencies, state):
        genesis = NodeRef(0, 0, round.genesis)
        before = [seq for seq, fine in enumerate(approved) if fine]
        return [
            tuple(earlier for earlier in before if earlier < seq) or (genesis,) if fine else ()
            for seq, fine in enumerate(approved)
        ]


class HangsOnNothing(Linking):
    """Where there is no other parent there is none, it thinks."""

    def linked(self, round, seq, transaction, parents, tips):
        return [parent for parent in parents if isinstance(parent, int) or parent.round]


# --- the ledger


class LastWriterWins(DependenciesOnly):
    """Settles the newest first, and then puts all back in order."""

    async def decide(self, round, candidates, held_since, refused, state):
        last = len(candidates) - 1
        decision = await super().decide(
            round,
            candidates[::-1],
            held_since[::-1],
            {last - index: refusal for index, refusal in refused.items()},
            state,
        )
        return replace(
            decision,
            order=decision.order[::-1],
            verdicts=decision.verdicts[::-1],
            parents=decision.parents[::-1],
        )


class KeepsTheWinnerToItself(Deciding):
    """The loser is told that there was a conflict."""

    def changed(self, round, decision):
        return replace(
            decision,
            verdicts=[
                Rejection("CONFLICT", "somebody was first")
                if verdict and verdict.code == "CONFLICT"
                else verdict
                for verdict in decision.verdicts
            ],
        )


class LeavesVersions(Deciding):
    """Writes an object at the version at which it stood."""

    def changed(self, round, decision):
        return replace(
            decision,
            writes=[
                ObjectWrite(name, version - 1 or 1, value)
                for name, version, value in decision.writes
            ],
        )


class GivesCredit(Deciding):
    """Lets people pay what they do not have."""

    def changed(self, round, decision):
        rows = []
        for verdict, parents in zip(decision.verdicts, decision.parents, strict=True):
            if verdict and verdict.code == "OVERDRAFT":
                verdict, parents = None, (NodeRef(0, 0, round.genesis),)
            rows.append((verdict, parents))
        return replace(
            decision, verdicts=[row[0] for row in rows], parents=[row[1] for row in rows]
        )


class MakesMoney(Deciding):
    """Writes who is paid, and forgets who pays."""

    def changed(self, round, decision):
        paying = {
            f"$balance/{item.transfer[0]}/{item.author.hex()}"
            for item in decision.order
            if item.transfer is not None
        }
        return replace(
            decision, writes=[write for write in decision.writes if write.object not in paying]
        )


class WritesTheFirst(Deciding):
    """Writes one object, however many changed."""

    def changed(self, round, decision):
        return replace(decision, writes=decision.writes[:1])


class NeverExpires(DependenciesOnly):
    """Settles as if it were 1970."""

    async def decide(self, round, candidates, held_since, refused, state):
        early = replace(round, time_ms=0)
        return await super().decide(early, candidates, held_since, refused, state)


class TrustsDependencies(DependenciesOnly):
    """A dependency that has a place is there, it thinks, whatever its verdict."""

    async def parents(self, round, order, approved, dependencies, state):
        genesis = (NodeRef(0, 0, round.genesis),)
        return [genesis if fine else () for fine in approved]

    async def decide(self, round, candidates, held_since, refused, state):
        return await super().decide(round, candidates, held_since, refused, Trusting(state))


class Trusting:
    """A ledger in which nothing was rejected."""

    def __init__(self, state):
        self.objects = state.objects
        self.state = state

    async def find(self, tx_ids):
        found = await self.state.find(tx_ids)
        return {tx_id: replace(node, rejection=None) for tx_id, node in found.items()}


def rule(made: type, **fields: object) -> DagDefinition:
    """A definition of the broken rule."""
    return DagDefinition("broken", lambda options, city: made(city), **fields)


CAUGHT = {
    "test_another_process_comes_to_the_same": [DropsRepeatsByASet, PicksByHash],
    "test_asking_twice_gives_the_same": [PicksAtRandom],
    "test_it_reads_no_clock_no_chance_no_file": [
        DrawsForNothing,
        TellsTheTime,
        AsksTheEnvironment,
    ],
    "test_validity_ends_by_the_round_s_time": [GoesByTheHostsClock, NeverExpires],
    "test_ordinary_traffic_is_approved": [AsksTheCitysClock, AsksTheStorage, HangsOnAll],
    "test_another_instance_comes_to_the_same": [RemembersAuthors, DiffersOnTheServer],
    "test_nothing_is_remembered_of_what_was_asked_before": [CachesById],
    "test_the_order_of_a_mapping_s_entries_says_nothing": [GoesByTheOrderOfAMapping],
    "test_a_replay_of_the_whole_city_agrees": [NewestFirst],
    "test_cities_that_are_decided_at_once_do_not_mix": [SharesBetweenCities],
    "test_what_it_is_given_is_left_as_it_is": [AddsToTheRefused, TurnsTheTips],
    "test_an_error_of_the_ledger_is_no_answer": [SwallowsErrors],
    "test_cancelling_it_anywhere_leaves_it_usable": [StaysBusy],
    "test_any_event_loop_will_do": [BelongsToALoop],
    "test_nothing_that_residents_write_makes_it_fail": [ReadsAnything],
    "test_one_that_is_left_leaves_the_others_alone": [ClosesForAll],
    "test_what_waits_is_sealed_within_the_hold_bound": [DropsWhatWaits, HoldsForEver, DoesNotWait],
    "test_each_candidate_is_sealed_or_held_once": [SealsTwice],
    "test_refusals_of_the_consensus_step_stand": [IgnoresRefusals, WordsRefusals],
    "test_every_node_leads_to_the_genesis": [HangsOnTheNext, HangsOnTheRejected],
    "test_the_first_node_hangs_on_the_genesis": [HangsOnNothing],
    "test_of_two_writers_the_first_wins_and_is_named": [LastWriterWins, KeepsTheWinnerToItself],
    "test_versions_follow_each_other": [LeavesVersions],
    "test_nobody_spends_more_than_he_has": [GivesCredit],
    "test_random_payments_keep_the_total": [MakesMoney],
    "test_a_rejected_dependency_rejects_its_dependants": [TrustsDependencies],
    "test_what_is_between_cities_is_settled": [ForgetsWhatArrived, SaysThatItSettles, NoAnchors],
    "test_any_sequence_of_rounds": [WritesTheFirst],
}

MUTANTS = [
    Mutant(made.__name__, rule(made), caught_by=check)
    for check, broken in CAUGHT.items()
    for made in broken
] + [
    Mutant(
        "HalfPinned",
        rule(SealedRounds, options=HalfPinned),
        caught_by="test_its_options_are_pinned_by_the_genesis",
        options={"limit": 7},
    )
]
