"""`VoteBox`: real keys, real signatures, rounds by hand."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from consensus.voting import World, approving, cancelled, certified, id_of, make_key, settled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citychain import checkpoint, notes
from citychain.consensus import _verifier
from citychain.consensus import votes as votes_module
from citychain.crypto.signatures import verify
from citychain.errors import Overloaded, StorageError
from citychain.ports import SupportsVotes
from citychain.storage.memory import MemoryCity
from citychain.types import Certificate, Quorum, Vote, VoteOutcome

COUNTED = VoteOutcome.COUNTED
REPEATED = VoteOutcome.REPEATED
LATE = VoteOutcome.LATE
UNKNOWN_ROUND = VoteOutcome.UNKNOWN_ROUND
OTHER_CHECKPOINT = VoteOutcome.OTHER_CHECKPOINT
NO_SEAT = VoteOutcome.NO_SEAT
BAD_SIGNATURE = VoteOutcome.BAD_SIGNATURE
EQUIVOCATION = VoteOutcome.EQUIVOCATION


# --- certificates


async def test_a_lone_key_inside_certifies_at_once_and_always_alike() -> None:
    world = World([1], own=[0])
    stored = await world.seal()
    certificate = await world.box().approve(stored)
    world.check(certificate)
    assert await world.box().approve(stored) == certificate, "also after a restart"


async def test_a_round_waits_for_two_thirds_of_the_stake() -> None:
    world = World([1, 1, 1, 1], own=[0])
    box = world.box()
    assert isinstance(box, SupportsVotes)
    [task] = approving(box, await world.seal())
    assert await box.cast([world.vote(1, 1)]) == [COUNTED]
    await settled()
    assert not task.done(), "2 of 4 are no two thirds"
    status = await box.committee()
    assert (status.round, status.stake_for, status.stake_needed) == (1, 2, 3)
    assert await box.cast([world.vote(3, 1)]) == [COUNTED]
    world.check(certificate := await task)
    assert {vote.key_id for vote in certificate.votes} == {id_of(0), id_of(1), id_of(3)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stakes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    quorum=st.sampled_from(["two-thirds", "majority"]),
    own=st.sets(st.integers(0, 4)),
    data=st.data(),
)
def test_a_certificate_is_there_exactly_when_the_stake_is(
    stakes: list[int], quorum: Quorum, own: set[int], data: st.DataObject
) -> None:
    """Whatever the order, however often, and in whatever portions votes come."""
    own = {key for key in own if key < len(stakes)}
    keys = st.integers(0, len(stakes) - 1)
    arrivals = data.draw(st.lists(st.lists(keys, min_size=1, max_size=4), max_size=6))
    before = data.draw(st.integers(0, len(arrivals)))

    async def play() -> None:
        world = World(stakes, own=sorted(own), quorum=quorum)
        box = world.box()
        stored = await world.seal()
        voted: set[int] = set()
        task: asyncio.Task[Certificate] | None = None
        for number, portion in enumerate([*arrivals, []]):
            if number == before:
                [task] = approving(box, stored)
                await settled()
                voted |= own
            outcomes = await box.cast([world.vote(key, 1) for key in portion])
            for key, outcome in zip(portion, outcomes, strict=True):
                late = task is not None and task.done()
                expected = REPEATED if key in voted else LATE if late else COUNTED
                assert outcome == expected or (outcome, expected) == (COUNTED, LATE)
                voted.add(key)
            await settled()
            stake = sum(stakes[key] for key in voted)
            enough = (
                2 * stake > sum(stakes) if quorum == "majority" else 3 * stake >= 2 * sum(stakes)
            )
            assert (task is not None and task.done()) == (enough and task is not None)
        assert task is not None
        if task.done():
            world.check(await task)
        else:
            await cancelled(task)

    asyncio.run(play())


async def test_certificates_come_in_order_of_rounds() -> None:
    world = World([1, 1, 1])
    box = world.box()
    first, second = approving(box, await world.seal(), await world.seal())
    await box.cast([world.vote(key, 2) for key in range(3)])
    await settled()
    assert not second.done(), "who certifies round 1 may yet be replaced, from there on"
    await box.cast([world.vote(key, 1) for key in range(2)])
    for task in (first, second):
        world.check(await task)


async def test_several_keys_inside_sign_what_they_have_a_seat_for() -> None:
    world = World([1, 1, 1], own=[0, 2, 7])
    certificate = await world.box().approve(await world.seal())
    world.check(certificate)
    assert len(certificate.votes) == 2


async def test_votes_of_before_a_restart_come_again() -> None:
    world = World([1, 1, 1], own=[0])
    stored = await world.seal()
    box = world.box()
    [task] = approving(box, stored)
    await settled()
    await cancelled(task)
    box = world.box()
    vote = world.vote(1, 1)
    assert await box.cast([vote, vote]) == [COUNTED, REPEATED], "before approve is asked"
    world.check(await box.approve(stored))


# --- votes that do not count


async def test_what_is_wrong_with_a_vote_is_said() -> None:
    world = World([1, 1, 1, 1])
    box = world.box()
    [task] = approving(box, await world.seal())
    good = world.vote(0, 1)
    forged = good._replace(vote=Vote(id_of(1), good.vote.signature))
    another_city = World([1, 1, 1, 2])
    await another_city.seal()
    strayed = another_city.vote(1, 1)._replace(checkpoint_hash=world.hash_of(1))
    assert await box.cast(
        [
            world.vote(9, 1),
            forged,
            strayed,
            good._replace(round=2),
            world.vote(2, 1, other="x"),
            world.vote(2, 1, other="x"),
            good,
        ]
    ) == [
        NO_SEAT,
        BAD_SIGNATURE,
        BAD_SIGNATURE,
        UNKNOWN_ROUND,
        OTHER_CHECKPOINT,
        OTHER_CHECKPOINT,
        COUNTED,
    ]
    assert (await box.committee()).stake_for == 1
    assert (await box.committee()).conflicting == ()
    await cancelled(task)


async def test_nothing_is_asked_of_storage_for_rounds_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([1, 1, 1])
    box = world.box()
    [task] = approving(box, await world.seal())
    await box.cast([world.vote(0, 1)])
    monkeypatch.setattr(MemoryCity, "rounds", None)
    monkeypatch.setattr(MemoryCity, "head", None)
    assert await box.cast([world.vote(1, 1)]) == [COUNTED]
    await task


async def test_votes_are_taken_for_a_bounded_number_of_sealed_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(votes_module, "AHEAD_ROUNDS", 3)
    world = World([1, 1, 1])
    box = world.box()
    for _ in range(5):
        await world.seal()
    assert await box.cast([world.vote(0, number) for number in (3, 4, 5)]) == [
        COUNTED,
        UNKNOWN_ROUND,
        UNKNOWN_ROUND,
    ]


# --- what verification may cost


class Checks:
    """Counts the signatures that are verified, and lets the first of each call wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.calls = self.at_work = self.most = 0
        self.release = threading.Event()
        verify_all = _verifier._verify_all

        def counted(keys: Any, signed: Sequence[Any]) -> Any:
            self.calls += 1
            self.at_work += 1
            self.most = max(self.most, self.at_work)
            assert self.release.wait(20)
            self.count += len(signed)
            self.at_work -= 1
            return verify_all(keys, signed)

        monkeypatch.setattr(_verifier, "_verify_all", counted)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checks]:
    checks = Checks(monkeypatch)
    yield checks
    checks.release.set()


