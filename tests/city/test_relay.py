"""What servers relay to the leader, as notes."""

from __future__ import annotations

from typing import Any

import pytest

from citychain import notes
from citychain.city.relay import CERTIFIED_MAX, Relayed, SharedVoting
from citychain.city.standing import Standing
from citychain.city.watchers import Watchers
from citychain.clock import SystemClock
from citychain.errors import VerificationError
from citychain.ports import CityStorage
from citychain.storage.memory import MemoryCity
from citychain.types import CastVote, Head, Objection, Vote, VoteOutcome


def vote(round: int, signer: int) -> CastVote:
    key_id = bytes([signer]) * 32
    return CastVote(round, bytes([round]) * 32, Vote(key_id, bytes([signer, round]) * 2313 + b"s"))


def objection(signer: int, detail: str) -> Objection:
    return Objection(7, bytes(32), "verdict", detail, bytes([signer]) * 32, bytes([signer]) * 4627)


def test_notes_say_what_they_were_made_of() -> None:
    votes = [vote(round, signer) for round in (1, 2) for signer in (3, 67)]
    assert notes.decode_relayed_votes(notes.relayed_votes_bytes(votes)) == votes
    objections = [objection(1, ""), objection(2, "金沢"), objection(3, "x" * 1_000)]
    encoded = notes.relayed_objections_bytes(objections)
    assert notes.decode_relayed_objections(encoded) == objections
    for decode, good in (
        (notes.decode_relayed_votes, notes.relayed_votes_bytes(votes)),
        (notes.decode_relayed_objections, encoded),
    ):
        with pytest.raises(VerificationError):
            decode(good[:-1])
        assert decode(b"") == []


class Step:
    """Counts every vote, and remembers them."""

    def __init__(self) -> None:
        self.cast_votes: list[CastVote] = []
        self.objections: list[Objection] = []

    async def cast(self, votes: list[CastVote]) -> list[VoteOutcome]:
        self.cast_votes += votes
        return [VoteOutcome.COUNTED] * len(votes)

    async def object(self, objections: list[Objection]) -> None:
        self.objections += objections


def follower(storage: CityStorage, standing: Standing) -> SharedVoting:
    step: Any = Step()
    return SharedVoting(
        slug="tokyo",
        step=step,
        resume=None,
        storage=storage,
        standing=standing,
        clock=SystemClock(),
        server="one",
        leads=lambda: False,
    )


async def test_notes_of_votes_are_bounded_however_many_keys_vote_for_however_many_rounds() -> None:
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    voting = follower(storage, standing)
    for round in range(1, 100):
        standing.begin(Head(round=round, certified_round=round - 1))
        await voting.cast([vote(round, signer) for signer in range(256)])
    kept = await storage.notes(notes.RELAYED_VOTES)
    assert len(kept) == notes.RELAY_GROUPS
    for note in kept.values():
        votes = notes.decode_relayed_votes(note)
        assert len(votes) == CERTIFIED_MAX + 4, "more than what waits, and the latest others"
        assert votes[-4:] == [
            vote(99, signer) for signer in sorted(v.vote.key_id[0] for v in votes[-4:])
        ]


async def test_votes_for_rounds_that_wait_are_all_relayed() -> None:
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    voting = follower(storage, standing)
    standing.begin(Head(round=9, certified_round=1))
    for round in range(2, 10):
        await voting.cast([vote(round, 1)])
    [note] = (await storage.notes(notes.RELAYED_VOTES)).values()
    assert notes.decode_relayed_votes(note) == [vote(round, 1) for round in range(2, 10)]


async def test_what_was_taken_is_not_read_again() -> None:
    standing = Standing(Watchers())
    storage = MemoryCity(SystemClock(), b"", ())
    voting, step = follower(storage, standing), Step()
    taking: Any = step
    relayed = Relayed(taking, storage)
    assert not await relayed.look()
    await voting.cast([vote(1, 1), vote(1, 2)])
    await storage.keep(
        {
            notes.relayed_name(
                notes.RELAYED_OBJECTIONS, "a", bytes(32)
            ): notes.relayed_objections_bytes([objection(0, "no")])
        }
    )
    assert await relayed.look()
    assert step.cast_votes == [vote(1, 1), vote(1, 2)]
    assert step.objections == [objection(0, "no")]
    assert not await relayed.look()
    await voting.cast([vote(2, 2)])
    assert await relayed.look()
    assert step.cast_votes[2:] == [vote(1, 2), vote(2, 2)]
