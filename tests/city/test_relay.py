"""What servers relay to the leader, as notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from citychain import notes
from citychain.city.relay import CERTIFIED_MAX, Relayed, SharedVoting
from citychain.city.standing import Standing
from citychain.city.watchers import Watchers
from citychain.clock import SystemClock
from citychain.errors import StorageError, VerificationError
from citychain.ports import CityStorage
from citychain.storage.memory import MemoryCity
from citychain.types import CastVote, Head, Objection, Vote, VoteOutcome


def vote(round: int, signer: int) -> CastVote:
    return cast(round, bytes([signer]) * 32)


def cast(round: int, key_id: bytes, checkpoint: int = 0) -> CastVote:
    signature = bytes([key_id[1], round, checkpoint]) * 1542 + b"s"
    return CastVote(round, bytes([checkpoint or round]) * 32, Vote(key_id, signature))


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
    """Counts every vote once, and remembers them."""

    late = 0
    """The last round that is too old."""

    def __init__(self) -> None:
        self.cast_votes: list[CastVote] = []
        self._said: set[tuple[object, ...]] = set()
        self.objections: list[Objection] = []

    async def cast(self, votes: list[CastVote]) -> list[VoteOutcome]:
        return [self._outcome(vote) for vote in votes]

    def _outcome(self, vote: CastVote) -> VoteOutcome:
        """As the consensus step has it: what says the same is repeated, however it is signed."""
        if vote.round <= self.late:
            return VoteOutcome.LATE
        if (said := (*vote[:2], vote.vote[0])) in self._said:
            return VoteOutcome.REPEATED
        if not any(vote.vote.signature):
            return VoteOutcome.BAD_SIGNATURE
        self._said.add(said)
        self.cast_votes.append(vote)
        return VoteOutcome.COUNTED

    async def resume(self) -> None:
        self.cast_votes.clear()
        self._said.clear()

    async def object(self, objections: list[Objection]) -> None:
        self.objections += objections


def follower(
    storage: CityStorage, standing: Standing, server: str = "one", step: Any = None
) -> SharedVoting:
    step = step or Step()
    return SharedVoting(
        slug="tokyo",
        step=step,
        resume=step.resume,
        storage=storage,
        standing=standing,
        clock=SystemClock(),
        server=server,
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
    relayed = Relayed("tokyo", taking, storage)
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
    assert step.cast_votes[2:] == [vote(2, 2)]


WAITING = 8
"""Rounds of a full pipeline."""


async def read(storage: CityStorage) -> list[CastVote]:
    """What a new leader learns."""
    step = Step()
    taking: Any = step
    await Relayed("tokyo", taking, storage).look()
    return step.cast_votes


async def test_the_oldest_round_that_waits_is_certified_first_and_then_each_other() -> None:
    """However many keys there are, and in whatever order their votes came."""
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    voting = follower(storage, standing)
    keys = [bytes([5, number]) * 16 for number in range(28)]
    certified = 0
    standing.begin(Head(round=WAITING))
    for round in reversed(range(1, WAITING + 1)):
        await voting.cast([cast(round, key) for key in keys])
    while certified < WAITING:
        votes = await read(storage)
        assert len(votes) <= notes.RELAYED_VOTES_MAX
        for key in keys:
            assert cast(certified + 1, key) in votes
        certified += 1
        standing.begin(Head(round=WAITING, certified_round=certified))
        # Representatives send the others again, one by one or together.
        for round in range(certified + 1, WAITING + 1):
            await voting.cast([cast(round, keys[0])])
            await voting.cast([cast(round, key) for key in keys])


async def test_a_key_with_many_votes_for_a_round_takes_no_others_place() -> None:
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    voting = follower(storage, standing)
    standing.begin(Head(round=2))
    many, other = bytes([5, 0]) * 16, bytes([5, 1]) * 16
    for checkpoint in range(3, 100):
        await voting.cast([cast(1, many, checkpoint)])
    await voting.cast([cast(1, other), cast(2, other)])
    assert await read(storage) == [
        cast(1, many, 98),
        cast(1, many, 99),
        cast(1, other),
        cast(2, other),
    ]


async def test_a_vote_that_came_to_this_server_by_a_note_is_relayed_when_it_is_sent_here() -> None:
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    step = Step()
    voting = follower(storage, standing, step=step)
    standing.begin(Head(round=1))
    await step.cast([vote(1, 1)])
    assert await voting.cast([vote(1, 1)]) == [VoteOutcome.COUNTED]
    assert await read(storage) == [vote(1, 1)]


async def test_who_repeats_a_vote_and_did_not_sign_it_takes_no_place() -> None:
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    step = Step()
    voting = follower(storage, standing, step=step)
    standing.begin(Head(round=1))
    good = vote(1, 1)
    forged = good._replace(vote=good.vote._replace(signature=bytes(4627)))
    await step.cast([good])
    assert await voting.cast([forged]) == [VoteOutcome.BAD_SIGNATURE]
    for one in (good, forged, forged, good):
        await voting.cast([one])
        assert await read(storage) == [good]
    # Nor where there is no looking again so soon.
    await step.cast([vote(1, 2)])
    assert await voting.cast([vote(1, 2)]) == [VoteOutcome.REPEATED]
    assert await read(storage) == [good]


async def test_what_is_late_before_the_round_is_told_of_takes_no_place() -> None:
    """Whether it is signed is not known: its round is too old."""
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    step = Step()
    voting = follower(storage, standing, step=step)
    step.late = 1
    assert await voting.cast([vote(1, 1)]) == [VoteOutcome.LATE]
    assert await read(storage) == []
    standing.begin(Head(round=1, certified_round=1))
    await voting.cast([vote(1, 1)])
    assert await read(storage) == [vote(1, 1)]


class Counting(MemoryCity):
    """Counts what is kept, and fails when told."""

    kept = 0
    fails = False

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        if self.fails:
            raise StorageError("away")
        self.kept += 1
        await super().keep(notes)


async def test_what_is_there_is_not_written_again_and_what_is_not_is() -> None:
    storage, standing = Counting(SystemClock(), b"", ()), Standing(Watchers())
    voting = follower(storage, standing)
    standing.begin(Head(round=1))
    for _ in range(3):
        await voting.cast([vote(1, 1)])
    assert storage.kept == 1
    storage.fails = True
    with pytest.raises(StorageError):
        await voting.cast([vote(1, 2)])
    storage.fails = False
    await voting.cast([vote(1, 2)])
    assert await read(storage) == [vote(1, 1), vote(1, 2)]


async def test_servers_whose_names_have_one_slot_get_out_of_each_others_way() -> None:
    names = [f"server {number}" for number in range(2_000)]
    slot = notes.relay_slot(names[0])
    names = [name for name in names if notes.relay_slot(name) == slot][: notes.RELAY_SLOTS - 1]
    storage, standing = Counting(SystemClock(), b"", ()), Standing(Watchers())
    servers = [follower(storage, standing, name) for name in names]
    standing.begin(Head(round=1))

    async def all_cast(round: int) -> None:
        """Each relays votes of another key of one group."""
        for number, server in enumerate(servers):
            await server.cast([cast(round, bytes([5, number]) * 16)])

    for _ in range(len(servers)):
        await all_cast(1)
    assert len(await read(storage)) == len(servers)
    # From then on no vote has to be sent twice.
    standing.begin(Head(round=2, certified_round=1))
    storage.kept = 0
    await all_cast(2)
    assert sum(one.round == 2 for one in await read(storage)) == len(servers)
    await all_cast(2)
    assert storage.kept == len(servers)


async def test_a_note_that_cannot_be_read_keeps_no_other_one_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage, step = MemoryCity(SystemClock(), b"", ()), Step()
    taking: Any = step
    relayed = Relayed("tokyo", taking, storage)
    bad = {f"{kind}0/00": b"?" for kind in (notes.RELAYED_VOTES, notes.RELAYED_OBJECTIONS)}
    await storage.keep(bad)
    after = notes.relayed_name(notes.RELAYED_OBJECTIONS, "f", bytes(32))
    await storage.keep({after: notes.relayed_objections_bytes([objection(0, "no")])})
    await storage.keep({f"{notes.RELAYED_VOTES}f/05": notes.relayed_votes_bytes([vote(1, 5)])})
    assert await relayed.look()
    assert step.cast_votes == [vote(1, 5)]
    assert step.objections == [objection(0, "no")]
    assert not await relayed.look()
    assert sorted(record.args[1] for record in caplog.records) == sorted(bad)  # type: ignore[index]
    # It is read once it can be.
    name = f"{notes.RELAYED_VOTES}0/00"
    await storage.keep({name: notes.relayed_votes_bytes([vote(1, 64)])})
    assert await relayed.look()
    assert step.cast_votes == [vote(1, 5), vote(1, 64)]


async def test_what_is_in_the_place_of_a_note_and_cannot_be_read_is_replaced() -> None:
    storage, standing = MemoryCity(SystemClock(), b"", ()), Standing(Watchers())
    voting = follower(storage, standing)
    standing.begin(Head(round=1))
    await voting.cast([vote(1, 1)])
    [name] = await storage.notes(notes.RELAYED_VOTES)
    await storage.keep({name: b"?"})
    await voting.cast([vote(1, 1)])
    assert await read(storage) == [vote(1, 1)]
    assert len(await storage.notes(notes.RELAYED_VOTES)) == 1