async def test_calls_are_verified_one_at_a_time_in_order(checks: Checks) -> None:
    world = World([1] * 9)
    box = world.box()
    await world.seal()
    calls = [asyncio.create_task(box.cast([world.vote(key, 1)])) for key in (0, 1, 2, 1)]
    objecting = asyncio.create_task(box.object([world.objection(3, 1)]))
    while not checks.calls:
        await asyncio.sleep(0)
    await settled()
    assert checks.calls == 1
    checks.release.set()
    assert await asyncio.gather(*calls) == [[COUNTED], [COUNTED], [COUNTED], [REPEATED]]
    await objecting
    assert (checks.most, checks.count) == (1, 4)


async def test_more_calls_than_fit_are_told_to_come_again(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_verifier, "CALLS_MAX", 2)
    world = World([1] * 9)
    box = world.box()
    await world.seal()
    calls = [asyncio.create_task(box.cast([world.vote(key, 1)])) for key in (0, 1)]
    while not checks.calls:
        await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 calls wait") as caught:
        await box.cast([world.vote(2, 1)])
    assert caught.value.retry_after
    assert await box.cast([world.vote(12, 1)]) == [NO_SEAT], "this costs nothing"
    checks.release.set()
    await asyncio.gather(*calls)
    assert await box.cast([world.vote(2, 1)]) == [COUNTED]


