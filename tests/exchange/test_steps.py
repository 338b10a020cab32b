"""Proofs stay small however often committees change, and a ledger is led along what it missed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from exchange.towns import AUTHORS, OPERATOR, Town, peered

from citychain._native.transactions import Transaction, decode_batch
from citychain.compute import Executor
from citychain.config import DEFAULT_BODY_KIB
from citychain.crypto.signatures import SigningKey
from citychain.errors import CitychainError
from citychain.exchange.neighbour import Signed
from citychain.exchange.proof import encode_certified, encode_receipt
from citychain.exchange.steps import Steps
from citychain.handler import Refusal
from citychain.ports import StoredRound
from citychain.testing.clock import FakeClock
from citychain.types import Anchor, Handover

ANNA, BEN = AUTHORS[:2]
KEYS = [SigningKey(bytes([100 + number]) * 32) for number in range(12)]
BODY_BYTES = DEFAULT_BODY_KIB << 10


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


class Asked:
    """A town as a `PeerCity`, as far as `Steps` asks it."""

    def __init__(self, town: Town, body_bytes: int = BODY_BYTES) -> None:
        self.town = town
        self.body_bytes = body_bytes
        self.anchors: list[Transaction] = []
        self.waiting: list[Transaction] = []
        self.codes: list[str] = []
        self.clock = FakeClock()
        self.page = 3
        self.told: list[int] = []
        """How many handovers each time that somebody asked."""
        self.untold = 0
        """How many of the last handovers it keeps to itself; later: from the second time on."""
        self.untold_later = 0
        self.asked: list[str] = []
        self.read = 0
        """How often somebody read rounds."""
        self.meanwhile: Callable[[], None] | None = None

    async def objects(self, objects: Sequence[str]) -> Mapping[str, bytes]:
        self.asked += objects
        if self.meanwhile:
            self.meanwhile()
        found = await self.town.rounds.storage.objects(objects)
        return {name: state.value for name, state in found.items()}

    async def handovers(self, known_round: int) -> AsyncIterator[Sequence[Handover]]:
        changes = await self.town.proofs.handovers(known_round)
        changes = changes[: len(changes) - self.untold]
        if self.untold_later:
            self.untold, self.untold_later = self.untold_later, 0
        self.told.append(len(changes))
        for at in range(0, len(changes), self.page):
            if self.meanwhile:
                self.meanwhile()
            yield changes[at : at + self.page]

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        self.read += 1
        return await self.town.rounds.storage.rounds(first, limit)

    async def round(self, round: int) -> StoredRound:
        [stored] = await self.rounds(round, 1)
        return stored

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[object]:
        results: list[object] = []
        for transaction in decode_batch(list(envelopes)):
            if len(transaction.body) > self.body_bytes:
                results.append(Refusal("TOO_LARGE", "body", "too large", tx_id=transaction.tx_id))
                continue
            self.anchors.append(transaction)
            self.waiting.append(transaction)
            results.append(object())
        return results

    async def wait(self, tx_ids: Sequence[bytes]) -> None:
        assert [item.tx_id for item in self.waiting] == tx_ids
        self.codes += await self.town.codes(*self.waiting)
        self.waiting = []


def steps_of(source: Asked, target: Asked) -> Any:
    """Leads one town along another's committees."""

    async def sign(genesis: bytes, actions: Sequence[Any], _: object) -> list[Signed]:
        assert genesis == target.town.id
        signed = [target.town.sign(OPERATOR, action) for action in actions]
        return [Signed(one.tx_id, one.envelope) for one in signed]

    return Steps(source.town.genesis, target.town.id, sign, target.town.compute, target.clock)


async def delivered(steps: Any, source: Asked, target: Asked, item: Transaction) -> Transaction:
    """A delivery of a remittance that brings no handover, once it is approved."""
    receipt = await source.town.receipt(item.tx_id)
    starts = await steps.starts(source, target, [receipt.round])
    told = await bare(source.town, item, starts[receipt.round])
    delivery = await target.town.delivery(source.town, item, proof=told)
    assert await target.town.codes(delivery) == [""]
    return delivery


async def bare(town: Town, item: Transaction, start: bytes) -> bytes:
    [receipt] = (await town.proofs.receipts([item.tx_id], 1 << 62)).values()
    assert receipt.handovers == ()
    return encode_receipt(receipt, start)


async def sent(source: Town, target: Town) -> Transaction:
    remittance = source.remittance(ANNA, target, BEN, 1)
    assert await source.codes(remittance) == [""]
    return remittance


async def two(compute: Executor, seats: int = 3) -> tuple[Asked, Asked]:
    aomori = Town("aomori", compute, members=KEYS[:seats])
    beppu = Town("beppu", compute, members=KEYS[-seats:])
    await peered(aomori, beppu)
    return Asked(aomori), Asked(beppu)


def another(number: int, seats: int) -> list[SigningKey]:
    return [KEYS[(number + seat) % len(KEYS)] for seat in range(seats)]


