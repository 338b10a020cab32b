"""What is remembered of proofs is bounded, whatever others send, and changes no verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, permutations

import pytest
from history import History, Members
from hypothesis import given
from hypothesis import strategies as st

from citychain.errors import InvalidReceipt
from citychain.exchange import verified
from citychain.exchange.proof import encode_certified
from citychain.exchange.remembered import Remembered
from citychain.types import Certificate, Handover

FIRST: Members = {1: 1, 2: 1, 3: 1, 4: 1}
SECOND: Members = {5: 1, 6: 1, 7: 1}


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    verified.forget()
    yield
    verified.forget()


class Elected:
    """One city whose second committee certifies a round."""

    def __init__(self) -> None:
        self.history = History(FIRST)
        election = self.history.seal(FIRST, SECOND)
        self.handover = self.history.election(election, [1, 2, 3, 4], SECOND)
        self.sealed = self.history.seal(SECOND)
        self.certificate = self.history.certify(self.sealed, [5, 6, 7])

    def verify(self, handovers: Sequence[Handover]) -> None:
        genesis = self.history.genesis
        proof = encode_certified(genesis.id, self.certificate, handovers)
        verified.verify_checkpoint(genesis, self.sealed.checkpoint, proof, None)

    def by(self, votes: Sequence[object]) -> Handover:
        assert self.handover.certificate is not None
        certificate = replace_votes(self.handover.certificate, votes)
        return replace(self.handover, certificate=certificate)


def replace_votes(certificate: Certificate, votes: Sequence[object]) -> Certificate:
    return replace(certificate, votes=tuple(votes))  # type: ignore[arg-type]


def test_votes_in_another_order_make_nothing_more_to_remember() -> None:
    elected = Elected()
    assert elected.handover.certificate is not None
    votes = elected.handover.certificate.votes
    for order in islice(permutations(votes), 12):
        elected.verify([elected.by(order)])
    elected.verify([elected.by(votes[:3])])
    assert len(verified._VERIFIERS) == 1


def test_what_is_remembered_makes_nothing_hold() -> None:
    elected = Elected()
    elected.verify([elected.handover])
    assert elected.handover.certificate is not None
    first, *rest = elected.handover.certificate.votes
    untrue = first._replace(signature=bytes(4_627))
    for handovers in (
        [],
        [elected.by([untrue, *rest])],
        [elected.by(rest[:2])],
        [elected.handover, elected.handover],
        [replace(elected.handover, public_keys=elected.handover.public_keys[:2])],
    ):
        for _ in range(2):
            with pytest.raises(InvalidReceipt) as caught:
                elected.verify(handovers)
            assert caught.value.check == "handover"
    assert len(verified._VERIFIERS) == 1
    elected.verify([elected.handover])


def test_committees_are_remembered_by_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    few: Remembered[tuple[bytes, bytes, tuple[bytes, ...]], verified._SharedVerifier]
    few = Remembered(14, least=3)
    monkeypatch.setattr(verified, "_VERIFIERS", few)
    for _ in range(4):
        elected = Elected()
        elected.verify([elected.handover])
        assert len(few) == 1
    # All histories here are of one city.
    for city in ("lake", "hill", "isle"):
        history = History(FIRST, city=city)
        sealed = history.seal(FIRST)
        proof = encode_certified(history.genesis.id, history.certify(sealed, [1, 2, 3]))
        verified.verify_checkpoint(history.genesis, sealed.checkpoint, proof, None)
    assert len(few) == 3


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12))))
def test_what_is_remembered_is_within_its_bound(puts: list[tuple[int, int]]) -> None:
    remembered: Remembered[int, int] = Remembered(10, least=2)
    kept: list[tuple[int, int]] = []
    for key, weight in puts:
        remembered.put(key, weight, weight)
        kept = [item for item in kept if item[0] != key]
        if weight <= 10:
            kept.append((key, weight))
        while sum(max(item[1], 2) for item in kept) > 10:
            kept.pop(0)
        assert {number: remembered.get(number) for number in range(10)} == (
            dict.fromkeys(range(10)) | dict(kept)
        )
    assert len(remembered) == len(kept)
    remembered.clear()
    assert len(remembered) == 0
