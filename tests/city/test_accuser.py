"""Proofs against keys are submitted until they are in the ledger, and once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from consensus.voting import World, id_of

from citychain import election
from citychain.city.accuser import Accuser
from citychain.consensus.votes import VoteBox
from citychain.errors import CitychainError, CityUnavailable, Overloaded, StorageError
from citychain.handler import Received, Refusal
from citychain.notes import ACCUSED
from citychain.types import ConflictingVotes, ObjectState, Rejection, SealedNode, Seat, State

FAILURES: list[CitychainError | Refusal] = [
    Overloaded("full", timedelta()),
    CityUnavailable("kanazawa", "x", timedelta()),
    Refusal("AUTHOR_QUOTA", "body.author", "too many are pending"),
]


class Ledger:
    """Takes transactions after some failures, and decides those that it took when it is told to.

    It stands in front of the city's storage, in which it finds what it decided.
    """

    def __init__(self, world: World, failures: Sequence[CitychainError | Refusal] = ()) -> None:
        self._storage = world.storage
        self._failures = [*failures]
        self.taken: list[bytes] = []
        self.decided: dict[bytes, Rejection | None] = {}
        self.values: dict[str, bytes] = {}
        self.failing_keeps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def submit(self, envelopes: Sequence[bytes]) -> list[Received | Refusal]:
        if self._failures:
            failure = self._failures.pop(0)
            if isinstance(failure, Refusal):
                return [failure]
            raise failure
        [envelope] = envelopes
        tx_id = hashlib.sha256(envelope).digest()
        state = State.RECEIVED
        if tx_id in self.decided:
            state = State.REJECTED if self.decided[tx_id] else State.APPROVED
        duplicate = envelope in self.taken
        if not duplicate:
            self.taken.append(envelope)
        return [Received(tx_id, state, duplicate)]

    def decide(self, rejection: Rejection | None = None) -> list[bytes]:
        """Decide what is not decided yet; returns the ids."""
        ids = [hashlib.sha256(envelope).digest() for envelope in self.taken]
        new = [tx_id for tx_id in ids if tx_id not in self.decided]
        self.decided |= dict.fromkeys(new, rejection)
        return new

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        return {
            tx_id: SealedNode(tx_id, bytes(32), 1, 0, None, (), self.decided[tx_id])
            for tx_id in tx_ids
            if tx_id in self.decided
        }

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        return {name: ObjectState(1, self.values[name]) for name in objects if name in self.values}

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        if self.failing_keeps:
            self.failing_keeps -= 1
            raise StorageError("full")
        await self._storage.keep(notes)


async def sign(conflict: ConflictingVotes) -> bytes:
    """Each time another envelope, as real ones are."""
    return conflict.first.vote.key_id + secrets.token_bytes(8)


def accuser(world: World, box: VoteBox, ledger: Ledger) -> Accuser:
    return Accuser(
        slug="kanazawa",
        genesis=world.genesis,
        storage=ledger,  # type: ignore[arg-type]
        voting=box,
        sign=sign,
        submit=ledger.submit,
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
async def test_a_proof_is_submitted_until_it_is_approved(
    failures: list[CitychainError | Refusal],
) -> None:
    world, box = await equivocating(0, 2)
    ledger = Ledger(world, failures)
    subject = accuser(world, box, ledger)
    for _ in range(len(failures) + 2):
        await subject.look()
    accused = {conflict.first.vote.key_id for conflict in (await box.committee()).conflicting}
    assert len(accused) == 2
    assert sorted(envelope[:32] for envelope in ledger.taken) == sorted(accused)
    assert await world.storage.notes(ACCUSED) == {}
    # The same ones after a restart.
    await (subject := accuser(world, world.box(), ledger)).look()
    assert len(ledger.taken) == 2
    approved = ledger.decide()
    await subject.look()
    notes = await world.storage.notes(ACCUSED)
    assert notes.keys() == {f"{ACCUSED}{key_id.hex()}" for key_id in accused}
    assert set(notes.values()) == set(approved)
    # Not again after another.
    await accuser(world, world.box(), again := Ledger(world)).look()
    assert again.taken == []


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("decided", [False, True])
async def test_a_note_that_cannot_be_kept_costs_no_second_accusation(
    failing: int, decided: bool
) -> None:
    world, box = await equivocating(0)
    ledger = Ledger(world)
    subject = accuser(world, box, ledger)
    if decided:
        await subject.look()
        ledger.decide()
    ledger.failing_keeps = failing
    for _ in range(failing + 2):
        await subject.look()
    ledger.decide()
    await subject.look()
    assert len(ledger.taken) == 1
    assert len(await world.storage.notes(ACCUSED)) == 1


async def test_one_that_fails_does_not_hold_up_the_others() -> None:
    world, box = await equivocating(0, 2)
    ledger = Ledger(world)
    ledger.failing_keeps = 1
    await accuser(world, box, ledger).look()
    assert len(ledger.taken) == 1


@pytest.mark.parametrize("where", [election.COMMITTEE, election.CANDIDATES])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_key_that_stood_for_nothing_is_accused_when_it_does(
    where: str, restart: bool
) -> None:
    world, box = await equivocating(0)
    ledger = Ledger(world)
    subject = accuser(world, box, ledger)
    encode = {
        election.COMMITTEE: election.encode_committee,
        election.CANDIDATES: election.encode_candidates,
    }
    others, both = (Seat(id_of(1), 1),), tuple(sorted((Seat(id_of(0), 1), Seat(id_of(1), 1))))
    ledger.values |= {name: encode[name](others) for name in encode}
    await subject.look()
    ledger.decide(Rejection("EQUIVOCATION_UNPROVEN", "the key has no seat and stands for none"))
    for _ in range(3):
        await subject.look()
    if restart:
        subject = accuser(world, world.box(), ledger)
        await subject.look()
    assert len(ledger.taken) == 1, "it would be rejected again"
    assert await world.storage.notes(ACCUSED) == {}
    ledger.values[where] = encode[where](both)
    for _ in range(3):
        await subject.look()
    assert len(ledger.taken) == 2
    [approved] = ledger.decide()
    await subject.look()
    assert [*(await world.storage.notes(ACCUSED)).values()] == [approved]


@pytest.mark.parametrize("code", ["EXCLUDED", "UNSUPPORTED_ACTION"])
async def test_what_is_rejected_for_good_is_left_alone(code: str) -> None:
    world, box = await equivocating(0)
    ledger = Ledger(world)
    subject = accuser(world, box, ledger)
    await subject.look()
    ledger.decide(Rejection(code, "for good"))
    for opened in (subject, accuser(world, world.box(), ledger)):
        for _ in range(3):
            await opened.look()
    assert len(ledger.taken) == 1
    assert await world.storage.notes(ACCUSED) == {}
