"""A signed acknowledgement promises what it says, and nothing else verifies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.acknowledgement import (
    CONTEXT,
    FILE_BYTES_MAX,
    Acknowledgement,
    Promise,
    from_json,
    sign,
    to_json,
    verify,
)
from citychain.client import load_acknowledgement, save_acknowledgement
from citychain.crypto import signatures
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, InvalidAcknowledgement, VerificationError
from citychain.genesis import Genesis, Representative
from citychain.handler import Received
from citychain.rpc._generated.citychain.v1 import services_pb2
from citychain.rpc.messages import (
    decode_acknowledgement,
    decode_results,
    encode_acknowledgement,
    encode_results,
    encode_submission,
)
from citychain.types import State

OPERATOR, STRANGER = SigningKey(b"o" * 32), SigningKey(b"s" * 32)


def make_genesis(city: str = "tokyo", operator: SigningKey = OPERATOR) -> Genesis:
    # Its committee is somebody else: who votes does not sign acknowledgements.
    return Genesis(
        network="test",
        city=city,
        rule="sealed-rounds/1",
        consensus="solo/1",
        operator=operator.public_key.hex(),
        committee=(Representative(public_key=STRANGER.public_key.hex()),),
    )


GENESIS = make_genesis()
IDS = [hashlib.sha256(b"%d" % number).digest() for number in range(7)]
PROMISES = sign(OPERATOR, GENESIS.id, IDS, 1_000, 5_000)
PROMISE = PROMISES[4]
SIGNED = PROMISE.acknowledgement


def root_of(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_each_transaction_has_its_place_under_one_signature(tx_ids: list[bytes]) -> None:
    promises = sign(OPERATOR, GENESIS.id, tx_ids, 1, 2)
    assert [promise.tx_id for promise in promises] == tx_ids
    assert [promise.leaf_index for promise in promises] == list(range(len(tx_ids)))
    [signed] = {promise.acknowledgement for promise in promises}
    assert (signed.root, signed.size) == (root_of(tx_ids), len(tx_ids))
    verify(GENESIS, *promises)
    for promise in promises:
        verify(GENESIS, promise)


def test_the_layout_is_the_documented_one() -> None:
    message = (
        GENESIS.id
        + root_of(IDS)
        + (7).to_bytes(4, "big")
        + (1_000).to_bytes(8, "big")
        + (5_000).to_bytes(8, "big")
    )
    signatures.verify(
        OPERATOR.public_key, message, b"citychain/acknowledgement/v1", SIGNED.signature
    )


def flipped(value: bytes) -> bytes:
    return bytes((value[0] ^ 1,)) + value[1:]


def signing(**changed: Any) -> Callable[[Promise], Promise]:
    return lambda promise: replace(
        promise, acknowledgement=replace(promise.acknowledgement, **changed)
    )


FORGED: dict[str, tuple[str, Callable[[Promise], Promise]]] = {
    "another city": ("genesis", signing(genesis=make_genesis("kyoto").id)),
    "another root": ("signature", signing(root=flipped(SIGNED.root))),
    "another size": ("signature", signing(size=SIGNED.size + 1)),
    "an earlier receipt": ("signature", signing(received_ms=999)),
    "an earlier deadline": ("signature", signing(final_by_ms=4_999)),
    "another signature": ("signature", signing(signature=flipped(SIGNED.signature))),
    "another transaction": ("inclusion", lambda p: replace(p, tx_id=IDS[3])),
    "another place": ("inclusion", lambda p: replace(p, leaf_index=3)),
    "another path": ("inclusion", lambda p: replace(p, path=(flipped(p.path[0]), *p.path[1:]))),
    "a shorter path": ("inclusion", lambda p: replace(p, path=p.path[1:])),
    "a longer path": ("inclusion", lambda p: replace(p, path=(*p.path, bytes(32)))),
    "a short genesis": ("form", signing(genesis=b"x")),
    "a short root": ("form", signing(root=b"x")),
    "a short signature": ("form", signing(signature=SIGNED.signature[1:])),
    "a short id": ("form", lambda p: replace(p, tx_id=b"x")),
    "a short hash": ("form", lambda p: replace(p, path=(b"x", *p.path[1:]))),
    "no transactions": ("form", signing(size=0)),
    "too many transactions": ("form", signing(size=1 << 32)),
    "a place outside": ("form", lambda p: replace(p, leaf_index=7)),
    "a place before": ("form", lambda p: replace(p, leaf_index=-1)),
    "a time before time": ("form", signing(received_ms=-1)),
    "a time after time": ("form", signing(final_by_ms=1 << 64)),
    "a deadline in the past": ("form", signing(final_by_ms=999)),
}


@pytest.mark.parametrize("name", FORGED)
def test_whatever_is_changed_does_not_verify(name: str) -> None:
    check, forge = FORGED[name]
    with pytest.raises(InvalidAcknowledgement) as raised:
        verify(GENESIS, forge(PROMISE))
    assert raised.value.check == check
    # Nor where a valid one was seen before.
    with pytest.raises(InvalidAcknowledgement):
        verify(GENESIS, PROMISE, forge(PROMISE))


def test_every_field_is_forged_above() -> None:
    forged = [forge(PROMISE) for _, forge in FORGED.values()]
    for field in fields(Promise):
        assert any(getattr(one, field.name) != getattr(PROMISE, field.name) for one in forged)
    for field in fields(Acknowledgement):
        assert any(
            getattr(one.acknowledgement, field.name) != getattr(SIGNED, field.name)
            for one in forged
        )


def test_only_the_operator_signs_and_only_for_this_purpose() -> None:
    [other] = sign(STRANGER, GENESIS.id, IDS[:1], 1_000, 5_000)
    message = hashlib.sha256().digest()  # Anything: the context is what differs.
    vote = OPERATOR.sign(message, b"citychain/vote/v1")
    with pytest.raises(InvalidAcknowledgement, match="signature: not the operator's"):
        verify(GENESIS, other)
    with pytest.raises(VerificationError):
        signatures.verify(OPERATOR.public_key, message, CONTEXT, vote)


# --- as a file


def test_a_file_keeps_a_promise(tmp_path: Path) -> None:
    path = tmp_path / "deed.json"
    save_acknowledgement(path, PROMISES[0])
    save_acknowledgement(path, PROMISE)
    assert load_acknowledgement(path) == PROMISE
    assert list(tmp_path.iterdir()) == [path]
    shown = json.loads(path.read_text())
    assert shown["tx_id"] == PROMISE.tx_id.hex()
    assert shown["final_by_ms"] == 5_000


def test_the_largest_promise_has_room_in_a_file() -> None:
    largest = replace(
        PROMISE,
        leaf_index=(1 << 32) - 2,
        path=(bytes(32),) * 32,
        acknowledgement=replace(SIGNED, size=(1 << 32) - 1, final_by_ms=(1 << 63) - 1),
    )
    assert len(to_json(largest)) < FILE_BYTES_MAX
    assert from_json(to_json(largest).encode()) == largest


WRONG: dict[str, tuple[str, Any]] = {
    "format": ("format", 2),
    "short id": ("tx_id", "ab"),
    "capital id": ("tx_id", "AB" * 32),
    "number as text": ("leaf_index", "4"),
    "negative number": ("leaf_index", -1),
    "true": ("leaf_index", True),
    "large time": ("final_by_ms", 1 << 63),
    "no transactions": ("size", 0),
    "long path": ("path", ["00" * 32] * 33),
    "path of numbers": ("path", [1]),
    "long signature": ("signature", "00" * 4_628),
    "unknown": ("note", "x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_none_says_which_field(name: str) -> None:
    field, value = WRONG[name]
    content = json.loads(to_json(PROMISE)) | {field: value}
    with pytest.raises(InvalidAcknowledgement, match=f"^form: {field}"):
        from_json(json.dumps(content).encode())


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "deed.json"
    for content in (b"", b"[]", b"\xff\xfe", b"[" * 20_000, b" " * (1 << 20)):
        path.write_bytes(content)
        with pytest.raises(InvalidAcknowledgement, match=r"^form: .*deed\.json: "):
            load_acknowledgement(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_acknowledgement(tmp_path / "nothing")


@given(st.data())
def test_a_damaged_file_is_told_or_says_the_same(data: st.DataObject) -> None:
    content = bytearray(to_json(PROMISE).encode())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        verify(GENESIS, read := from_json(bytes(content)))
    except InvalidAcknowledgement:
        return
    assert read == PROMISE  # White space, then.


# --- on the wire


def test_results_carry_their_promises_over_the_wire() -> None:
    results = [Received(p.tx_id, State.RECEIVED, p.leaf_index == 2, p) for p in PROMISES]
    response = services_pb2.SubmitBatchResponse()
    encode_results(response, results)
    encode_acknowledgement(response.acknowledgement, results)
    read = services_pb2.SubmitBatchResponse.FromString(response.SerializeToString())
    signed = decode_acknowledgement(read.acknowledgement, GENESIS.id)
    assert decode_results(read.results, signed) == results
    assert [result.promise for result in decode_results(read.results)] == [None] * 7  # type: ignore[union-attr]


def test_nothing_accepted_is_not_signed_for() -> None:
    response = services_pb2.SubmitBatchResponse()
    encode_acknowledgement(response.acknowledgement, [Received(IDS[0], State.RECEIVED, False)])
    assert not response.HasField("acknowledgement")


@pytest.mark.parametrize("field", ["root", "signature", "path", "long path"])
def test_what_the_wire_brings_has_its_lengths(field: str) -> None:
    results = [Received(PROMISE.tx_id, State.RECEIVED, False, PROMISE)]
    response = services_pb2.SubmitBatchResponse()
    encode_results(response, results)
    encode_acknowledgement(response.acknowledgement, results)
    if field == "path":
        response.results[0].path[0] = b"x"
    elif field == "long path":
        response.results[0].path.extend([bytes(32)] * 33)
    else:
        setattr(response.acknowledgement, field, b"x")
    with pytest.raises(VerificationError, match=field.split()[-1]):
        decode_results(
            response.results, decode_acknowledgement(response.acknowledgement, GENESIS.id)
        )


def test_a_request_asks_for_it() -> None:
    request = services_pb2.SubmitBatchRequest.FromString(
        encode_submission("tokyo", [b"a", b"b"], acknowledge=True)
    )
    assert (request.acknowledge, list(request.transactions)) == (True, [b"a", b"b"])
