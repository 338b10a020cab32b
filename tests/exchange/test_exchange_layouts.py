"""What is kept and sent of exchanges is read as it was written, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.between_cities import (
    Decided,
    Outgoing,
    RemittanceState,
    decode_anchor,
    decode_inbox,
    decode_outbox,
)
from citychain.errors import VerificationError
from citychain.handler import PeerStatus, RemittanceStatus
from citychain.notes import AnchorNote, anchor_bytes, courier_bytes, decode_courier
from citychain.notes import decode_anchor as decode_anchor_note
from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc.messages import exchange
from citychain.types import Rejection

IDS = st.binary(min_size=32, max_size=32)
U63 = st.integers(0, (1 << 63) - 1)
ASSETS = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)
STATES = st.sampled_from(RemittanceState)
OUTGOING = st.builds(Outgoing, IDS, STATES, IDS, IDS, IDS, U63, ASSETS)
ANCHORS = st.builds(AnchorNote, IDS, U63, U63, IDS)


@given(OUTGOING)
def test_an_outbox_entry_is_read(item: Outgoing) -> None:
    value = b"".join(
        (
            bytes([item.state]),
            item.payer,
            item.city,
            item.to,
            item.amount.to_bytes(8, "big"),
            item.asset.encode(),
        )
    )
    assert decode_outbox(item.tx_id, value) == item


@given(st.booleans(), IDS)
def test_an_inbox_entry_is_read(accepted: bool, tx_id: bytes) -> None:
    assert decode_inbox((b"\1" if accepted else b"\2") + tx_id) == Decided(accepted, tx_id)


@given(st.integers(0, 1 << 62), st.lists(IDS, max_size=5), st.lists(IDS, max_size=5))
def test_a_couriers_note_is_read(round: int, cities: list[bytes], tx_ids: list[bytes]) -> None:
    note = courier_bytes(round, cities, tx_ids)
    assert decode_courier(note) == (round, cities, tx_ids)


@given(ANCHORS)
def test_an_anchors_note_is_read(note: AnchorNote) -> None:
    assert decode_anchor_note(anchor_bytes(note)) == note


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (lambda value: decode_outbox(bytes(32), value), b"\0" + bytes(104) + b"coin"),
        (lambda value: decode_outbox(bytes(32), value), b"\4" + bytes(104) + b"coin"),
        (lambda value: decode_outbox(bytes(32), value), b"\1" + bytes(90)),
        (decode_inbox, b"\0" + bytes(32)),
        (decode_inbox, b"\1" + bytes(33)),
        (decode_anchor, bytes(39)),
        (decode_anchor, bytes(41)),
        (decode_courier, bytes(8 + 2 + 31)),
        (decode_anchor_note, bytes(79)),
        (decode_anchor_note, bytes(81)),
    ],
)
def test_what_has_another_layout_is_refused(
    decode: Callable[[bytes], object], value: bytes
) -> None:
    with pytest.raises(VerificationError):
        decode(value)


@given(
    OUTGOING,
    st.none() | IDS,
    st.none() | st.builds(Rejection, st.just("OVERFLOW"), st.text(max_size=20)),
)
def test_a_remittances_status_crosses_the_wire(
    outgoing: Outgoing, settlement: bytes | None, refusal: Rejection | None
) -> None:
    status = RemittanceStatus(outgoing, settlement, refusal)
    sent = exchange.encode_remittance(status).SerializeToString()
    assert exchange.decode_remittance(pb.RemittanceStatus.FromString(sent)) == status


def test_the_rest_crosses_the_wire() -> None:
    decided = {bytes([1]) * 32: Decided(True, bytes([2]) * 32)}
    ids = [bytes(32), *decided]
    message = exchange.encode_deliveries([Decided(False, b""), *decided.values()])
    assert exchange.decode_deliveries(message, ids) == decided
    with pytest.raises(VerificationError, match="2 for 1"):
        exchange.decode_deliveries(message, ids[:1])
    peer = PeerStatus("lake", bytes(32), True, ("10.0.0.1:1",), 3, "down")
    assert exchange.decode_peers(exchange.encode_peers([peer])) == [peer]
    anchor = exchange.AnchorStatus(bytes([3]) * 32, "isle", (), bytes(32), 5, 9)
    assert exchange.decode_anchor(exchange.encode_anchor(anchor)) == anchor
    assert exchange.decode_anchor(exchange.encode_anchor(None)) is None


def test_an_unknown_state_is_refused() -> None:
    message = pb.RemittanceStatus(tx_id=bytes(32), payer=bytes(32), city=bytes(32), to=bytes(32))
    with pytest.raises(VerificationError, match="state"):
        exchange.decode_remittance(message)
