"""Proofs against keys are submitted until they are in the ledger, and once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from consensus.voting import World

from citychain.city.accuser import Accuser
from citychain.consensus.votes import VoteBox
from citychain.errors import CitychainError, CityUnavailable, Overloaded
from citychain.handler import Received, Refusal
from citychain.notes import ACCUSED
from citychain.types import ConflictingVotes, State

FAILURES: list[CitychainError | Refusal] = [
    Overloaded("full", timedelta()),
    CityUnavailable("kanazawa", "x", timedelta()),
    Refusal("AUTHOR_QUOTA", "body.author", "too many are pending"),
]


class Ledger:
    """Takes transactions after some failures."""

    def __init__(self, failures: Sequence[CitychainError | Refusal] = ()) -> None:
        self._failures = [*failures]
        self.taken: list[bytes] = []

    async def submit(self, envelopes: Sequence[bytes]) -> list[Received | Refusal]:
        if self._failures:
            failure = self._failures.pop(0)
            if isinstance(failure, Refusal):
                return [failure]
            raise failure
        self.taken += envelopes
        return [Received(envelope[-32:], State.RECEIVED, False) for envelope in envelopes]


async def sign(conflict: ConflictingVotes) -> bytes:
    return conflict.first.vote.key_id


def accuser(world: World, box: VoteBox, ledger: Ledger) -> Accuser:
    return Accuser(
        slug="kanazawa", storage=world.storage, voting=box, sign=sign, submit=ledger.submit
    )


async def equivocating(*keys: int) -> tuple[World, VoteBox]:
    """A city of three whose keys signed two checkpoints of round 1."""
    world = World([1, 1, 1])
    box = world.box()
    await world.seal()
    for key in keys:
        await box.cast([world.vote(key, 1, other="x"), world.vote(key, 1, other="y")])
    return world, box


@pytest.mark.parametrize("failures", [[], *([one] for one in FAILURES), FAILURES], ids=len)
async def test_a_proof_is_submitted_until_it_is_received(
    failures: list[CitychainError | Refusal],
) -> None:
    world, box = await equivocating(0, 2)
    ledger = Ledger(failures)
    subject = accuser(world, box, ledger)
    for _ in range(len(failures) + 2):
        await subject.look()
    accused = {conflict.first.vote.key_id for conflict in (await box.committee()).conflicting}
    assert len(accused) == 2
    assert sorted(ledger.taken) == sorted(accused)
    notes = await world.storage.notes(ACCUSED)
    assert notes == {f"{ACCUSED}{key_id.hex()}": key_id for key_id in accused}
    # Not again after a restart.
    await accuser(world, world.box(), again := Ledger()).look()
    assert again.taken == []
