"""A city takes another's word only where a proof shows it, and for what the proof shows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exchange.towns import AUTHORS, OPERATOR, Town, id_of, peered, town_genesis
from proven import Proven

from citychain._native.transactions import Transaction
from citychain.city import sealing
from citychain.client.actions import Data, Transfer
from citychain.compute import Executor
from citychain.errors import InvalidReceipt, InvalidRound
from citychain.exchange import peers, proof
from citychain.exchange.judge import REJECTION_CODES, Judged, judge
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.types import Delivery, Peer, Rejection, Reward

ANNA, BEN, CARL = AUTHORS[:3]
NAMES = ("aomori", "beppu", "chiba")
KNOWN = [town_genesis(name) for name in NAMES]


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


@pytest.fixture
def towns(compute: Executor) -> list[Town]:
    """Three that know each other."""
    return [Town(name, compute, [known for known in KNOWN if known.city != name]) for name in NAMES]


async def sent(source: Town, target: Town, amount: int = 10) -> Transaction:
    """A remittance of Anna to Ben that is approved."""
    remittance = source.remittance(ANNA, target, BEN, amount)
    assert await source.codes(remittance) == [""]
    return remittance


async def test_a_remittance_is_delivered_and_settled(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    # Whoever brings a proof may bring it.
    delivery = await beppu.delivery(aomori, remittance, key=CARL)
    assert await beppu.codes(delivery) == [""]
    settlement = await aomori.settlement(beppu, remittance, delivery, key=CARL)
    assert await aomori.codes(settlement) == [""]
    assert await aomori.codes(await aomori.anchor(beppu, 1)) == [""]


async def test_a_refusal_is_delivered_and_settled(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    refusal = await beppu.delivery(aomori, remittance, refusal_code="NO_SUCH_PAYEE")
    assert await beppu.codes(refusal) == [""]
    settlement = await aomori.settlement(beppu, remittance, refusal)
    assert settlement.settlement is not None
    assert settlement.settlement.returned
    assert await aomori.codes(settlement) == [""]


async def test_a_city_that_is_not_pinned_is_unknown(compute: Executor, towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    stranger = Town("stranger", compute, KNOWN)
    remittance = await sent(stranger, beppu)
    delivery = await beppu.delivery(stranger, remittance)
    anchor = await beppu.anchor(stranger, 1)
    out = aomori.remittance(ANNA, stranger, BEN, 10)
    rejection = Rejection("UNKNOWN_CITY", f"no peer has the genesis {stranger.id.hex()}")
    assert await beppu.close(delivery, anchor) == [rejection] * 2
    assert await aomori.close(out) == [rejection]
    # Nor is a city a peer of its own.
    own = aomori.remittance(ANNA, aomori, BEN, 10)
    assert await aomori.codes(own) == ["UNKNOWN_CITY"]


# --- false deliveries


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"amount": 11}, "the proof has another amount"),
        ({"asset": "silver"}, "the proof has another asset"),
        ({"to": bytes(32)}, "the proof has another to"),
        ({"tx_id": bytes(32)}, "the proof has another tx_id"),
    ],
)
async def test_a_delivery_says_what_its_remittance_says(
    towns: list[Town], fields: dict[str, Any], reason: str
) -> None:
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    false = await beppu.delivery(aomori, remittance, **fields)
    refusal = await beppu.delivery(aomori, remittance, **fields, refusal_code="X")
    assert await beppu.close(false, refusal) == [Rejection("WRONG_PROOF", reason)] * 2


async def test_what_was_rejected_is_not_delivered(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = aomori.remittance(ANNA, beppu, BEN, 10)
    late = aomori.rounds.sign(ANNA, remittance.remittance, valid_until_ms=aomori.rounds.time_ms - 1)
    assert await aomori.codes(late) == ["EXPIRED"]
    delivery = await beppu.delivery(aomori, late)
    assert await beppu.close(delivery) == [Rejection("NOT_APPROVED", "it was rejected: EXPIRED")]


async def test_a_proof_is_of_one_city_and_for_one(towns: list[Town]) -> None:
    aomori, beppu, chiba = towns
    remittance = await sent(aomori, beppu)
    replayed = await chiba.delivery(aomori, remittance)
    assert await chiba.close(replayed) == [
        Rejection("WRONG_PROOF", f"the remittance is to the city {beppu.id.hex()}")
    ]
    # Passed off as another city's.
    elsewhere = await beppu.delivery(aomori, remittance, city=chiba.id)
    assert await beppu.close(elsewhere) == [
        Rejection("UNKNOWN_TERM", f"no proof has shown the committee {aomori.id.hex()}")
    ]
    claimed = bytearray(await aomori.proof(remittance.tx_id))
    claimed[3:35] = chiba.id
    elsewhere = await beppu.delivery(aomori, remittance, city=chiba.id, proof=bytes(claimed))
    assert await beppu.close(elsewhere) == [Rejection("BAD_PROOF", "it fails the check genesis")]
    # The signed bytes of a delivery in one city are none in another.
    delivery = await beppu.delivery(aomori, remittance)
    assert delivery.genesis != chiba.id


async def test_other_transactions_are_no_remittances(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    delivery = await beppu.delivery(aomori, remittance)
    assert await beppu.codes(delivery) == [""]
    back = await sent(beppu, aomori)
    wrong = await aomori.delivery(beppu, back, proof=await beppu.proof(delivery.tx_id))
    assert await aomori.close(wrong) == [Rejection("WRONG_PROOF", "the proof is of no remittance")]
    settled = await aomori.settlement(
        beppu, remittance, delivery, proof=await beppu.proof(back.tx_id)
    )
    assert await aomori.close(settled) == [Rejection("WRONG_PROOF", "the proof is of no delivery")]


async def test_only_the_operator_refuses(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    refusal = await beppu.delivery(aomori, remittance, key=BEN, refusal_code="SPITE")
    assert await beppu.close(refusal) == [Rejection("NOT_OPERATOR", "refusing is the operator's")]


async def test_a_proof_that_does_not_hold_names_the_check(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    good = await aomori.proof(remittance.tx_id)
    receipt = proof.decode_receipt(good)
    flips = {
        "form": 0,
        "genesis": 35,
        "tx_id": 67,
        "quorum": len(good) - 10,
        "inclusion": None,
    }
    found = {}
    for check, at in flips.items():
        bad = bytearray(good)
        if at is None:
            at = good.index(receipt.checkpoint) - 10
        bad[at] ^= 1
        delivery = await beppu.delivery(aomori, remittance, proof=bytes(bad))
        [rejection] = await beppu.close(delivery)
        assert rejection is not None
        assert rejection.code == "BAD_PROOF"
        found[check] = rejection.reason
    assert found == {check: f"it fails the check {check}" for check in flips}
    # And what does not hold spoils nothing that does.
    assert await beppu.codes(await beppu.delivery(aomori, remittance)) == [""]


# --- false settlements


async def test_a_rejected_delivery_moves_nothing_at_home(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    false = await beppu.delivery(aomori, remittance, amount=9)
    rejected = await beppu.delivery(aomori, remittance, key=BEN, refusal_code="SPITE")
    assert await beppu.codes(false, rejected) == ["WRONG_PROOF", "NOT_OPERATOR"]
    for delivery in (false, rejected):
        settlement = await aomori.settlement(beppu, remittance, delivery)
        [rejection] = await aomori.close(settlement)
        assert rejection is not None
        assert rejection.code == "NOT_APPROVED"


async def test_a_settlement_says_what_the_delivery_says(towns: list[Town]) -> None:
    aomori, beppu, _ = towns
    remittance, other = await sent(aomori, beppu), await sent(aomori, beppu, 20)
    delivery = await beppu.delivery(aomori, remittance)
    assert await beppu.codes(delivery) == [""]
    for fields, reason in (
        ({"returned": True}, "the proof has another returned"),
        ({"tx_id": other.tx_id}, "the proof has another tx_id"),
    ):
        settlement = await aomori.settlement(beppu, remittance, delivery, **fields)
        assert await aomori.close(settlement) == [Rejection("WRONG_PROOF", reason)]


async def test_a_delivery_of_one_citys_remittance_settles_no_others(towns: list[Town]) -> None:
    """Two cities have sent to the third; its answer to one says nothing to the other."""
    aomori, beppu, chiba = towns
    remittance = await sent(aomori, beppu)
    delivery = await beppu.delivery(aomori, remittance)
    assert await beppu.codes(delivery) == [""]
    settlement = await chiba.settlement(beppu, remittance, delivery)
    assert await chiba.close(settlement) == [
        Rejection("WRONG_PROOF", f"the delivery is from the city {aomori.id.hex()}")
    ]


# --- anchors


async def test_an_anchor_needs_the_childs_certificate(towns: list[Town]) -> None:
    aomori, beppu, chiba = towns
    remittance = await sent(aomori, beppu)
    await sent(aomori, beppu)
    await sent(chiba, beppu)
    good = await beppu.anchor(aomori, 1)
    assert good.anchor is not None
    assert await beppu.codes(good) == [""]
    other = await beppu.anchor(aomori, 2)
    assert other.anchor is not None
    receipt = await aomori.proof(remittance.tx_id)
    for fields, check in (
        ({"proof": other.anchor.proof}, "checkpoint"),
        ({"proof": receipt}, "form"),
        ({"checkpoint": flipped(good.anchor.checkpoint, -1)}, "checkpoint"),
        ({"proof": flipped(good.anchor.proof, -10)}, "quorum"),
    ):
        false = await beppu.anchor(aomori, 1, **fields)
        assert await beppu.close(false) == [
            Rejection("BAD_PROOF", f"it fails the check {check}")
        ], check


def flipped(data: bytes, at: int) -> bytes:
    bad = bytearray(data)
    bad[at] ^= 1
    return bytes(bad)


# --- peers


async def test_rewards_are_paid_by_the_operator_once(towns: list[Town]) -> None:
    aomori = towns[0]
    forged = aomori.sign(ANNA, Reward(3, "gold", id_of(ANNA), 5))
    not_hers = Rejection("NOT_OPERATOR", "rewards are the operator's to pay")
    assert await aomori.close(forged) == [not_hers]
    paid = aomori.sign(OPERATOR, Reward(3, "gold", id_of(ANNA), 5))
    more = aomori.sign(OPERATOR, Reward(3, "gold", id_of(ANNA), 6))
    assert await aomori.codes(aomori.sign(ANNA, Transfer("gold", id_of(OPERATOR), 9))) == [""]
    assert sorted(await aomori.codes(paid, more)) == ["", "REWARDED"]
    assert await aomori.codes(paid_again := aomori.sign(OPERATOR, more.reward)) == ["REWARDED"]
    assert paid_again.reward == more.reward
    await aomori.replay()


async def test_peers_are_cities_that_the_operator_names(
    towns: list[Town],
) -> None:
    aomori = towns[0]
    costly = town_genesis("costly", num_hashes=peers.PEER_HASHES_MAX + 1)
    for file, key, rejection in (
        (KNOWN[1].file, ANNA, Rejection("NOT_OPERATOR", "peers are the operator's to name")),
        (b"{}", OPERATOR, Rejection("BAD_GENESIS", "the file is no genesis")),
        (KNOWN[1].file + b"x", OPERATOR, Rejection("BAD_GENESIS", "the file is no genesis")),
        (KNOWN[0].file, OPERATOR, Rejection("BAD_GENESIS", "it is this city's own")),
        (
            costly.file,
            OPERATOR,
            Rejection("COSTLY_PEER", "262145 hashes a round; a peer has at most 262144"),
        ),
    ):
        assert await aomori.close(aomori.sign(key, Peer(file))) == [rejection]
    fine = town_genesis("fine", num_hashes=peers.PEER_HASHES_MAX)
    assert await aomori.codes(aomori.sign(OPERATOR, Peer(fine.file))) == [""]


async def test_a_long_genesis_is_put_together_of_its_pieces(compute: Executor) -> None:
    rich = {"gold": {f"{number:064x}": 1 for number in range(3_000)}}
    source = Town("rich", compute, [KNOWN[1]], balances={**rich, "rice": {}})
    assert len(source.genesis.file) > 10 * 16_384
    funded = source.genesis
    beppu = Town("beppu", compute, [funded])
    anchored = source.rounds.sign(ANNA, Data(b"x"))
    assert await source.codes(anchored) == [""]
    assert await beppu.codes(await beppu.anchor(source, 1)) == [""]


# --- who repeats a round


async def test_whoever_repeats_the_round_refuses_what_a_sequencer_let_in(
    compute: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    aomori, beppu = await peered(Town("aomori", compute), Town("beppu", compute))
    remittance = await sent(aomori, beppu)
    assert await beppu.codes(await beppu.delivery(aomori, remittance, amount=11)) == ["WRONG_PROOF"]
    await beppu.replay()
    false = await beppu.delivery(aomori, remittance, amount=1_000_000)

    async def blind(*_: object) -> Judged:
        return Judged({}, {})

    with monkeypatch.context() as patched:
        patched.setattr(sealing.exchange, "judge", blind)
        assert await beppu.codes(false) == [""]
    with pytest.raises(InvalidRound, match="WRONG_PROOF") as caught:
        await beppu.replay()
    assert (caught.value.round, caught.value.check) == (3, "verdict")


async def test_a_proof_is_judged_the_same_whatever_was_judged_before(towns: list[Town]) -> None:
    """In any order, alone or together, twice over."""
    aomori, beppu, _ = towns
    remittance = await sent(aomori, beppu)
    made = [
        await beppu.delivery(aomori, remittance),
        await beppu.delivery(aomori, remittance, amount=3),
        await beppu.delivery(aomori, remittance, proof=b"x"),
        beppu.remittance(ANNA, beppu, BEN, 1),
    ]

    async def judged(*order: int) -> dict[int, Rejection]:
        found = await judge(
            beppu.id,
            beppu.genesis.operator_id,
            {index: made[index] for index in order},
            beppu.rounds.storage,
            beppu.compute,
        )
        return found.refused

    together = await judged(0, 1, 2, 3)
    assert {index: rejection.code for index, rejection in together.items()} == {
        1: "WRONG_PROOF",
        2: "BAD_PROOF",
        3: "UNKNOWN_CITY",
    }
    assert await judged(3, 2, 1, 0) == together
    for index in range(4):
        assert (await judged(index)).get(index) == together.get(index)


async def test_a_round_without_other_cities_asks_for_nothing(towns: list[Town]) -> None:
    class Untouched:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    state: Any = Untouched()
    compute: Any = Untouched()
    assert await judge(towns[0].id, bytes(32), {}, state, compute) == ({}, {})


# --- proofs that bring handovers


async def test_a_proof_brings_every_handover_itself(compute: Executor) -> None:
    """What one proof has taught of the peer's committees makes up for nothing in another."""
    proven = Proven()
    beppu = Town("beppu", compute, [proven.history.genesis])

    async def verdict(receipt: Receipt) -> Rejection | None:
        told = Delivery(receipt.genesis, receipt.tx_id, "gold", bytes(32), 1, b"")
        told = told._replace(proof=proof.encode_receipt(receipt))
        [rejection] = await beppu.close(beppu.sign(ANNA, told))
        return rejection

    def expected(receipt: Receipt) -> Rejection:
        try:
            ReceiptVerifier(proven.history.genesis).verify(receipt)
        except InvalidReceipt as error:
            return Rejection("BAD_PROOF", f"it fails the check {error.check}")
        return Rejection("WRONG_PROOF", "the proof is of no remittance")

    told = set()
    for _ in range(2):
        for receipt in proven.receipts:
            for first, last in ((0, 0), (0, 1), (0, 2), (1, 2)):
                altered = replace(receipt, handovers=proven.handovers[first:last])
                assert await verdict(altered) == expected(altered)
                told.add((receipt.round, expected(altered).code))
    assert {(round, "WRONG_PROOF") for round in range(1, 6)} <= told
    assert {(round, "BAD_PROOF") for round in range(1, 6)} <= told


def test_the_documentation_has_every_code() -> None:
    """Those that are given here come first, then those of settling."""
    page = Path(__file__).parents[2] / "docs" / "errors.md"
    _, _, section = page.read_text().partition("\n## Rejections between cities\n")
    section, _, _ = section.partition("\n## ")
    told = re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE)
    assert told[: len(REJECTION_CODES)] == list(REJECTION_CODES)