async def test_a_caller_that_leaves_does_not_let_the_next_begin_early(checks: Checks) -> None:
    world = World([1] * 9)
    box = world.box()
    await world.seal()
    first, second = (asyncio.create_task(box.cast([world.vote(key, 1)])) for key in (0, 1))
    while not checks.calls:
        await asyncio.sleep(0)
    first.cancel()
    await settled()
    assert checks.calls == 1
    checks.release.set()
    assert await second == [COUNTED]
    with pytest.raises(asyncio.CancelledError):
        await first
    assert checks.most == 1


async def test_no_signature_is_verified_where_the_rest_decides(checks: Checks) -> None:
    checks.release.set()
    world = World([1] * 9)
    box = world.box()
    await world.seal()
    good, other = world.vote(0, 1), world.vote(1, 1, other="x")
    await box.cast([good] * 3 + [other] * 3)
    assert checks.count == 2
    cheap = [good, other, world.vote(12, 1), world.vote(2, 1)._replace(round=7)]
    assert await box.cast(cheap) == [REPEATED, OTHER_CHECKPOINT, NO_SEAT, UNKNOWN_ROUND]
    assert (checks.calls, checks.count) == (1, 2)


# --- late votes


async def test_a_late_vote_is_kept_and_survives_a_restart() -> None:
    world = World([1, 1, 1, 1])
    box = world.box()
    await certified(world, box)
    vote = world.vote(3, 1)
    assert await box.cast([vote, vote]) == [LATE, REPEATED]
    kept = await world.storage.notes("")
    assert list(kept) == ["late-votes/01"]
    [note] = kept.values()
    assert notes.decode_late_votes(note) == (1, {vote.vote.key_id: vote.vote.signature})
    box = world.box()
    assert await box.cast([vote, world.vote(0, 1)]) == [REPEATED, REPEATED]
    forged = world.vote(3, 1)._replace(vote=Vote(id_of(9), bytes(4627)))
    assert await box.cast([forged]) == [NO_SEAT]
    assert await world.storage.notes("") == kept


async def test_late_votes_of_many_are_few_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([1] * 9)
    box = world.box()
    await certified(world, box, range(6))
    writes = 0
    keep = MemoryCity.keep

    async def slow_keep(self: MemoryCity, notes: Mapping[str, bytes]) -> None:
        nonlocal writes
        writes += 1
        await settled()
        await keep(self, notes)

    monkeypatch.setattr(MemoryCity, "keep", slow_keep)
    cast = [[world.vote(key, 1)] for key in (6, 7, 8)] * 3
    outcomes = await asyncio.gather(*map(box.cast, cast))
    assert sorted(outcome for [outcome] in outcomes) == [REPEATED] * 6 + [LATE] * 3
    assert writes <= 2
    [note] = (await world.storage.notes(notes.LATE_VOTES)).values()
    round, kept = notes.decode_late_votes(note)
    assert (round, kept.keys()) == (1, {id_of(key) for key in (6, 7, 8)})


async def test_a_repeated_vote_is_answered_when_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([1, 1, 1, 1])
    box = world.box()
    await certified(world, box)
    writing, release = asyncio.Event(), asyncio.Event()
    keep = MemoryCity.keep

    async def stalled_keep(self: MemoryCity, notes: Mapping[str, bytes]) -> None:
        writing.set()
        await release.wait()
        await keep(self, notes)

    monkeypatch.setattr(MemoryCity, "keep", stalled_keep)
    vote = world.vote(3, 1)
    calls = [asyncio.create_task(box.cast([vote])) for _ in range(2)]
    await writing.wait()
    await settled()
    assert not any(call.done() for call in calls)
    release.set()
    assert await asyncio.gather(*calls) == [[LATE], [REPEATED]]


