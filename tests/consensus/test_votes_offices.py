"""Who certifies a round: elections, and an operator's recoveries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from consensus.voting import (
    OPERATOR,
    World,
    approving,
    cancelled,
    certified,
    id_of,
    make_key,
    seats,
    settled,
    sha256,
    signed,
)

from citychain import notes
from citychain.consensus.steps import ApprovedByVotes
from citychain.errors import CityUnavailable, InvalidRequest, StorageError
from citychain.ports import Judgement
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.storage.memory import MemoryCity
from citychain.types import VoteOutcome

COUNTED = VoteOutcome.COUNTED
REPEATED = VoteOutcome.REPEATED
NO_SEAT = VoteOutcome.NO_SEAT
BAD_SIGNATURE = VoteOutcome.BAD_SIGNATURE


# --- who is in office


async def test_the_committee_in_office_is_told_also_where_nothing_waits() -> None:
    world = World([1, 2])
    box = world.box()
    status = await box.committee()
    assert (status.round, status.stake_for, status.stake_needed) == (1, 0, 2)
    assert [(one.key_id, one.stake) for one in status.members] == [(id_of(0), 1), (id_of(1), 2)]
    elected = seats(k4=1)
    stored = await world.seal(next_committee=elected)
    await box.cast([world.vote(0, 1), world.vote(1, 1)])
    await world.storage.certify([await box.approve(stored)])
    status = await box.committee()
    assert (status.round, status.stake_needed) == (2, 1)
    assert [one.key_id for one in status.members] == [id_of(4)]


async def test_the_latest_round_that_each_voted_for_is_told() -> None:
    world = World([1, 1, 1], own=[0])
    box = world.box()
    tasks = approving(box, await world.seal(), await world.seal())
    await box.cast([world.vote(1, 2)])
    await settled()
    assert [member.last_round for member in (await box.committee()).members] == [2, 2, 0]
    await cancelled(*tasks)


async def test_an_elected_committee_certifies_with_keys_that_storage_knows() -> None:
    world = World([1, 1, 1], own=[0, 1, 2])
    box = world.box()
    elected = seats(k5=1, k6=1)
    await world.storage.append([], {id_of(key): make_key(key).public_key for key in (5, 6)})
    await box.approve(await world.seal(next_committee=elected))
    [task] = approving(box, await world.seal(elected))
    assert await box.cast([world.vote(0, 2), world.vote(5, 2), world.vote(6, 2)]) == [
        NO_SEAT,
        COUNTED,
        COUNTED,
    ]
    world.check(await task, elected)


async def test_a_vote_with_a_key_that_nobody_knows_does_not_count() -> None:
    world = World([1])
    box = world.box()
    [task] = approving(box, await world.seal(seats(k5=1)))
    assert await box.cast([world.vote(5, 1)]) == [BAD_SIGNATURE]
    await cancelled(task)


# --- recovery


def keys_of(*numbers: int) -> list[bytes]:
    return [make_key(number).public_key for number in numbers]


async def test_a_recovery_lets_the_rounds_that_wait_go_on_under_the_new_committee() -> None:
    world = World([1, 1, 1], own=[8])
    box = world.box()
    await certified(world, box)
    tasks = approving(box, await world.seal(), await world.seal())
    assert await box.cast([world.vote(0, 2), world.vote(7, 2)]) == [COUNTED, NO_SEAT]
    new = seats(k0=1, k7=1, k8=1)
    envelope = world.recovery(2, new)
    await box.recover(envelope, keys_of(0, 7, 8))
    assert [one.key_id for one in (await box.committee()).members] == [seat.key_id for seat in new]
    # The vote of before stands, and the key inside the server votes by itself.
    world.check(await tasks[0], new)
    assert await box.cast([world.vote(1, 3), world.vote(7, 3)]) == [NO_SEAT, COUNTED]
    world.check(await tasks[1], new)
    [note] = (await world.storage.notes("")).items()
    assert note[0] == "recovery/0000000000000002/0000"
    assert notes.decode_recovery(note[1]).public_keys == tuple(keys_of(0, 7, 8))
    await box.recover(envelope, keys_of(0, 7, 8))  # Again: it is in force.
    # It holds after a restart, also for rounds that name the old committee yet.
    box = world.box()
    await world.storage.certify([await task for task in tasks])
    assert [one.key_id for one in (await box.committee()).members] == [seat.key_id for seat in new]
    [task] = approving(box, await world.seal())
    assert await box.cast([world.vote(7, 4)]) == [COUNTED]
    world.check(await task, new)
    assert await box.cast([world.vote(1, 1)]) == [REPEATED], "round 1 is the old one's"


async def test_an_election_after_a_recovery_ends_it() -> None:
    world = World([1, 1, 1], own=[7, 0])
    box = world.box()
    first = await world.seal()
    await box.recover(world.recovery(1, seats(k7=1)), keys_of(7))
    elected = world.genesis.seats
    second = await world.seal(next_committee=elected)
    third = await world.seal(elected)
    tasks = approving(box, first, second, third)
    world.check(await tasks[0], seats(k7=1))
    world.check(await tasks[1], seats(k7=1))
    await world.storage.keep({notes.round_name(notes.HANDOVER, 2): b""})
    await world.storage.certify([await task for task in tasks[:2]])
    await cancelled(tasks[2])
    # Also after a restart, when nobody sees the electing round any more.
    box = world.box()
    [task] = approving(box, third)
    await settled()
    assert not task.done()
    await box.cast([world.vote(1, 3)])
    world.check(await task, elected)


async def test_a_recovered_round_can_elect() -> None:
    world = World([1, 1, 1], own=[0, 7])
    box = world.box()
    first = await world.seal(next_committee=world.genesis.seats)
    second = await world.seal()
    await box.recover(world.recovery(1, seats(k7=1)), keys_of(7))
    tasks = approving(box, first, second)
    world.check(await tasks[0], seats(k7=1))
    await settled()
    assert not tasks[1].done()
    await box.cast([world.vote(1, 2)])
    world.check(await tasks[1])


async def test_a_recovery_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    world = World([1, 1, 1])
    box = world.box()
    await certified(world, box)
    [task] = approving(box, await world.seal())
    new, keys = seats(k7=1, k8=1), keys_of(7, 8)
    data = transaction_pb2.TransactionBody(
        genesis=world.genesis.id, author=id_of(255), nonce=bytes(8), created_at_ms=1
    )
    data.data.content = b"hello"
    good = transaction_pb2.SignedTransaction.FromString(world.recovery(2, new))
    good.signature = bytes([good.signature[0] ^ 1]) + good.signature[1:]
    for envelope, public_keys, field in (
        (world.recovery(1, new), keys, "transaction.body.recovery.from_round"),
        (world.recovery(3, new), keys, "transaction.body.recovery.from_round"),
        (world.recovery(2, new, previous=sha256(1)), keys, "transaction.body.recovery.previous"),
        (world.recovery(2, new, key=make_key(0)), keys, "transaction"),
        (world.recovery(2, new, genesis=sha256(1)), keys, "transaction.body.genesis"),
        (signed(OPERATOR, data), keys, "transaction.body"),
        (good.SerializeToString(), keys, "transaction.signature"),
        (b"\xff", keys, "transaction"),
        (world.recovery(2, new), keys[:1], "public_keys"),
        (world.recovery(2, new), keys[::-1], "public_keys[0]"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await box.recover(envelope, public_keys)
        assert caught.value.field == field
    assert await world.storage.notes("") == {}
    assert [one.key_id for one in (await box.committee()).members] == [*map(id_of, range(3))]
    await cancelled(task)


async def test_a_recovery_signed_by_another_key_by_value_is_refused() -> None:
    world = World([1])
    stranger = make_key(3)
    await world.seal()
    body = transaction_pb2.TransactionBody.FromString(
        transaction_pb2.SignedTransaction.FromString(
            world.recovery(1, seats(k3=1), key=stranger)
        ).body
    )
    envelope = signed(stranger, body, public_key=stranger.public_key)
    with pytest.raises(InvalidRequest, match="operator"):
        await world.box().recover(envelope, keys_of(3))


class Voted(ApprovedByVotes):
    async def judge(self, *_: object) -> Judgement:
        raise AssertionError


async def test_no_certificate_is_made_while_a_recovery_may_be_half_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World([1, 1, 1], own=[7])
    box = world.box()
    [task] = approving(box, await world.seal())
    new = seats(k7=1)
    keep = MemoryCity.keep
    failing = asyncio.Event()

    async def fail_once(self: MemoryCity, notes: Mapping[str, bytes]) -> None:
        await keep(self, notes)
        monkeypatch.setattr(MemoryCity, "keep", keep)
        failing.set()
        raise StorageError("no answer")

    monkeypatch.setattr(MemoryCity, "keep", fail_once)
    recovering = asyncio.create_task(box.recover(world.recovery(1, new), keys_of(7)))
    await failing.wait()
    recovering.cancel()  # Its caller leaves.
    await asyncio.gather(recovering, return_exceptions=True)
    await box.cast([world.vote(key, 1) for key in range(3)])
    await settled()
    assert not task.done()
    assert "the recovery from round 1: no answer" in caplog.text
    await world.clock.advance(1)
    world.check(await task, new)


async def test_a_recovery_that_cannot_be_kept_ends_with_the_city(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([1, 1, 1])
    failing = asyncio.Event()
    writes = 0

    async def fail(self: MemoryCity, notes: Mapping[str, bytes]) -> None:
        nonlocal writes
        writes += 1
        failing.set()
        raise StorageError("no answer")

    monkeypatch.setattr(MemoryCity, "keep", fail)
    async with Voted(world.context()) as step:
        staying, leaving = (
            asyncio.create_task(step.recover(world.recovery(1, seats(k7=1)), keys_of(7)))
            for _ in range(2)
        )
        await failing.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    with pytest.raises(CityUnavailable):
        await staying
    assert writes == 1
    await world.clock.advance(10)
    await settled()
    assert writes == 1, "nobody goes on"
    with pytest.raises(CityUnavailable):
        await step.recover(world.recovery(1, seats(k7=1)), keys_of(7))
    assert writes == 1


async def test_the_first_round_can_be_recovered_before_it_is_sealed() -> None:
    world = World([1])
    box = world.box()
    await box.recover(world.recovery(1, seats(k7=1)), keys_of(7))
    stored = await world.seal()
    [task] = approving(box, stored)
    assert await box.cast([world.vote(0, 1), world.vote(7, 1)]) == [NO_SEAT, COUNTED]
    world.check(await task, seats(k7=1))


async def test_a_second_recovery_of_a_round_replaces_the_first() -> None:
    world = World([1])
    box = world.box()
    [task] = approving(box, await world.seal())
    orders = {
        key: world.recovery(1, seats(**{f"k{key}": 1}), later_ms=ms)
        for key, ms in ((7, 1), (8, 2), (9, 2), (10, 60_001))
    }
    for key in (7, 8, 7):
        await box.recover(orders[key], keys_of(key))
    for key, why in ((9, "from the same round was signed at"), (10, "compare clocks")):
        with pytest.raises(InvalidRequest, match=why) as caught:
            await box.recover(orders[key], keys_of(key))
        assert caught.value.field == "transaction.body.created_at_ms"
    for opened in (box, world.box()):
        assert [one.key_id for one in (await opened.committee()).members] == [id_of(8)]
    await cancelled(task)


def test_notes_of_rounds_come_in_their_order() -> None:
    names = [notes.round_name(notes.HANDOVER, number) for number in (9, 10, 255, 256, 1 << 62)]
    assert names == sorted(names)
    assert [*map(notes.round_of, names)] == [9, 10, 255, 256, 1 << 62]
