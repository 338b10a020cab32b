"""Consensus tests: judging is pure, and fits what is made of it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

import pytest

from citychain._native.transactions import Transaction
from citychain.client.actions import Action, Candidacy, Withdrawal
from citychain.compute import Executor
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRound, StorageError
from citychain.ports import ConsensusStep, StateView
from citychain.testing.conformance._consensus_fronts import (
    OnlyState,
    TurningStorage,
    cancelled_at_each_await,
)
from citychain.testing.conformance._consensus_said import Said, ask, check_judgement
from citychain.testing.conformance._consensus_town import Batches, Town
from citychain.testing.conformance._elsewhere import Elsewhere
from citychain.testing.conformance._hostile import each_is_survived, hostile_data
from citychain.testing.conformance._purity import impurities
from citychain.testing.conformance._rounds import Ordinary

__all__ = ["JudgeTests", "told"]

YEAR_SECONDS = 365.25 * 86_400


async def told(
    town: Town,
    step: ConsensusStep,
    candidates: Sequence[Transaction],
    state: StateView | None = None,
) -> Said:
    """What a step says of the next round."""
    return await ask(step, town.rounds.round, candidates, state or town.storage, town.compute)


class JudgeTests:
    """Part of `ConsensusSuite`."""

    rounds: ClassVar[int]
    big_batch: ClassVar[int]

    def life(self, town: Town, batches: Batches) -> Iterator[list[Transaction]]:
        """New transactions of one round after the other, as long as the rounds are sealed."""
        for new in islice(batches(town.rounds), self.rounds):
            yield list(new)

    # --- the same

    async def test_judging_again_says_the_same(self, town: Town, batches: Batches) -> None:
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                first = await told(town, step, candidates)
                again = await asyncio.gather(*(told(town, step, candidates) for _ in range(2)))
                for other in again:
                    assert not (difference := first.difference(other)), (
                        f"judged again, a round is judged otherwise: {difference}. Who verifies "
                        "it repeats it: judge must not change what a later judgement depends on"
                    )
                await town.seal(step, new)

    async def test_another_instance_says_the_same(self, town: Town, batches: Batches) -> None:
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                first = await told(town, step, candidates)
                async with town.opened() as fresh:
                    other = await told(town, fresh, candidates)
                assert not (difference := first.difference(other)), (
                    f"an instance that did not judge the rounds before says: {difference}. What "
                    "counts for later rounds must stand in the ledger: write it by effects, "
                    "read it from the state"
                )
                await town.seal(step, new)

    async def test_who_only_follows_says_the_same(
        self, town: Town, batches: Batches, representatives: Sequence[SigningKey]
    ) -> None:
        async with town.opened(representatives) as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                first = await told(town, step, candidates)
                async with town.opened(followed=True) as follower:
                    other = await _of_follower(town, follower, candidates)
                assert not (difference := first.difference(other)), (
                    f"who only follows the city says: {difference}. A verifier has no operator's "
                    "key, no representatives and no storage: judge must not look at them"
                )
                await town.seal(step, new)

    async def test_a_replay_by_another_instance_gives_the_same_rounds(
        self, town: Town, batches: Batches
    ) -> None:
        async with town.opened() as step:
            for new in self.life(town, batches):
                await town.seal(step, new)
        async with town.opened(followed=True) as verifier:
            try:
                await town.replay(verifier)
            except InvalidRound as error:
                pytest.fail(f"a verifier does not come to the same round: {error}", pytrace=False)

    async def test_the_order_of_candidates_does_not_matter(
        self, town: Town, batches: Batches
    ) -> None:
        choose = random.Random(1)
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                first = await told(town, step, candidates)
                shuffled = choose.sample(candidates, len(candidates))
                for order in (candidates[::-1], shuffled):
                    other = await told(town, step, order)
                    assert not (difference := first.difference(other)), (
                        f"with the candidates in another order: {difference}. Who repeats a round "
                        "has them in the order of the DAG rule: where one decides about another, "
                        "go by transaction id"
                    )
                await town.seal(step, new)

    async def test_only_the_rounds_time_counts(
        self, town: Town, batches: Batches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now, now_ns = time.time, time.time_ns
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                first = await told(town, step, candidates)
                await town.clock.advance(10 * YEAR_SECONDS)
                with monkeypatch.context() as later:
                    later.setattr(time, "time", lambda: now() + 10 * YEAR_SECONDS)
                    later.setattr(time, "time_ns", lambda: now_ns() + 10**10 * int(YEAR_SECONDS))
                    other = await told(town, step, candidates)
                assert not (difference := first.difference(other)), (
                    f"ten years later: {difference}. judge looks at a clock; its only time is "
                    "round.time_ms"
                )
                await town.seal(step, new)

    async def test_other_processes_say_the_same(
        self, town: Town, batches: Batches, elsewhere: Elsewhere
    ) -> None:
        lines = []
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                lines.append((await told(town, step, candidates)).text())
                await town.seal(step, new)
        elsewhere.agrees("\n".join(lines))

    async def test_it_reads_no_clock_no_chance_no_file(self, town: Town, batches: Batches) -> None:
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                # Twice, since the first time may load what it needs.
                await told(town, step, candidates)
                with impurities() as found:
                    await told(town, step, candidates)
                assert not found, (
                    f"judge, or effects, call {found[0]}: who verifies the round has another "
                    "answer; what differs must come from the round, the state or the genesis"
                )
                await town.seal(step, new)

    async def test_its_options_are_pinned_by_the_genesis(
        self, town: Town, batches: Batches
    ) -> None:
        pinned = json.loads(town.genesis.file)["consensus_options"]
        again = type(town.options).model_validate(pinned)
        assert again == town.options, (
            f"the options {town.options!r} come back from a genesis as {again!r}: who follows the "
            "city would go by other options"
        )
        async with town.opened() as step, town.opened(options=again, followed=True) as other:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                first = await told(town, step, candidates)
                assert not (difference := first.difference(await told(town, other, candidates))), (
                    f"with the options that the genesis keeps, a round is judged otherwise: "
                    f"{difference}"
                )
                await town.seal(step, new)

    async def test_nothing_that_residents_write_makes_it_fail(
        self, town: Town, authors: Sequence[SigningKey]
    ) -> None:
        most = (1 << 63) - 1
        actions: list[Action] = [*hostile_data(), Candidacy("-" * 32, most), Withdrawal("0", most)]
        new = [town.rounds.sign(authors[i % 3], action) for i, action in enumerate(actions)]
        async with town.opened() as step:
            await each_is_survived(new, lambda one: told(town, step, [one]), "judge", "refuse")
            await town.seal(step, new)

    async def test_any_event_loop_will_do(
        self, town: Town, new_town: Any, batches: Batches
    ) -> None:
        async def lived(town: Town) -> list[Said]:
            said = []
            async with town.opened() as step:
                for new in self.life(town, batches):
                    said.append(await told(town, step, town.rounds.candidates(new).transactions))
                    await town.seal(step, new)
            return said

        here, there = await asyncio.gather(
            lived(town), asyncio.to_thread(asyncio.run, lived(new_town()))
        )
        assert here == there, (
            "two event loops in two threads, each with a city: they do not judge alike. Keep locks "
            "and caches in the instance, not in the module"
        )

    # --- what goes in

    async def test_judging_leaves_its_arguments_as_they_are(
        self, town: Town, batches: Batches
    ) -> None:
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                before, round = list(candidates), town.rounds.round
                state = OnlyState(town.storage)
                await step.judge(round, candidates, state)
                assert candidates == before, "judge changed the list of candidates: copy it first"
                assert round == town.rounds.round, "judge changed the round that it was given"
                state.check()
                await town.seal(step, new)

    async def test_a_read_that_fails_fails_the_judgement(
        self, town: Town, batches: Batches
    ) -> None:
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                expected = await told(town, step, candidates)
                await self._with_failing_reads(town, step, candidates)
                again = await told(town, step, candidates)
                assert not (difference := expected.difference(again)), (
                    f"after a read that failed, the round is judged otherwise: {difference}"
                )
                await town.seal(step, new)

    async def _with_failing_reads(
        self, town: Town, step: ConsensusStep, candidates: Sequence[Transaction]
    ) -> None:
        for number in range(1, 100):
            state = TurningStorage(town.storage, {number})
            try:
                await step.judge(town.rounds.round, candidates, OnlyState(state))
            except StorageError:
                continue
            assert state.calls < number, (
                "a read of the state failed, and judge went on as if there were nothing: let the "
                "error through, the round is tried again"
            )
            return

    async def test_judging_can_be_cancelled_at_each_await(
        self, town: Town, batches: Batches
    ) -> None:
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                expected = await told(town, step, candidates)

                async def judge(candidates: Sequence[Transaction] = candidates) -> object:
                    state = OnlyState(TurningStorage(town.storage))
                    return await step.judge(town.rounds.round, candidates, state)

                async def check(
                    candidates: Sequence[Transaction] = candidates, expected: Said = expected
                ) -> None:
                    again = await told(town, step, candidates)
                    assert not (difference := expected.difference(again)), (
                        f"after a judgement that was cancelled: {difference}"
                    )

                await cancelled_at_each_await(judge, "judge", check)
                await town.seal(step, new)

    async def test_an_empty_round_is_judged(self, town: Town) -> None:
        async with town.opened() as step:
            for _ in range(self.rounds):
                said = await told(town, step, [])
                assert not said.refused
                await town.seal(step)

    async def test_very_many_candidates_are_judged(
        self, town: Town, new_town: Any, traffic: Ordinary, authors: Sequence[SigningKey]
    ) -> None:
        crowd = town.rounds.sign.crowd(self.big_batch, traffic, authors)
        async with Executor(2) as compute, new_town(compute=compute).opened() as step:
            judgement = await step.judge(town.rounds.round, crowd, town.storage)
            check_judgement(judgement, crowd)
            few = sorted(random.Random(2).sample(range(len(crowd)), 5))
            alone = await step.judge(town.rounds.round, [crowd[i] for i in few], town.storage)
        assert alone.committee == judgement.committee

    # --- what comes out

    async def test_a_judgement_fits_its_layout(
        self, town: Town, batches: Batches, codes: Collection[str] | None
    ) -> None:
        places = set()
        passed = False
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = town.rounds.candidates(new).transactions
                judgement = await step.judge(town.rounds.round, candidates, town.storage)
                check_judgement(judgement, candidates, codes)
                places.add(judgement.pops is None)
                passed |= len(judgement.refused) < len(candidates)
                await town.seal(step, new)
        assert len(places) == 1, (
            "pops is None for one round and not for another: a city judges places, or does not"
        )
        assert passed, (
            "every transaction of every round was refused, so little was tested: override the "
            "fixture `traffic` with what the step lets pass, `authors` with whom, or `batches` "
            "with whole rounds"
        )

    async def test_committees_come_into_office_when_they_are_named(
        self, town: Town, batches: Batches
    ) -> None:
        due = sorted(town.genesis.seats)
        async with town.opened() as step:
            for number, new in enumerate(self.life(town, batches), start=1):
                candidates = town.rounds.candidates(new).transactions
                judgement = await step.judge(town.rounds.round, candidates, town.storage)
                assert sorted(judgement.committee) == due, (
                    f"round {number} names another committee than the one in office: that of the "
                    "genesis at first, then the one that the latest next_committee named, from "
                    "the round after on. No receipt would verify"
                )
                if judgement.next_committee is not None:
                    due = sorted(judgement.next_committee)
                await town.seal(step, new)


async def _of_follower(
    town: Town, follower: ConsensusStep, candidates: Sequence[Transaction]
) -> Said:
    try:
        return await told(town, follower, candidates)
    except (AttributeError, TypeError, AssertionError) as error:
        raise AssertionError(
            f"judge fails where the city is only followed ({error!r}): there operator and storage "
            "are None, and there are no representatives; judge must not look at them"
        ) from error
