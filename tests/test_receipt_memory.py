"""What a verifier remembers is small, whoever votes, and makes nothing hold."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import combinations, islice, permutations

import pytest
from history import History, Members
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain.committee import CommitteeChain
from citychain.errors import InvalidReceipt
from citychain.receipt import ReceiptVerifier
from citychain.types import Certificate, Vote

SEATS: Members = dict.fromkeys(range(1, 10), 1)
HISTORY = History(SEATS)
FIRST = HISTORY.seal(SEATS)
SECOND = HISTORY.seal(SEATS)
BY_ALL = HISTORY.certify(FIRST, [*SEATS])
BY_SIX = replace(BY_ALL, votes=BY_ALL.votes[:6])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Certificate]:
    """Certificates whose votes were verified."""
    verified: list[Certificate] = []
    verify = CommitteeChain.verify_certificate

    def count(self: CommitteeChain, checkpoint: bytes, certificate: Certificate) -> object:
        verified.append(certificate)
        return verify(self, checkpoint, certificate)

    monkeypatch.setattr(CommitteeChain, "verify_certificate", count)
    return verified


def received(certificate: Certificate) -> Certificate:
    """Equal, and of other objects, as from the wire."""
    votes = tuple(Vote(*(bytes(bytearray(part)) for part in vote)) for vote in certificate.votes)
    return replace(certificate, votes=votes)


def refused(check: str, verifier: ReceiptVerifier, certificate: Certificate) -> None:
    with pytest.raises(InvalidReceipt) as caught:
        verifier.verify_checkpoint(FIRST.checkpoint, certificate)
    assert caught.value.check == check


def test_a_certificate_is_verified_once_in_whichever_order_its_votes_come(
    counted: list[Certificate],
) -> None:
    verifier = ReceiptVerifier(HISTORY.genesis)
    for votes in islice(permutations(BY_SIX.votes), 20):
        certificate = received(replace(BY_SIX, votes=votes))
        decoded = verifier.verify_checkpoint(FIRST.checkpoint, certificate)
        assert (decoded.round, decoded.genesis) == (1, HISTORY.genesis.id)
    assert len(counted) == 1
    verifier.verify_checkpoint(FIRST.checkpoint, BY_ALL)
    verifier.verify_checkpoint(SECOND.checkpoint, HISTORY.certify(SECOND, [*range(1, 7)]))
    assert len(counted) == 3


def test_what_is_remembered_is_small_and_bounded(
    monkeypatch: pytest.MonkeyPatch, counted: list[Certificate]
) -> None:
    monkeypatch.setattr("citychain.receipt.VERIFIED_MAX", 16)
    verifier = ReceiptVerifier(HISTORY.genesis)
    # A committee's keys are prepared for its second certificate.
    verifier.verify_checkpoint(FIRST.checkpoint, BY_SIX)
    verifier.verify_checkpoint(FIRST.checkpoint, BY_ALL)
    ways = [*islice(combinations(BY_ALL.votes, 7), 32)]
    tracemalloc.start()
    try:
        for votes in ways:
            verifier.verify_checkpoint(FIRST.checkpoint, received(replace(BY_ALL, votes=votes)))
            counted.clear()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The votes of sixteen take 518 kB. Python itself keeps some.
    assert kept < 64_000
    for votes, is_remembered in ((ways[-1], True), (ways[-16], True), (ways[-17], False)):
        counted.clear()
        verifier.verify_checkpoint(FIRST.checkpoint, replace(BY_ALL, votes=votes))
        assert (not counted) is is_remembered


def test_what_is_remembered_makes_nothing_like_it_hold() -> None:
    verifier = ReceiptVerifier(HISTORY.genesis)
    verifier.verify_checkpoint(FIRST.checkpoint, BY_SIX)
    one, two, *rest = BY_SIX.votes
    for votes in (
        (one, one, *rest),
        (one, two, *rest, one),
        (two, *rest),
        # The same bytes in the same order, cut elsewhere.
        (Vote(one.key_id + one.signature[:1], one.signature[1:]), two, *rest),
        (one._replace(signature=one.signature + two.key_id), Vote(b"", two.signature), *rest),
    ):
        refused("quorum", verifier, replace(BY_SIX, votes=votes))
    refused("checkpoint", verifier, replace(BY_SIX, round=2))
    refused("checkpoint", verifier, replace(BY_SIX, round=1 << 64))
    refused("checkpoint", verifier, replace(BY_SIX, checkpoint_hash=SECOND.hash))
    with pytest.raises(InvalidReceipt, match="another one"):
        verifier.verify_checkpoint(SECOND.checkpoint, BY_SIX)
    verifier.verify_checkpoint(FIRST.checkpoint, BY_SIX)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5), st.integers(0, 1), st.data())
def test_no_byte_of_a_remembered_certificate_can_be_altered(
    at: int, part: int, data: st.DataObject
) -> None:
    verifier = ReceiptVerifier(HISTORY.genesis)
    verifier.verify_checkpoint(FIRST.checkpoint, BY_SIX)
    votes = [[*vote] for vote in BY_SIX.votes]
    altered = bytearray(votes[at][part])
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    votes[at][part] = bytes(altered)
    refused("quorum", verifier, replace(BY_SIX, votes=tuple(Vote(*vote) for vote in votes)))