async def test_cities_that_elect_forty_times_send_as_much_as_at_first(compute: Executor) -> None:
    source, target = await two(compute, 5)
    there, here = steps_of(source, target), steps_of(target, source)
    sizes = []
    for number in range(40):
        source.town.elect(another(number, 5))
        target.town.elect(another(number + 3, 5))
        remittance = await sent(source.town, target.town)
        if number % 2:
            await source.town.close()
        delivery = await delivered(there, source, target, remittance)
        receipt = await target.town.receipt(delivery.tx_id)
        starts = await here.starts(target, source, [receipt.round])
        proof = await bare(target.town, delivery, starts[receipt.round])
        settlement = await source.town.settlement(target.town, remittance, delivery, proof=proof)
        assert await source.town.codes(settlement) == [""]
        sizes.append((len(delivery.body), len(settlement.body)))
    assert max(map(max, sizes)) - max(sizes[0]) < 300
    assert max(len(item.body) for item in (*source.anchors, *target.anchors)) <= BODY_BYTES
    assert {*source.codes, *target.codes} == {""}
    # One anchor for each change, and the committees change in each round of a step as well.
    assert 39 <= len(target.anchors) <= 41
    await source.town.replay()
    await target.town.replay()


async def test_who_was_not_talked_to_for_forty_changes_catches_up(compute: Executor) -> None:
    source, target = await two(compute, 7)
    early = await sent(source.town, target.town)
    for number in range(40):
        source.town.elect(another(number, 7))
        await source.town.close()
    remittance = await sent(source.town, target.town)
    whole = await target.town.delivery(source.town, remittance)
    assert len(whole.body) > 4 * BODY_BYTES
    steps = steps_of(source, target)
    await delivered(steps, source, target, remittance)
    assert {*target.codes} == {""}
    assert 10 <= len(target.anchors) <= 40
    assert max(len(item.body) for item in target.anchors) <= BODY_BYTES
    # What is older than all that needs nothing.
    count = len(target.anchors)
    await delivered(steps, source, target, early)
    assert len(target.anchors) == count
    # Nor does who begins anew.
    again = steps_of(source, target)
    await delivered(again, source, target, await sent(source.town, target.town))
    assert len(target.anchors) == count
    await target.town.replay()


async def test_smaller_bodies_take_more_steps(compute: Executor) -> None:
    source, target = await two(compute)
    for number in range(12):
        source.town.elect(another(number, 3))
        await source.town.close()
    remittance = await sent(source.town, target.town)
    target.body_bytes = 64 << 10
    await delivered(steps_of(source, target), source, target, remittance)
    assert len(target.anchors) >= 6
    await target.town.replay()


async def test_a_body_that_holds_no_single_change_is_told(compute: Executor) -> None:
    source, target = await two(compute)
    source.town.elect(another(2, 3))
    await source.town.close()
    remittance = await sent(source.town, target.town)
    target.body_bytes = 16 << 10
    with pytest.raises(CitychainError, match="TOO_LARGE"):
        await delivered(steps_of(source, target), source, target, remittance)


async def test_recoveries_are_steps_too(compute: Executor) -> None:
    """Also of one that is elected and certifies nothing, of two for one round, and of rounds that
    name who was replaced."""
    source, target = await two(compute)
    town, steps = source.town, steps_of(source, target)
    for number in range(6):
        town.elect(another(number, 3))
        await town.close()
        if number % 2:
            await town.recover(another(number + 5, 3))
        stuck = town.remittance(ANNA, target.town, BEN, 1)
        await town.close(stuck, certify=False)
        await town.recover(another(number + 6, 3))
        await town.recover(another(number + 7, 3))
        await town.certify()
        if number != 3:
            await delivered(steps, source, target, stuck)
    assert {*target.codes} == {""}
    again = steps_of(source, target)
    await delivered(again, source, target, await sent(town, target.town))
    await target.town.replay()


async def test_a_committee_that_is_known_may_be_replaced_from_its_first_round(
    compute: Executor,
) -> None:
    source, target = await two(compute)
    town, steps = source.town, steps_of(source, target)
    town.elect(another(1, 3))
    await town.close()
    await delivered(steps, source, target, await sent(town, target.town))
    # The next is elected; its first round is stuck, and who is put in its place fails as well.
    town.elect(another(2, 3))
    await town.close()
    stuck = town.remittance(ANNA, target.town, BEN, 1)
    await town.close(stuck, certify=False)
    await town.recover(another(3, 3))
    await town.certify()
    await delivered(steps, source, target, stuck)
    assert len(target.anchors) == 2
    await delivered(steps, source, target, await sent(town, target.town))
    assert len(target.anchors) == 2


