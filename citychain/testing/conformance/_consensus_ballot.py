"""Consensus tests: an opened step that takes votes, and a round that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from citychain import checkpoint
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey, verify
from citychain.errors import InvalidSignature
from citychain.ports import takes_votes
from citychain.testing.conformance._consensus_fronts import comes
from citychain.testing.conformance._consensus_town import Town
from citychain.types import CastVote, Certificate, VoteOutcome

__all__ = ["STRANGER", "Ballot", "WithBallot", "check_conflict", "need_votes"]

STRANGER: Final = SigningKey(b"?" * 32)


def need_votes(step: Any) -> None:
    """Skip the test for a step that takes no votes."""
    if takes_votes(step) is None:
        pytest.skip("the step takes no votes: takes_votes(step) is None")


@dataclass
class Ballot:
    """An opened step that takes votes, with a first round that waits for them; none is inside."""

    town: Town
    step: Any
    keys: list[SigningKey]
    """Of the first round's committee, whose stakes are ``stakes``."""
    stakes: list[int]

    @property
    def enough(self) -> int:
        """How many of the keys, from the first on, make a quorum."""
        needed = self.town.needed(self.stakes)
        return next(n for n in range(1, len(self.keys) + 1) if sum(self.stakes[:n]) >= needed)

    async def cast(self, *votes: CastVote) -> list[VoteOutcome]:
        """Their outcomes."""
        outcomes = list(await self.step.cast(list(votes)))
        assert len(outcomes) == len(votes), (
            f"cast gave {len(outcomes)} outcomes for {len(votes)} votes: one each, in order"
        )
        return outcomes

    def votes(self, round: int, count: int | None = None) -> list[CastVote]:
        """Of the first keys, as many as suffice."""
        return [self.town.vote(key, round) for key in self.keys[: count or self.enough]]

    async def approved(self, round: int = 1) -> Certificate:
        """Its certificate, for which all is there that it needs."""
        task: asyncio.Task[Certificate] = asyncio.create_task(
            self.step.approve(self.town.stored(round))
        )
        await comes(task, f"the votes for round {round} are a quorum's, and it is not approved")
        return task.result()


def check_conflict(town: Town, conflict: Any) -> None:
    """Hold a proof of two votes to what everybody can verify."""
    first, second = conflict.first, conflict.second
    assert first.round == second.round, "a proof of two votes is of one round"
    assert first.checkpoint_hash != second.checkpoint_hash, (
        "a proof of two votes is of two checkpoints"
    )
    for cast in (first, second):
        assert cast.vote.key_id == key_id(conflict.public_key), "a proof names another key"
        message = checkpoint.vote_message(town.genesis.id, cast.round, cast.checkpoint_hash)
        try:
            verify(conflict.public_key, message, checkpoint.VOTE_CONTEXT, cast.vote.signature)
        except InvalidSignature:
            pytest.fail("a signature in a proof of two votes does not hold: anybody can send one")


class WithBallot:
    """Gives tests a ballot."""

    @pytest.fixture
    async def ballot(self, town: Town) -> AsyncIterator[Ballot]:
        async with town.opened() as step:
            need_votes(step)
            await town.seal(step)
            seats = town.committee(1)
            keys = [town.keys[seat.key_id] for seat in seats]
            yield Ballot(town, step, keys, [seat.stake for seat in seats])