async def test_calls_at_once_open_a_round_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([1, 1, 1])
    box = world.box()
    await world.seal()
    rounds = MemoryCity.rounds

    async def slow_rounds(self: MemoryCity, first: int, limit: int) -> Any:
        await asyncio.sleep(0)
        return await rounds(self, first, limit)

    monkeypatch.setattr(MemoryCity, "rounds", slow_rounds)
    calls = [box.cast([world.vote(key, 1)]) for key in (0, 1, 1)]
    outcomes = await asyncio.gather(*calls, box.approve(world.rounds[0]))
    assert sorted(outcome for [outcome] in outcomes[:3]) == [COUNTED, COUNTED, REPEATED]
    world.check(outcomes[3])


async def test_late_votes_are_taken_for_recent_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes_module, "RECENT_ROUNDS", 2)
    world = World([1, 1, 1, 1])
    box = world.box()
    for _ in range(4):
        await certified(world, box)
    for opened in (box, world.box()):
        await opened.cast([world.vote(3, number) for number in (1, 2, 3, 4)])
        assert [*await world.storage.notes("")] == [
            "late-votes/03",
            "late-votes/04",
        ]


async def test_late_votes_of_old_rounds_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([1, 1, 1, 1])
    box = world.box()
    rounds = 2 * notes.LATE_ROUNDS + 3
    for number in range(1, rounds + 1):
        await certified(world, box)
        assert await box.cast([world.vote(3, number)]) == [LATE]
    kept = await world.storage.notes(notes.LATE_VOTES)
    assert sorted(notes.decode_late_votes(note)[0] for note in kept.values()) == [
        *range(rounds + 1 - notes.LATE_ROUNDS, rounds + 1)
    ]
    # One of an old round in its place is none of this round.
    await certified(world, box)
    box = world.box()
    assert await box.cast([world.vote(3, rounds + 1)]) == [LATE]
    assert await box.cast([world.vote(3, rounds - notes.LATE_ROUNDS)]) == [LATE], "not kept"
    assert len(kept := await world.storage.notes(notes.LATE_VOTES)) == notes.LATE_ROUNDS
    assert notes.decode_late_votes(kept[notes.late_votes_name(rounds + 1)])[0] == rounds + 1