async def test_a_committee_can_be_shown_by_an_anchor_that_comes_too_late(
    compute: Executor,
) -> None:
    """Somebody has shown a recovery alone, without those whom it replaced, and a later round."""
    source, target = await two(compute)
    town = source.town
    for number in range(9):
        town.elect(another(number, 3))
        await town.close()
    stuck = town.remittance(ANNA, target.town, BEN, 1)
    await town.close(stuck, certify=False)
    await town.recover(another(5, 3))
    await town.certify()
    remittance = await sent(town, target.town)
    number = (await town.receipt(remittance.tx_id)).round
    [recovery] = [it for it in await town.proofs.handovers(0) if it.recovery]
    stored = await source.round(number)
    assert stored.certificate is not None
    proof = encode_certified(town.id, stored.certificate, [recovery])
    false = target.town.sign(ANNA, Anchor(town.id, stored.checkpoint, proof))
    assert await target.town.codes(false) == [""]
    target.body_bytes = 100 << 10
    await delivered(steps_of(source, target), source, target, stuck)
    assert len(target.anchors) > 1
    assert {*target.codes} == {"ANCHORED"}
    await target.town.replay()


async def test_what_a_target_does_not_take_is_told_and_sent_ever_more_seldom(
    compute: Executor,
) -> None:
    source, _ = await two(compute)
    for number in range(4):
        source.town.elect(another(number, 3))
        await source.town.close()
    stranger = Asked(Town("stranger", compute))
    assert await source.town.codes(source.town.peer(stranger.town)) == [""]
    remittance = await sent(source.town, stranger.town)
    steps = steps_of(source, stranger)
    for _ in range(120):
        with pytest.raises(CitychainError, match="does not come to know the committee of round"):
            await delivered(steps, source, stranger, remittance)
        await stranger.clock.advance(15)
    assert 10 <= len(stranger.anchors) <= 16
    assert {*stranger.codes} == {"UNKNOWN_CITY"}
    # The source is asked for each that is sent, and not for each that waits.
    assert source.told == [4] * 2 * len(stranger.anchors)
    assert await stranger.town.codes(stranger.town.peer(source.town)) == [""]
    await stranger.clock.advance(750)
    await delivered(steps, source, stranger, remittance)


async def test_after_a_rejection_nothing_is_believed_of_the_target(compute: Executor) -> None:
    source, target = await two(compute)
    for number in range(9):
        source.town.elect(another(number, 3))
        await source.town.close()
    steps = steps_of(source, target)
    await delivered(steps, source, target, await sent(source.town, target.town))
    count = len(target.anchors)
    steps.forget()
    source.told.clear()
    target.asked.clear()
    await delivered(steps, source, target, await sent(source.town, target.town))
    assert len(target.anchors) == count
    assert target.asked
    # What is known of the source stays, but for what may have been replaced since.
    assert source.told == [1]


async def test_who_forgets_meanwhile_puts_nobody_else_on_a_wrong_way(compute: Executor) -> None:
    source, target = await two(compute)
    steps = steps_of(source, target)
    for number in range(9):
        source.town.elect(another(number, 3))
        await source.town.close()
        remittance = await sent(source.town, target.town)
        source.meanwhile = target.meanwhile = None if number % 3 else steps.forget
        await delivered(steps, source, target, remittance)
        early = await sent(source.town, target.town)
        await delivered(steps, source, target, early)
    assert {*target.codes} == {""}


async def test_a_source_that_did_not_tell_the_last_change_is_asked_again(
    compute: Executor,
) -> None:
    """As one whose reads lag."""
    source, target = await two(compute)
    for number in range(3):
        source.town.elect(another(number, 3))
        await source.town.close()
    remittance = await sent(source.town, target.town)
    steps = steps_of(source, target)
    source.untold = 1
    receipt = await source.town.receipt(remittance.tx_id)
    starts = await steps.starts(source, target, [receipt.round])
    proof = await bare(source.town, remittance, starts[receipt.round])
    false = await target.town.delivery(source.town, remittance, proof=proof)
    assert await target.town.codes(false) == ["BAD_PROOF"]
    steps.forget()
    # What is listed, and not told when it is to be shown, is no way either.
    source.untold, source.untold_later = 0, 1
    with pytest.raises(CitychainError, match="does not tell all changes"):
        await delivered(steps, source, target, remittance)
    source.untold = 0
    await delivered(steps, source, target, remittance)


async def test_a_committee_that_signed_before_it_was_replaced_is_left_behind(
    compute: Executor,
) -> None:
    """It is known, its successor is of the same round, and who led the target here learns of it."""
    source, target = await two(compute)
    town, steps = source.town, steps_of(source, target)
    town.elect(another(1, 3))
    await town.close()
    stuck = town.remittance(ANNA, target.town, BEN, 1)
    await town.close(stuck, certify=False)
    [stored] = town.uncertified
    handovers = await town.proofs.handovers(0)
    proof = encode_certified(town.id, await town.step.approve(stored), handovers)
    signed = target.town.sign(ANNA, Anchor(town.id, stored.checkpoint, proof))
    assert await target.town.codes(signed) == [""]
    assert (await steps.starts(source, target, [stored.round]))[stored.round] == (
        town.terms(handovers)[1]
    )
    await town.recover(another(3, 3))
    await town.certify()
    await delivered(steps, source, target, await sent(town, target.town))
    await delivered(steps, source, target, stuck)
    assert target.codes == ["ANCHORED"]
