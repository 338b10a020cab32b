"""Cities with one mistake each: in a handler, in a part, or in what a plugin says of a city."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from biting import Mutant

from citychain.client.transactions import identity
from citychain.dag.sealed_rounds import SealedRounds
from citychain.handler import EventBatch, Received, Refusal
from citychain.hooks.definitions import CityDefinition
from citychain.testing.conformance import CitySuite
from citychain.types import Rejection, State

__all__ = ["MUTANTS", "Suite"]

OVERRIDES = {}
"""What is broken, by the slug of its city."""
STUCK = set()
"""Slugs of cities that come to a stand."""
OTHER = {"kanazawa": {"storage": "memory", "aliases": ["金沢"]}}


class Suite(CitySuite):
    """The suite, smaller, on a server where one city is broken."""

    many = 40
    examples = 100

    @pytest.fixture
    def settings(self, definition):
        slug = definition.slug
        return {
            "plugins": {"allow": []},
            "cities": OTHER,
            "overrides": {slug: OVERRIDES[slug]} if slug in OVERRIDES else {},
        }

    @pytest.fixture(autouse=True)
    def patience(self, cities, definition):
        """What never comes is not waited for."""
        if definition.slug in STUCK:
            cities.patience = timedelta(seconds=1)


class InFront:
    """Forwards what a mutant does not break."""

    def __init__(self, real):
        self.real = real

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.real, name)


class AcknowledgesBeforeStoring(InFront):
    """Answers at once, to be faster, and stores when somebody asks what became of it: by then who
    sent it has the answer."""

    def __init__(self, real):
        super().__init__(real)
        self.waiting = []

    async def submit(self, envelopes, *, acknowledge=False):
        self.waiting += envelopes
        return [Received(identity(item)[0], State.RECEIVED, False) for item in envelopes]

    async def watch_transactions(self, tx_ids, from_state):
        waiting, self.waiting = self.waiting, []
        await self.real.submit(waiting)
        async for batch in self.real.watch_transactions(tx_ids, from_state):
            yield batch


class StoresLater(InFront):
    """Collects what it acknowledged, and stores the oldest once there is much; closing forgets the
    rest, which is more than can still be on its way to who sent it."""

    def __init__(self, real):
        super().__init__(real)
        self.waiting = []

    async def submit(self, envelopes, *, acknowledge=False):
        self.waiting += envelopes
        if len(self.waiting) >= 30:
            oldest, self.waiting = self.waiting[:10], self.waiting[10:]
            await self.real.submit(oldest)
        return [Received(identity(item)[0], State.RECEIVED, False) for item in envelopes]


class GivesAnothersReceipt(InFront):
    """Zips receipts, which come by round, with the ids that were asked for."""

    async def receipts(self, tx_ids, known_round=0):
        found = await self.real.receipts(tx_ids, known_round)
        return dict(zip(sorted(found), found.values(), strict=True))


class GivesNoReceiptAmongUnknown(InFront):
    """Gives no receipt where one of the ids is unknown."""

    async def receipts(self, tx_ids, known_round=0):
        found = await self.real.receipts(tx_ids, known_round)
        return found if len(found) == len(tx_ids) else {}


class RefusesARepeat(InFront):
    """Takes a repeat for a mistake of its sender."""

    async def submit(self, envelopes, *, acknowledge=False):
        results = await self.real.submit(envelopes, acknowledge=acknowledge)
        return [
            Refusal("MALFORMED", "body.nonce", "was submitted before", tx_id=result.tx_id)
            if isinstance(result, Received) and result.duplicate
            else result
            for result in results
        ]


class RefusesWithoutSayingWhy(InFront):
    """Keeps to itself which field is wrong."""

    async def submit(self, envelopes, *, acknowledge=False):
        results = await self.real.submit(envelopes, acknowledge=acknowledge)
        return [
            result._replace(field=None) if isinstance(result, Refusal) else result
            for result in results
        ]


class TellsWhatIsSealedForApproved(InFront):
    """Shows a transaction as approved once it stands in a round."""

    async def status(self, tx_ids):
        return {
            tx_id: status._replace(state=State.APPROVED) if status.node else status
            for tx_id, status in (await self.real.status(tx_ids)).items()
        }


class TellsAStateTwice(InFront):
    """Tells a watcher of each round when it is sealed, and again with the next one."""

    async def watch(self, author, from_state, after):
        before = []
        async for batch in self.real.watch(author, from_state, after):
            yield EventBatch([*before, *batch.events], batch.position)
            before = batch.events


class TellsTransactionsTwice(InFront):
    """Tells whoever watches transactions what it told already."""

    async def watch_transactions(self, tx_ids, from_state):
        async for batch in self.real.watch_transactions(tx_ids, from_state):
            yield batch
            yield batch


class GoesOnOneRoundTooEarly(InFront):
    """Takes the position of who comes back for the round to begin with."""

    async def watch(self, author, from_state, after):
        after = None if after is None else max(0, after - 1)
        async for batch in self.real.watch(author, from_state, after):
            yield batch


class NewestFirst(InFront):
    """A storage whose rounds are read as news are."""

    async def rounds(self, first, limit):
        return (await self.real.rounds(first, limit))[::-1]


class ListsTheNewestFirst(InFront):
    """Shows rounds as news are shown."""

    @property
    def storage(self):
        return NewestFirst(self.real.storage)


class ProvesInTheNewestLog(InFront):
    """Gives a proof for the log as it is, whatever size was asked for."""

    async def inclusion_proof(self, leaf_index, size):
        return await self.real.inclusion_proof(leaf_index, (await self.real.head()).size)


class KeepsItsLockWhenCancelled(InFront):
    """Takes one call after the other, and leaves the lock to nobody when one is cancelled."""

    def __init__(self, real):
        super().__init__(real)
        self.lock = asyncio.Lock()

    async def submit(self, envelopes, *, acknowledge=False):
        await self.lock.acquire()
        results = await self.real.submit(envelopes, acknowledge=acknowledge)
        self.lock.release()
        return results


class LosesTheTail(InFront):
    """Lists what is pending up to the last one, and not that."""

    async def pending(self, cursor, limit):
        page = await self.real.pending(cursor, limit)
        return replace(page, transactions=page.transactions[:-1])

    async def pending_ids(self, limit=None):
        return (await self.real.pending_ids())[:-1][:limit]


class DropsCertificates(InFront):
    """Keeps certificates in memory alone."""

    def __init__(self, real):
        super().__init__(real)
        self.certificates = {}

    async def certify(self, certificates):
        self.certificates |= {certificate.round: certificate for certificate in certificates}

    async def rounds(self, first, limit):
        return [
            replace(stored, certificate=self.certificates.get(stored.round))
            for stored in await self.real.rounds(first, limit)
        ]

    async def head(self):
        certified = 0
        while certified + 1 in self.certificates:
            certified += 1
        return replace(await self.real.head(), certified_round=certified)


class ForgetsInitialKeys(InFront):
    """Stores transactions without the public keys that came with them."""

    async def append(self, transactions, keys):
        await self.real.append(transactions, {})


class Draws(SealedRounds):
    """Puts a number by chance into each reason: one of so many that none ever comes twice."""

    async def decide(self, round, candidates, held_since, refused, state):
        decision = await super().decide(round, candidates, held_since, refused, state)
        verdicts = [
            verdict and Rejection(verdict.code, f"case {random.getrandbits(64)}")
            for verdict in decision.verdicts
        ]
        return replace(decision, verdicts=verdicts)


class RejectsInSilence(SealedRounds):
    """Gives no reason."""

    async def decide(self, round, candidates, held_since, refused, state):
        decision = await super().decide(round, candidates, held_since, refused, state)
        verdicts = [verdict and Rejection(verdict.code, "") for verdict in decision.verdicts]
        return replace(decision, verdicts=verdicts)


class HoldsOnToALoop(InFront):
    """Keeps for all cities, and for good, the loop that the first one ran on."""

    loop = None

    async def seal(self, previous_poh, mixin):
        if HoldsOnToALoop.loop is None:
            HoldsOnToALoop.loop = asyncio.get_running_loop()
        await HoldsOnToALoop.loop.run_in_executor(None, hashlib.sha256, mixin)
        return await self.real.seal(previous_poh, mixin)


def broken(part, mutant, storage="memory", *, stuck=False):
    """A city whose part, or handler, is replaced.

    Args:
        stuck: It comes to a stand.
    """
    slug = f"broken-{len(OVERRIDES)}"
    if stuck:
        STUCK.add(slug)
    if isinstance(mutant, type) and issubclass(mutant, SealedRounds):
        OVERRIDES[slug] = {part: lambda real: mutant(real.city)}
    else:
        OVERRIDES[slug] = {part: mutant}
    return CityDefinition(slug, storage=storage)


MUTANTS = [
    Mutant(
        "acknowledges before it stores",
        broken("handler", AcknowledgesBeforeStoring, "sqlite"),
        caught_by="test_what_was_acknowledged_outlives_a_crash_between_any_two_writes",
    ),
    Mutant(
        "stores what it acknowledged later",
        broken("handler", StoresLater),
        caught_by="test_what_was_acknowledged_outlives_closing_while_busy",
    ),
    Mutant(
        "gives a receipt with the content of another",
        broken("handler", GivesAnothersReceipt),
        caught_by="test_many_transactions",
    ),
    Mutant(
        "gives no receipt where one is unknown",
        broken("handler", GivesNoReceiptAmongUnknown),
        caught_by="test_what_is_unknown_is_absent",
    ),
    Mutant(
        "refuses a repeat instead of answering it",
        broken("handler", RefusesARepeat),
        caught_by="test_one_transaction_submitted_by_many_tasks_is_one",
    ),
    Mutant(
        "refuses a repeat in some sequence",
        broken("handler", RefusesARepeat),
        caught_by="test_any_sequence_of_calls",
    ),
    Mutant(
        "refuses without naming the field",
        broken("handler", RefusesWithoutSayingWhy),
        caught_by="test_what_is_refused_is_named_and_not_stored",
    ),
    Mutant(
        "shows what is sealed as approved",
        broken("handler", TellsWhatIsSealedForApproved),
        caught_by="test_a_transaction_is_received_sealed_approved_and_proven",
    ),
    Mutant(
        "tells who watches the city a state twice",
        broken("handler", TellsAStateTwice),
        caught_by="test_who_watches_the_city_or_an_author_is_told_everything_once_and_in_order",
    ),
    Mutant(
        "tells who watches transactions a state twice",
        broken("handler", TellsTransactionsTwice),
        caught_by="test_who_watches_transactions_is_told_each_state_once_and_in_order",
    ),
    Mutant(
        "tells who comes back the last round again",
        broken("handler", GoesOnOneRoundTooEarly),
        caught_by="test_a_watcher_that_comes_back_misses_and_repeats_nothing",
    ),
    Mutant(
        "lists the newest round first",
        broken("handler", ListsTheNewestFirst),
        caught_by="test_what_is_sent_after_another_is_sealed_stands_after_it",
    ),
    Mutant(
        "proves for another size than was asked",
        broken("handler", ProvesInTheNewestLog),
        caught_by="test_proofs_hold_for_every_size_of_the_log",
    ),
    Mutant(
        "keeps its lock when a call is cancelled",
        broken("handler", KeepsItsLockWhenCancelled, stuck=True),
        caught_by="test_calls_that_are_cancelled_at_any_await_leave_the_city_working",
    ),
    Mutant(
        "loses the tail at a restart",
        broken("storage", LosesTheTail, "sqlite"),
        caught_by="test_what_was_acknowledged_outlives_a_crash_between_any_two_writes",
    ),
    Mutant(
        "drops certificates at a restart",
        broken("storage", DropsCertificates, "sqlite"),
        caught_by="test_a_repeat_is_answered_with_the_original_at_any_time",
    ),
    Mutant(
        "does not store keys",
        broken("storage", ForgetsInitialKeys),
        caught_by="test_a_replay_equals_the_original_wherever_it_runs",
    ),
    Mutant(
        "draws numbers by chance",
        broken("dag", Draws),
        caught_by="test_a_replay_equals_the_original_wherever_it_runs",
    ),
    Mutant(
        "rejects without a reason",
        broken("dag", RejectsInSilence),
        caught_by="test_a_rejection_is_proven",
    ),
    Mutant(
        "holds on to the first event loop",
        broken("consensus", HoldsOnToALoop, stuck=True),
        caught_by="test_a_second_event_loop_serves_as_the_first_did",
    ),
    Mutant(
        "has the alias of another city",
        CityDefinition("alias", storage="memory", aliases=("金沢",)),
        caught_by="test_each_of_its_names_means_the_city",
    ),
]
