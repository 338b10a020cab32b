"""Proofs have one form: what is read is written again byte for byte, and nothing else is read."""

from __future__ import annotations

from dataclasses import replace

import proof_reader
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proven import Proven

from citychain.errors import VerificationError
from citychain.exchange import proof, terms
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.types import Certificate, Handover, Rejection, Vote

PROVEN = Proven()


def of_size(size: int) -> st.SearchStrategy[bytes]:
    """Bytes that say by one of them where they belong."""
    return st.integers(0, 255).map(lambda value: bytes((value,)) * size)


def lists(item: st.SearchStrategy, least: int = 0, most: int = 3) -> st.SearchStrategy[tuple]:
    return st.lists(item, min_size=least, max_size=most).map(tuple)


IDS = of_size(32)
BLOBS = st.binary(min_size=1, max_size=40)
U64 = st.integers(0, (1 << 64) - 1)
VOTES = lists(st.builds(Vote, IDS, of_size(4_627)), least=1, most=2)
CERTIFICATES = st.builds(Certificate, U64, IDS, VOTES)
KEYS = lists(of_size(2_592), least=1, most=2)
RECOVERIES = st.integers(4_627, 5_000).flatmap(of_size)
HANDOVERS = lists(
    st.builds(Handover, KEYS, BLOBS, CERTIFICATES) | st.builds(Handover, KEYS, recovery=RECOVERIES),
    most=2,
)
TEXTS = st.text(max_size=40)
RECEIPTS = st.builds(
    Receipt,
    genesis=IDS,
    tx_id=IDS,
    envelope=BLOBS,
    public_key=of_size(2_592),
    round=U64,
    seq=st.integers(0, (1 << 32) - 1),
    node_id=IDS,
    parents=lists(IDS, least=1, most=8),
    rejection=st.none(),
    pop=st.none() | IDS,
    leaf_index=U64,
    inclusion=lists(IDS),
    checkpoint=BLOBS,
    certificate=CERTIFICATES,
    handovers=HANDOVERS,
)
REJECTED = st.builds(
    lambda receipt, code, reason: replace(
        receipt, node_id=None, parents=(), pop=None, rejection=Rejection(code, reason)
    ),
    RECEIPTS,
    TEXTS,
    TEXTS,
)


@given(RECEIPTS | REJECTED, IDS)
def test_a_receipt_is_read_as_it_was_written(receipt: Receipt, start: bytes) -> None:
    written = proof.encode_receipt(receipt, start)
    assert proof.decode_receipt(written) == receipt
    assert proof.start_of(written) == start
    assert proof.handovers_of(written) == receipt.handovers
    assert proof.start_of(proof.encode_receipt(receipt)) == receipt.genesis


@given(IDS, CERTIFICATES, HANDOVERS)
def test_a_certificate_is_read_as_it_was_written(
    start: bytes, certificate: Certificate, handovers: tuple[Handover, ...]
) -> None:
    written = proof.encode_certified(start, certificate, handovers)
    assert proof.decode_certified(written) == (certificate, handovers)
    assert proof.start_of(written) == start
    assert proof.handovers_of(written) == handovers


@given(st.binary(max_size=34) | st.binary(min_size=36, max_size=60))
def test_what_is_no_proof_starts_nowhere(data: bytes) -> None:
    if data[:3] not in (b"\0\1\1", b"\0\1\2"):
        assert proof.start_of(data) is None
    assert proof.start_of(b"\0\1\3" + data) is None
    assert proof.start_of(b"\0\1\1" + data[:31]) is None
    assert proof.handovers_of(data) == ()


