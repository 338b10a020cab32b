"""The wire and the model say the same, both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rpc.fakes import digest, make_event, make_listing, make_node, make_receipt, make_round

from citychain.city.listing import CityListing, CityState
from citychain.errors import InvalidReceipt, VerificationError
from citychain.handler import EventBatch, Received, TransactionEvent, TransactionStatus
from citychain.ports import StoredRound
from citychain.receipt import Receipt
from citychain.rpc import messages
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2, transaction_pb2
from citychain.rpc.messages import LinkedNode, Refused
from citychain.types import Certificate, Handover, NodeRef, Rejection, SealedNode, State, Vote

ids = st.binary(min_size=32, max_size=32)
small = st.binary(max_size=64)
uint64 = st.integers(0, (1 << 64) - 1)
uint32 = st.integers(0, (1 << 32) - 1)
text = st.text(st.characters(codec="utf-8"), max_size=20)
rejections = st.builds(Rejection, text, text)
refs = st.builds(NodeRef, uint64, uint32, ids)
parents = st.lists(refs, max_size=8).map(tuple)
envelopes = st.builds(
    lambda body, key_id, signature: transaction_pb2.SignedTransaction(
        body=body, scheme=1, key_id=key_id, signature=signature
    ).SerializeToString(),
    small,
    ids,
    small,
)
nodes = st.builds(
    SealedNode,
    tx_id=ids,
    author=ids,
    round=uint64,
    seq=uint32,
    node_id=ids,
    parents=parents,
    rejection=st.none(),
    pop=st.none() | ids,
)
rejected = st.builds(
    SealedNode,
    tx_id=ids,
    author=ids,
    round=uint64,
    seq=uint32,
    node_id=st.none(),
    parents=st.just(()),
    rejection=rejections,
)
votes = st.builds(Vote, ids, st.binary(min_size=4_627, max_size=4_627))
certificates = st.builds(Certificate, uint64, ids, st.lists(votes, max_size=3).map(tuple))
public_keys = st.lists(st.binary(min_size=2_592, max_size=2_592), max_size=2).map(tuple)
handovers = st.builds(
    Handover,
    public_keys=public_keys,
    checkpoint=st.binary(min_size=1, max_size=64),
    certificate=certificates,
) | st.builds(Handover, public_keys=public_keys, recovery=envelopes)
receipts = st.builds(
    Receipt,
    genesis=ids,
    tx_id=ids,
    envelope=st.none() | envelopes,
    public_key=st.none() | st.binary(min_size=2_592, max_size=2_592),
    round=uint64,
    seq=uint32,
    node_id=ids,
    parents=st.lists(ids, max_size=8).map(tuple),
    rejection=st.none(),
    pop=st.none() | ids,
    leaf_index=uint64,
    inclusion=st.lists(ids, max_size=64).map(tuple),
    checkpoint=small,
    certificate=certificates,
    handovers=st.lists(handovers, max_size=2).map(tuple),
) | st.builds(
    Receipt,
    genesis=ids,
    tx_id=ids,
    envelope=st.none(),
    public_key=st.none(),
    round=uint64,
    seq=uint32,
    node_id=st.none(),
    parents=st.just(()),
    rejection=rejections,
    pop=st.none(),
    leaf_index=uint64,
    inclusion=st.lists(ids, max_size=2).map(tuple),
    checkpoint=small,
    certificate=certificates,
)


def over_the_wire(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@settings(deadline=None)
@given(receipts)
def test_a_receipt_survives_the_wire(receipt: Receipt) -> None:
    message = over_the_wire(messages.encode_receipt(receipt))
    assert messages.decode_receipt(message) == receipt


@settings(deadline=None)
@given(certificates)
def test_a_certificate_survives_the_wire(certificate: Certificate) -> None:
    message = over_the_wire(messages.encode_certificate(certificate))
    assert messages.decode_certificate(message) == certificate


@settings(deadline=None)
@given(st.builds(LinkedNode, nodes, text, uint64, ids))
def test_a_node_survives_the_wire(linked: LinkedNode) -> None:
    assert messages.decode_node(over_the_wire(messages.encode_node(linked))) == linked


@settings(deadline=None)
@given(
    st.builds(
        StoredRound,
        round=uint64,
        time_ms=uint64,
        first_index=uint64,
        size=uint64,
        record=small,
        checkpoint=small,
        checkpoint_hash=ids,
        peaks=st.lists(ids, max_size=3).map(b"".join),
        certificate=st.none() | certificates,
    )
)
def test_a_round_survives_the_wire(stored: StoredRound) -> None:
    assert messages.decode_round(over_the_wire(messages.encode_round(stored))) == stored
    without = over_the_wire(messages.encode_round(stored, with_record=False))
    assert messages.decode_round(without) == replace(stored, record=b"")


@settings(deadline=None)
@given(st.sampled_from(State), st.none() | envelopes, st.none() | nodes | rejected, uint64, ids)
def test_a_transaction_survives_the_wire(
    state: State, envelope: bytes | None, node: SealedNode | None, time_ms: int, poh: bytes
) -> None:
    tx_id = node.tx_id if node else digest("tx")
    status = TransactionStatus(tx_id, state, envelope, node, time_ms, poh)
    message = over_the_wire(messages.encode_transaction(status, "rule/1"))
    assert messages.decode_transaction(message) == status
    if node is not None and node.node_id is not None:
        assert message.node.rule == "rule/1"


@settings(deadline=None)
@given(
    st.lists(
        st.builds(Received, ids, st.sampled_from(State), st.booleans())
        | st.builds(
            Refused,
            text,
            text,
            text,
            st.booleans(),
            st.integers(0, 10_000).map(lambda ms: timedelta(milliseconds=ms)),
            st.none() | ids,
        )
    )
)
def test_results_survive_the_wire(results: list[Received | Refused]) -> None:
    response = services_pb2.SubmitBatchResponse()
    messages.encode_results(response, results)
    assert messages.decode_results(over_the_wire(response).results) == results


@settings(deadline=None)
@given(st.sampled_from(CityState), text, st.dictionaries(text, text), st.none() | text)
def test_a_city_survives_the_wire(
    state: CityState, name: str, titles: dict[str, str], parent: str | None
) -> None:
    listing = CityListing(
        slug=name,
        titles=titles,
        aliases=(name, name),
        parent=parent or None,
        source=name,
        storage=name,
        dag=name,
        consensus=name,
        state=state,
    )
    assert messages.decode_city(over_the_wire(messages.encode_city(listing))) == listing


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3_000)), max_size=4))
def test_events_are_all_told_and_no_position_skips_one(rounds: list[tuple[int, int]]) -> None:
    events: list[TransactionEvent] = []
    number = 0
    for gap, count in rounds:
        number += gap
        events += [make_event(number, seq) for seq in range(count)]
    batch = EventBatch(events, number + 1)
    told: list[TransactionEvent] = []
    for message in messages.encode_events(batch):
        part = messages.decode_events(message)
        assert len(part.events) <= 1_000
        told += part.events
        untold = events[len(told) :]
        assert all(event.round > part.position for event in untold)
    assert told == events
    assert part.position == number + 1


@settings(deadline=None)
@given(text, st.lists(st.binary(max_size=300), max_size=20))
def test_a_submission_is_what_protobuf_would_write(city: str, items: list[bytes]) -> None:
    expected = services_pb2.SubmitBatchRequest(city=city, transactions=items)
    encoded = messages.encode_submission(city, items)
    assert services_pb2.SubmitBatchRequest.FromString(encoded) == expected
    assert encoded == expected.SerializeToString()
    assert services_pb2.SubmitStreamRequest.FromString(encoded).transactions == items


@pytest.mark.parametrize("length", [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_submission_counts_lengths_as_protobuf_does(length: int) -> None:
    expected = services_pb2.SubmitBatchRequest(city="c", transactions=[bytes(length)])
    assert messages.encode_submission("c", [bytes(length)]) == expected.SerializeToString()


# --- what others wrote


def test_the_receipts_form_is_strict() -> None:
    good = messages.encode_receipt(make_receipt(digest("tx")))

    def fails(message: str, **changes: Any) -> None:
        bad = ledger_pb2.Receipt()
        bad.CopyFrom(good)
        for name, value in changes.items():
            target = bad
            *path, last = name.split("__")
            for step in path:
                target = target[int(step)] if step.isdigit() else getattr(target, step)
            setattr(target, last, value)
        with pytest.raises(InvalidReceipt, match=message) as caught:
            messages.decode_receipt(bad)
        assert caught.value.check == "form"

    fails("genesis: 31 bytes, not 32", genesis=bytes(31))
    fails("tx_id: 0 bytes", tx_id=b"", node__tx_id=b"")
    fails("public_key: 1 bytes, not 2592", public_key=b"x")
    fails("node.node_id: 33 bytes", node__node_id=bytes(33))
    fails("node.tx_id: not the receipt's", node__tx_id=digest("other"))
    fails("node.round: not the receipt's", node__round=9)
    fails("node.seq: not the receipt's", node__seq=9)
    fails("node.pop: 1 bytes", node__pop=b"x")
    fails(r"node.parents\[0\].node_id: 1 bytes", node__parents__0__node_id=b"x")
    fails("checkpoint: 131073; at most 131072", checkpoint=bytes((128 << 10) + 1))
    fails("certificate.checkpoint_hash: 0 bytes", certificate__checkpoint_hash=b"")
    fails(r"certificate.votes\[0\].key_id: 2 bytes", certificate__votes__0__key_id=b"xx")
    fails(r"certificate.votes\[0\].signature: 5", certificate__votes__0__signature=b"short")


def _unknown_field(message: Any) -> None:
    message.MergeFromString(bytes((15 << 3, 1)))


@pytest.mark.parametrize(
    "add",
    [
        lambda receipt: setattr(receipt.node, "author", bytes(32)),
        lambda receipt: setattr(receipt.node, "rule", "r/1"),
        lambda receipt: setattr(receipt.node, "time_ms", 1),
        lambda receipt: setattr(receipt.node, "poh", bytes(32)),
        lambda receipt: setattr(receipt.node.parents[0], "round", 1),
        lambda receipt: setattr(receipt.node.parents[0], "seq", 1),
        _unknown_field,
        lambda receipt: _unknown_field(receipt.node),
        lambda receipt: _unknown_field(receipt.certificate.votes[0]),
    ],
)
def test_a_receipt_has_nothing_beside_what_it_says(add: Any) -> None:
    message = messages.encode_receipt(make_receipt(digest("tx")))
    add(message)
    for refuse in (
        lambda: messages.decode_receipt(over_the_wire(message)),
        lambda: messages.parse_receipt(message.SerializeToString()),
    ):
        with pytest.raises(InvalidReceipt, match="more than a receipt says") as caught:
            refuse()
        assert caught.value.check == "form"


@pytest.mark.parametrize(
    "other",
    [
        lambda data: data + b"\x40\x00",
        lambda data: data[34:68] + data[:34] + data[68:],
        lambda data: data[:1] + b"\xa0\x00" + data[2:],
        lambda data: data[:34] + data,
        lambda data: data[:-1],
    ],
    ids=["a default", "another order", "a longer varint", "a field twice", "cut"],
)
def test_a_receipt_is_written_in_one_way(other: Any) -> None:
    receipt = make_receipt(digest("tx"))
    data = messages.encode_receipt(receipt).SerializeToString()
    assert messages.parse_receipt(data) == receipt
    with pytest.raises(InvalidReceipt) as caught:
        messages.parse_receipt(other(data))
    assert caught.value.check == "form"


@pytest.mark.parametrize(
    ("field", "count", "message"),
    [
        ("inclusion", 65, "inclusion: 65; at most 64"),
        ("handovers", 1_025, "handovers: 1025; at most 1024"),
    ],
)
def test_a_receipts_lists_are_bounded(field: str, count: int, message: str) -> None:
    bad = messages.encode_receipt(make_receipt(digest("tx")))
    item = ledger_pb2.Handover() if field == "handovers" else bytes(32)
    del getattr(bad, field)[:]
    getattr(bad, field).extend([item] * count)
    with pytest.raises(InvalidReceipt, match=message):
        messages.decode_receipt(bad)


def _handovers(change: Callable[[ledger_pb2.Handover], None]) -> list[ledger_pb2.Handover]:
    """An election, and a second one that is changed."""
    election = Handover((bytes(2_592),), b"c", make_receipt(digest("tx")).certificate)
    first, second = messages.encode_handover(election), messages.encode_handover(election)
    change(second)
    return [first, second]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda one: one.ClearField("checkpoint"), "must be either"),
        (lambda one: one.ClearField("certificate"), "must be either"),
        (lambda one: setattr(one.recovery, "body", b"x"), "must be either"),
        (lambda one: one.Clear(), "must be either"),
        (
            lambda one: setattr(one, "checkpoint", bytes(131_073)),
            r"checkpoint: 131073; at most 131072",
        ),
        (lambda one: one.public_keys.append(b"x"), r"public_keys\[1\]: 1 bytes, not 2592"),
        (
            lambda one: one.public_keys.extend([bytes(2_592)] * 1_024),
            "public_keys: 1025; at most 1024",
        ),
        (
            lambda one: setattr(one.certificate, "checkpoint_hash", b""),
            r"certificate.checkpoint_hash: 0 bytes",
        ),
        (
            lambda one: setattr(one.certificate.votes[0], "signature", b""),
            r"certificate.votes\[0\].signature: 0 bytes",
        ),
    ],
)
def test_a_handovers_form_is_strict(change: Any, detail: str) -> None:
    with pytest.raises(VerificationError, match=rf"^handovers\[1\].*{detail}"):
        messages.decode_handovers(_handovers(change))


def test_a_recovery_is_bounded() -> None:
    recovery = ledger_pb2.Handover()
    recovery.recovery.body = bytes(64 << 10)
    with pytest.raises(VerificationError, match=r"handovers\[0\].recovery: 65540; at most 65536"):
        messages.decode_handovers([recovery])


def test_a_receipts_handover_has_nothing_beside_what_it_says() -> None:
    message = messages.encode_receipt(make_receipt(digest("tx")))
    message.handovers.extend(_handovers(_unknown_field))
    with pytest.raises(InvalidReceipt, match="more than a receipt says"):
        messages.decode_receipt(over_the_wire(message))


def test_a_receipts_hashes_and_parents_are_whole() -> None:
    bad = messages.encode_receipt(make_receipt(digest("tx")))
    bad.inclusion[1] = b"short"
    with pytest.raises(InvalidReceipt, match=r"inclusion\[1\]: 5 bytes"):
        messages.decode_receipt(bad)
    bad = messages.encode_receipt(make_receipt(digest("tx")))
    bad.node.parents.extend([bad.node.parents[0]] * 8)
    with pytest.raises(InvalidReceipt, match=r"node\.parents: 9; at most 8"):
        messages.decode_receipt(bad)
    bad = messages.encode_receipt(make_receipt(digest("tx")))
    bad.certificate.votes.extend([bad.certificate.votes[0]] * 1_024)
    with pytest.raises(InvalidReceipt, match=r"certificate\.votes: 1025; at most 1024"):
        messages.decode_receipt(bad)


def test_what_a_server_tells_is_checked_too() -> None:
    node = messages.encode_node(LinkedNode(make_node(1), "r/1", 1, digest("poh")))
    for field in ("tx_id", "author", "node_id", "poh"):
        bad = ledger_pb2.Node()
        bad.CopyFrom(node)
        setattr(bad, field, b"x")
        with pytest.raises(VerificationError, match=f"node.{field}: 1 bytes"):
            messages.decode_node(bad)
    bad_round = messages.encode_round(make_round(1))
    bad_round.peaks = bytes(33)
    with pytest.raises(VerificationError, match=r"round.peaks: 33 bytes"):
        messages.decode_round(bad_round)
    bad_round = messages.encode_round(make_round(1))
    bad_round.record = bytes(8 << 20)
    with pytest.raises(VerificationError, match=r"round.record"):
        messages.decode_round(bad_round)
    with pytest.raises(VerificationError, match="state: 9 is unknown"):
        messages.decode_transaction(ledger_pb2.Transaction(tx_id=digest(1), state=9))
    with pytest.raises(VerificationError, match=r"results\.tx_id: 1 bytes"):
        messages.decode_results([services_pb2.SubmitResult(tx_id=b"x", state=1)])
    event = services_pb2.TransactionEvent(tx_id=b"x", state=ledger_pb2.STATE_SEALED)
    with pytest.raises(VerificationError, match=r"events\.tx_id: 1 bytes"):
        messages.decode_events(services_pb2.WatchResponse(events=[event]))
    city = messages.encode_city(make_listing("kanazawa"))
    city.state = services_pb2.CITY_STATE_UNSPECIFIED
    with pytest.raises(VerificationError, match=r"city.state: 0 is unknown"):
        messages.decode_city(city)


def test_the_model_numbers_its_states_as_the_wire_does() -> None:
    assert {f"STATE_{state.name}": int(state) for state in State} | {
        "STATE_UNSPECIFIED": 0
    } == dict(ledger_pb2.State.items())
    assert {f"CITY_STATE_{state.name}": int(state) for state in CityState} | {
        "CITY_STATE_UNSPECIFIED": 0
    } == dict(services_pb2.CityState.items())