async def test_an_old_round_takes_no_place_from_one_that_is_certified_only_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Storage may be behind what was certified; and old rounds may have been opened late."""
    monkeypatch.setattr(notes, "LATE_ROUNDS", 2)
    monkeypatch.setattr(votes_module, "RECENT_ROUNDS", 2)
    world = World([1] * 6)
    box = world.box()
    for _ in range(3):
        await certified(world, box, range(4))
    box = world.box()
    assert await box.cast([world.vote(4, 2)]) == [LATE]
    ahead = await world.seal()
    await box.cast([world.vote(key, 4) for key in range(4)])
    await box.approve(ahead)
    assert await box.cast([world.vote(4, 4)]) == [LATE]
    for old in (1, 2):
        await box.cast([world.vote(5, old)])
    kept = await world.storage.notes(notes.LATE_VOTES)
    assert {name: notes.decode_late_votes(note)[0] for name, note in kept.items()} == {
        "late-votes/00": 4
    }


async def test_a_write_that_fails_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([1, 1, 1, 1])
    box = world.box()
    await certified(world, box)

    async def fail(self: MemoryCity, notes: Mapping[str, bytes]) -> None:
        raise StorageError("full")

    with monkeypatch.context() as broken:
        broken.setattr(MemoryCity, "keep", fail)
        with pytest.raises(StorageError):
            await box.cast([world.vote(3, 1)])
        with pytest.raises(StorageError):
            await box.cast([world.vote(0, 1, other="x")])
        assert await world.storage.notes("") == {}
    assert await box.cast([world.vote(3, 1)]) == [REPEATED]
    assert [*await world.storage.notes("")] == [
        f"conflict/{id_of(0).hex()}",
        "late-votes/01",
    ]


# --- equivocation


@pytest.mark.parametrize("order", ["own-first", "other-first", "neither", "late"])
async def test_two_checkpoints_of_a_round_are_proof_against_a_key(
    order: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World([1, 1, 1])
    box = world.box()
    stored = await world.seal()
    [task] = approving(box, stored)
    ours, other, third = (world.vote(0, 1, other=other) for other in (None, "x", "y"))
    first, second = {
        "own-first": (ours, other),
        "other-first": (other, ours),
        "neither": (other, third),
        "late": (ours, other),
    }[order]
    expected = OTHER_CHECKPOINT if first is other else COUNTED
    assert await box.cast([first]) == [expected]
    if order == "late":
        await box.cast([world.vote(1, 1)])
        await world.storage.certify([await task])
        box = world.box()
    caplog.set_level(logging.ERROR)
    assert await box.cast([second]) == [EQUIVOCATION]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    [note] = (await world.storage.notes(notes.CONFLICT)).values()
    for opened in (box, world.box()):
        [conflict] = (await opened.committee()).conflicting
        assert conflict == notes.decode_conflict(note)
    # The proof stands by itself.
    assert conflict.public_key == make_key(0).public_key
    assert conflict.first.checkpoint_hash != conflict.second.checkpoint_hash
    assert conflict.first.round == conflict.second.round == 1
    for round, digest, vote in (conflict.first, conflict.second):
        message = checkpoint.vote_message(world.genesis.id, round, digest)
        verify(conflict.public_key, message, checkpoint.VOTE_CONTEXT, vote.signature)
    # Told once, and kept as it was.
    caplog.clear()
    await box.cast([third, world.vote(0, 1, other="z")])
    assert (await world.storage.notes(notes.CONFLICT)).popitem()[1] == note
    assert not caplog.records
    await cancelled(task)


async def test_a_second_vote_counts_where_it_is_for_the_rounds_checkpoint() -> None:
    world = World([1, 1, 1])
    box = world.box()
    [task] = approving(box, await world.seal())
    assert await box.cast([world.vote(0, 1, other="x"), world.vote(0, 1), world.vote(1, 1)]) == [
        OTHER_CHECKPOINT,
        EQUIVOCATION,
        COUNTED,
    ]
    world.check(await task)


async def test_a_late_second_vote_is_kept_too() -> None:
    world = World([1, 1, 1, 1])
    box = world.box()
    await certified(world, box)
    assert await box.cast([world.vote(3, 1, other="x"), world.vote(3, 1)]) == [
        OTHER_CHECKPOINT,
        EQUIVOCATION,
    ]
    assert [name.partition("/")[0] for name in await world.storage.notes("")] == [
        "conflict",
        "late-votes",
    ]


# --- objections


async def test_an_objection_is_shown_and_logged_until_its_author_votes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World([1, 1, 1])
    box = world.box()
    tasks = approving(box, await world.seal(), await world.seal())
    caplog.set_level(logging.WARNING)
    objection = world.objection(0, 1, "replay", "seq 3:\nanother \x1b[31mnode")
    for _ in range(2):
        await box.object([objection])
    member = (await box.committee()).members[0]
    assert member.objection == objection
    assert [record.message for record in caplog.records] == [
        f"kanazawa: {id_of(0).hex()[:12]}… objects to round 1: replay: seq 3: another  [31mnode"
    ]
    await box.object([later := world.objection(0, 2, "poh")])
    await box.object([objection])
    assert (await box.committee()).members[0].objection == later, "the latest"
    await box.cast([world.vote(0, 2)])
    assert (await box.committee()).members[0].objection is None
    await box.object([later])
    assert (await box.committee()).members[0].objection is None, "it voted since"
    await cancelled(*tasks)


async def test_objections_of_others_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    world = World([1, 1, 1])
    box = world.box()
    [task] = approving(box, await world.seal())
    caplog.set_level(logging.WARNING)
    good = world.objection(0, 1)
    await box.object(
        [world.objection(9, 1), good._replace(key_id=id_of(1)), good._replace(detail="x")]
    )
    assert all(member.objection is None for member in (await box.committee()).members)
    assert not caplog.records
    await cancelled(task)
