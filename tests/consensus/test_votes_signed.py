"""`VoteBox`: what keys inside the server sign, and which signatures are looked at."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from consensus.voting import World, approving

from citychain.errors import ConsensusError
from citychain.types import VoteOutcome


async def test_no_key_inside_signs_what_is_not_durable() -> None:
    world, elsewhere = World([1, 1, 1], own=[0, 1]), World([1, 1, 1])
    stored = await world.seal()
    lie = await elsewhere.seal(next_committee=elsewhere.genesis.seats[:1])
    unsealed = replace(lie, round=2)
    box = world.box()
    refused = [approving(box, lie)[0], *approving(box, stored, unsealed)]
    await asyncio.wait(refused)
    for task in (refused[0], refused[2]):
        with pytest.raises(ConsensusError, match=r"another checkpoint|is not durable"):
            task.result()
    certificate = await box.approve(stored)
    world.check(certificate)
    with pytest.raises(ConsensusError, match="another checkpoint of round 1"):
        await box.approve(lie)
    assert await box.approve(stored) == certificate


async def test_a_vote_that_is_held_against_its_key_stays_good_when_the_other_comes() -> None:
    """Both in one call: the first makes the second, which was known, one of two."""
    world = World([1, 1, 1])
    box = world.box()
    await world.seal()
    other = world.vote(0, 1, other="x")
    assert await box.cast([other]) == [VoteOutcome.OTHER_CHECKPOINT]
    assert await box.cast([world.vote(0, 1), other]) == [VoteOutcome.EQUIVOCATION] * 2