@given(RECEIPTS | REJECTED, IDS)
def test_another_reader_finds_the_same(receipt: Receipt, start: bytes) -> None:
    found, rest = proof_reader.RECEIPT(proof.encode_receipt(receipt, start))
    assert rest == b""
    assert found["start"] == start
    assert found["head"] == b"\0\1\1"
    for name in ("genesis", "tx_id", "envelope", "public_key", "round", "seq", "leaf_index"):
        assert found[name] == getattr(receipt, name)
    assert found["inclusion"] == list(receipt.inclusion)
    assert found["checkpoint"] == receipt.checkpoint
    if receipt.rejection is None:
        assert found["outcome"] == {
            "node_id": receipt.node_id,
            "parents": list(receipt.parents),
            "pop": {} if receipt.pop is None else receipt.pop,
        }
    else:
        assert found["outcome"] == {
            "code": receipt.rejection.code.encode(),
            "reason": receipt.rejection.reason.encode(),
        }
    assert certificate_of(found["certificate"]) == receipt.certificate
    assert tuple(map(handover_of, found["handovers"])) == receipt.handovers


def certificate_of(found: dict) -> Certificate:
    votes = tuple(Vote(vote["key_id"], vote["signature"]) for vote in found["votes"])
    return Certificate(found["round"], found["checkpoint_hash"], votes)


def handover_of(found: dict) -> Handover:
    keys = tuple(found["keys"])
    if "recovery" in found:
        return Handover(keys, recovery=found["recovery"])
    return Handover(keys, found["checkpoint"], certificate_of(found["certificate"]))


# --- other bytes

GOOD = [proof.encode_receipt(receipt) for receipt in PROVEN.receipts]
REJECTION = proof.encode_receipt(
    replace(
        PROVEN.receipts[0],
        node_id=None,
        parents=(),
        rejection=Rejection("CONFLICT", "première"),
    )
)
CERTIFIED = proof.encode_certified(
    bytes(32), PROVEN.receipts[-1].certificate, PROVEN.receipts[-1].handovers
)


def assert_has_one_form(data: bytes) -> None:
    """Either nothing is read, or what is read is written as these bytes."""
    start = proof.start_of(data) or b""
    for decode, encode in (
        (proof.decode_receipt, lambda read: proof.encode_receipt(read, start)),
        (proof.decode_certified, lambda read: proof.encode_certified(start, *read)),
    ):
        try:
            read = decode(data)
        except VerificationError:
            continue
        assert encode(read) == data


@given(st.sampled_from([*GOOD, REJECTION, CERTIFIED]), st.data())
def test_altered_bytes_have_one_form_or_none(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good)) | st.integers(0, min(len(good), 120)))
    removed = data.draw(st.integers(0, 9))
    put = data.draw(st.binary(max_size=9))
    assert_has_one_form(good[:at] + put + good[at + removed :])


@given(st.binary(max_size=200))
def test_any_bytes_have_one_form_or_none(data: bytes) -> None:
    for head in (b"", b"\0\1\1", b"\0\1\2"):
        assert_has_one_form(head + data)


@pytest.mark.parametrize("good", [GOOD[0], GOOD[2], REJECTION])
def test_every_shorter_receipt_and_every_longer_one_is_refused(good: bytes) -> None:
    for length in (*range(0, len(good), 41), len(good) - 1):
        with pytest.raises(VerificationError):
            proof.decode_receipt(good[:length])
    with pytest.raises(VerificationError, match="1 bytes too many"):
        proof.decode_receipt(good + b"\0")


