"""Consensus tests: effects, and the proof-of-history entry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from citychain._native.transactions import Transaction
from citychain.crypto import poh
from citychain.errors import VerificationError
from citychain.ports import ConsensusStep, Judgement
from citychain.testing.conformance._consensus_fronts import cancelled_at_each_await
from citychain.testing.conformance._consensus_said import check_written, let_pass
from citychain.testing.conformance._consensus_town import Batches, Town
from citychain.types import PohEntry

__all__ = ["EffectTests", "SealTests"]

PREVIOUS = b"p" * 32
MIXIN = b"m" * 32


class EffectTests:
    """Part of `ConsensusSuite`."""

    def life(self, town: Town, batches: Batches) -> Iterator[list[Transaction]]:
        raise NotImplementedError

    async def test_effects_are_pure(self, town: Town, batches: Batches) -> None:
        async with town.opened() as step, town.opened(followed=True) as other:
            for new in self.life(town, batches):
                candidates = [*town.rounds.candidates(new).transactions]
                effects, passed = await _effects(town, step, candidates)
                if effects is not None:
                    before = list(passed)
                    written = dict(effects(passed))
                    assert passed == before, (
                        "effects changed the list of what was approved: copy it first"
                    )
                    assert dict(effects(passed)) == written, (
                        "effects, called again with the same, write something else: they must not "
                        "change what they go by"
                    )
                    others, _ = await _effects(town, other, candidates)
                    assert others is not None, "another instance gives no effects"
                    assert dict(others(passed)) == written, (
                        "effects of another instance write something else"
                    )
                await town.seal(step, new)

    async def test_effects_write_objects_of_the_step_alone(
        self, town: Town, batches: Batches
    ) -> None:
        initial = {write.object for write in town.genesis.initial_objects()}
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = town.rounds.candidates(new).transactions
                effects, passed = await _effects(town, step, candidates)
                if effects is not None:
                    check_written(effects(passed), initial)
                await town.seal(step, new)

    async def test_effects_take_whatever_the_rule_approves(
        self, town: Town, batches: Batches
    ) -> None:
        choose = random.Random(3)
        initial = {write.object for write in town.genesis.initial_objects()}
        async with town.opened() as step:
            for new in self.life(town, batches):
                candidates = town.rounds.candidates(new).transactions
                effects, passed = await _effects(town, step, candidates)
                if effects is not None:
                    some = choose.sample(passed, len(passed) // 2)
                    for approved in ([], some, passed[::-1]):
                        check_written(await town.compute(effects, approved), initial)
                await town.seal(step, new)


async def _effects(
    town: Town, step: ConsensusStep, candidates: Sequence[Transaction]
) -> tuple[Any, list[Transaction]]:
    judgement: Judgement = await step.judge(town.rounds.round, candidates, town.storage)
    return judgement.effects, let_pass(judgement, candidates)


class SealTests:
    """Part of `ConsensusSuite`."""

    @pytest.mark.parametrize("num_hashes", [1, 2, 1_000])
    async def test_an_entry_takes_the_hashes_that_the_genesis_asks(
        self, new_town: Any, num_hashes: int
    ) -> None:
        async with new_town(num_hashes=num_hashes).opened() as step:
            entry = await step.seal(PREVIOUS, MIXIN)
            _check_entry(entry, num_hashes)

    async def test_sealing_again_gives_the_same_entry(self, town: Town) -> None:
        async with town.opened() as step, town.opened() as other:
            entries = await asyncio.gather(
                step.seal(PREVIOUS, MIXIN),
                step.seal(MIXIN, PREVIOUS),
                step.seal(PREVIOUS, MIXIN),
                other.seal(PREVIOUS, MIXIN),
            )
        first, crossed, again, of_other = entries
        assert first == again == of_other, (
            "of the same entry before and the same mixin there is one entry: nothing else goes in"
        )
        assert (crossed.prev, crossed.mixin) == (MIXIN, PREVIOUS), (
            "two entries were made at once, and one has what belongs to the other"
        )

    async def test_sealing_can_be_cancelled_at_each_await(self, town: Town) -> None:
        async with town.opened() as step:

            async def check() -> None:
                _check_entry(await step.seal(MIXIN, PREVIOUS), town.genesis.num_hashes, MIXIN)

            entry = await cancelled_at_each_await(lambda: step.seal(PREVIOUS, MIXIN), "seal", check)
            _check_entry(entry, town.genesis.num_hashes)


def _check_entry(entry: PohEntry, num_hashes: int, previous: bytes = PREVIOUS) -> None:
    mixin = MIXIN if previous == PREVIOUS else PREVIOUS
    assert isinstance(entry, PohEntry), f"seal returns a PohEntry, not {entry!r}"
    assert entry.num_hashes == num_hashes, (
        f"the entry takes {entry.num_hashes} hashes; the genesis asks for {num_hashes}, and "
        "everybody who repeats the round refuses another number"
    )
    assert (entry.prev, entry.mixin) == (previous, mixin), (
        "the entry is not over the previous hash and the mixin that seal was given"
    )
    try:
        poh.verify([entry], max_num_hashes=num_hashes)
    except VerificationError as error:
        pytest.fail(f"the entry does not verify: {error}; use citychain.crypto.poh.extend")
