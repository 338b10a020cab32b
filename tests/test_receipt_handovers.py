"""A receipt proves, with the genesis alone, also what later committees approved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proven import FIRST, SECOND, THIRD, Proven

from citychain.client.receipts import load_receipt, save_receipt, verify_receipt
from citychain.errors import InvalidReceipt
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.rpc.messages.receipts import encode_receipt, parse_receipt, wire_form
from citychain.types import Handover

PROVEN = Proven()
GENESIS = PROVEN.history.genesis


def refused(check: str, verifier: ReceiptVerifier, receipt: Receipt, match: str = ".") -> None:
    with pytest.raises(InvalidReceipt, match=match) as caught:
        verifier.verify(receipt)
    assert caught.value.check == check


def test_each_rounds_receipt_holds_with_the_genesis_alone() -> None:
    for receipt in PROVEN.receipts:
        verify_receipt(receipt, GENESIS)


def test_a_verifier_that_knows_a_committee_needs_no_handovers_to_it() -> None:
    verifier = ReceiptVerifier(GENESIS)
    known = []
    for receipt in PROVEN.receipts:
        before = verifier.known_round
        verifier.verify(receipt)
        known.append(verifier.known_round)
        # What is left out for who knows so much leads on from there.
        rest = receipt.handovers[{0: 0, 3: 1, 4: 2}[before] :]
        verifier.verify(replace(receipt, handovers=rest))
    assert known == [0, 0, 3, 4, 4]
    for receipt in PROVEN.receipts:
        verifier.verify(receipt)
        verifier.verify(replace(receipt, handovers=()))
    # Handovers that come are looked at, also where the round is known to be certified.
    bad = replace(PROVEN.handovers[0], public_keys=PROVEN.handovers[0].public_keys[::-1])
    for receipt in PROVEN.receipts[2:]:
        refused("handover", verifier, replace(receipt, handovers=(bad, *receipt.handovers[1:])))


def test_what_the_operator_replaced_is_told() -> None:
    verifier = ReceiptVerifier(GENESIS)
    verifier.verify(PROVEN.receipts[2])
    assert verifier.recovered_rounds(3) == verifier.recovered_rounds(9) == []
    verifier.verify(PROVEN.receipts[4])
    assert verifier.recovered_rounds(3) == []
    assert verifier.recovered_rounds(5) == [4]


WRONG: dict[str, tuple[int, Callable[[], tuple[Handover, ...]]]] = {
    # Index of the receipt, and the handovers that it comes with instead.
    "none": (2, lambda: ()),
    "none for a recovered round": (3, lambda: ()),
    "one that is missing": (3, lambda: PROVEN.handovers[1:]),
    "the last is missing": (3, lambda: PROVEN.handovers[:1]),
    "one too many": (2, lambda: PROVEN.handovers),
    "one that is not needed yet": (0, lambda: PROVEN.handovers[:1]),
    "one twice": (2, lambda: PROVEN.handovers[:1] * 2),
    "in disorder": (4, lambda: PROVEN.handovers[::-1]),
    "another recovery too": (
        4, lambda: (*PROVEN.handovers, PROVEN.history.recovery(6, SECOND))),
    "a replaced committee's": (4, lambda: (PROVEN.handovers[0],
        PROVEN.history.election(PROVEN.seal(SECOND, THIRD, round=4), [3, 4], THIRD))),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_other_handovers_than_those_that_lead_to_the_round_are_refused(wrong: str) -> None:
    index, handovers = WRONG[wrong]
    receipt = replace(PROVEN.receipts[index], handovers=handovers())
    verifier = ReceiptVerifier(GENESIS)
    # Where the handovers hold in themselves, the votes or the round before are others'.
    check = {"the last is missing": "quorum", "a replaced committee's": "checkpoint"}
    for _ in range(2):
        refused(check.get(wrong, "handover"), verifier, receipt)
        assert verifier.known_round == 0
    for right in PROVEN.receipts:
        verifier.verify(right)


def test_a_committee_signs_nothing_after_its_term() -> None:
    verifier = ReceiptVerifier(GENESIS)
    verifier.verify(PROVEN.receipts[-1])
    fork = PROVEN.seal(FIRST, round=3)
    refused("handover", verifier, PROVEN.receipt(fork, [1, 2, 3], ()), "not in office")
    fork = PROVEN.seal(SECOND, round=5)
    refused("quorum", verifier, PROVEN.receipt(fork, [3, 4], ()), "without a seat")


def test_nothing_is_learnt_from_a_receipt_that_does_not_hold() -> None:
    verifier = ReceiptVerifier(GENESIS)
    refused("node", verifier, replace(PROVEN.receipts[4], pop=bytes(32)))
    assert verifier.known_round == 0
    # The operator's word alone replaces nobody: its committee must have signed the round.
    premature = PROVEN.history.recovery(3, THIRD)
    receipt = PROVEN.receipts[2]
    refused("quorum", verifier, replace(receipt, handovers=(PROVEN.handovers[0], premature)))
    verifier.verify(receipt)


def test_a_receipt_with_handovers_is_saved_and_loaded(tmp_path: Path) -> None:
    for receipt in PROVEN.receipts:
        path = tmp_path / f"{receipt.round}.json"
        save_receipt(path, receipt)
        assert load_receipt(path) == receipt
        verify_receipt(path, GENESIS)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_byte_of_a_receipt_with_handovers_can_be_altered(data: st.DataObject) -> None:
    receipt = PROVEN.receipts[data.draw(st.integers(2, 4))]
    whole = wire_form(encode_receipt(receipt))
    assert parse_receipt(whole) == receipt
    altered = bytearray(whole)
    altered[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidReceipt):
        ReceiptVerifier(GENESIS).verify(parse_receipt(bytes(altered)))