@pytest.mark.parametrize("index", range(5))
def test_no_altered_byte_of_a_true_proof_verifies(index: int) -> None:
    good = GOOD[index]
    verifier = ReceiptVerifier(PROVEN.history.genesis)
    verifier.verify(proof.decode_receipt(good))
    for at in range(0, len(good), 1 + len(good) // 400):
        altered = bytearray(good)
        altered[at] ^= 1 << at % 8
        if 3 <= at < 35:
            assert proof.start_of(bytes(altered)) != PROVEN.history.genesis.id
            continue  # No ledger knows that.
        with pytest.raises(VerificationError):
            # What is known of committees may not make up for what a proof leaves out.
            ReceiptVerifier(PROVEN.history.genesis).verify(proof.decode_receipt(bytes(altered)))


@pytest.mark.parametrize(
    ("at", "put", "says"),
    [
        (0, b"\0\2", "layout version 0002 is unknown"),
        (2, b"\2", "of kind 2, not 1"),
        (99, b"\0\0\0\0", "0 bytes of a transaction"),
        (99, b"\xff\xff\xff\xff", "4294967295 bytes of a transaction"),
    ],
)
def test_what_is_wrong_is_said(at: int, put: bytes, says: str) -> None:
    bad = GOOD[0][:at] + put + GOOD[0][at + len(put) :]
    with pytest.raises(VerificationError, match=says):
        proof.decode_receipt(bad)


CERTIFICATE = PROVEN.receipts[0].certificate
KEY = (bytes(2_592),)


@pytest.mark.parametrize(
    "bad",
    [
        replace(PROVEN.receipts[0], envelope=None, public_key=None),
        replace(PROVEN.receipts[0], parents=()),
        replace(PROVEN.receipts[0], parents=(bytes(32),) * 9),
        replace(PROVEN.receipts[0], parents=(bytes(31),)),
        replace(PROVEN.receipts[0], node_id=None),
        replace(PROVEN.receipts[0], rejection=Rejection("CONFLICT", "")),
        replace(PROVEN.receipts[0], node_id=None, rejection=Rejection("CONFLICT", "")),
        replace(PROVEN.receipts[0], round=1 << 64),
        replace(PROVEN.receipts[0], public_key=bytes(2_591)),
        replace(PROVEN.receipts[0], inclusion=(bytes(32),) * 65),
        replace(PROVEN.receipts[0], checkpoint=bytes(131_073)),
        replace(PROVEN.receipts[0], certificate=replace(CERTIFICATE, round=-1)),
        replace(
            PROVEN.receipts[0],
            certificate=replace(CERTIFICATE, votes=(Vote(bytes(32), bytes(4_626)),)),
        ),
        replace(PROVEN.receipts[0], certificate=replace(CERTIFICATE, votes=())),
        replace(PROVEN.receipts[0], handovers=(Handover(KEY, b"x"),)),
        replace(PROVEN.receipts[0], handovers=(Handover(KEY, b"x", CERTIFICATE, bytes(4_627)),)),
        replace(PROVEN.receipts[0], handovers=(Handover(KEY, recovery=bytes(4_627)),) * 1_025),
        replace(PROVEN.receipts[0], handovers=(Handover(KEY, recovery=bytes(4_626)),)),
        replace(PROVEN.receipts[0], handovers=(Handover((), recovery=bytes(4_627)),)),
        replace(PROVEN.receipts[0], handovers=(Handover((), b"x", CERTIFICATE),)),
        replace(
            PROVEN.receipts[0],
            handovers=(Handover(KEY, b"x", replace(CERTIFICATE, votes=())),),
        ),
    ],
)
def test_what_has_no_place_in_the_layout_is_not_written(bad: Receipt) -> None:
    with pytest.raises(VerificationError):
        proof.encode_receipt(bad)


@given(HANDOVERS)
def test_what_is_reserved_for_a_proof_is_of_its_size(handovers: tuple[Handover, ...]) -> None:
    """Nobody takes more of a round's record than he sends."""
    sent = sum(map(proof.handover_bytes, handovers))
    assert terms.recorded_most(handovers) <= 1.1 * sent


@pytest.mark.parametrize(
    "handover", [b"\1\0\0\0\1x\0\0", b"\0\0\0\0\1x" + bytes(8 + 32) + b"\0\0" + b"\0\0"]
)
def test_handovers_that_cannot_hold_are_not_read(handover: bytes) -> None:
    good = proof.encode_certified(bytes(32), CERTIFICATE)
    many = good[:-2] + (1_024).to_bytes(2, "big") + 1_024 * handover
    with pytest.raises(VerificationError, match="are allowed"):
        proof.decode_certified(many)
    assert proof.handovers_of(many) == ()
