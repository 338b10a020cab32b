from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain._native.transactions import Limits, Refusal, check_batch, decode_batch
from citychain.client import (
    Action,
    Candidacy,
    Data,
    Equivocation,
    Presence,
    Recovery,
    Transfer,
    Withdrawal,
    Witness,
    WitnessSignature,
    sign_batch,
    sign_transaction,
    transaction_body,
)
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.errors import InvalidRequest
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as pb
from citychain.types import Seat

KEY = SigningKey(bytes(32))
SIGNER = key_id(KEY.public_key)
GENESIS = bytes(range(32))

ids = st.binary(min_size=32, max_size=32)
versions = st.integers(0, (1 << 64) - 1)
names = st.text(min_size=1, max_size=20).filter(
    lambda name: not name.startswith("$") and len(name.encode("utf-8", "ignore")) > 0
)
objects = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
        lambda name: name[0] != "$"
    ),
    versions,
    max_size=16,
)
assets = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32)
transfers = st.builds(Transfer, assets, ids, st.integers(1, (1 << 64) - 1))
stakes = st.integers(1, (1 << 63) - 1)
# Of one byte each: drawing thousands of bytes is slow, and shows nothing more.
signatures, public_keys = (
    st.integers(0, 255).map(lambda byte, size=size: bytes((byte,)) * size) for size in (4627, 2592)
)


@st.composite
def presences(draw: st.DrawFn) -> Presence:
    first, last = sorted(draw(st.tuples(versions, versions)))
    witnesses = draw(st.dictionaries(ids, signatures, max_size=2))
    return Presence(
        draw(st.integers(-900_000_000, 900_000_000)),
        draw(st.integers(-1_800_000_000, 1_800_000_000)),
        draw(st.integers(0, (1 << 32) - 1)),
        first,
        last,
        draw(ids),
        tuple(WitnessSignature(*witness) for witness in witnesses.items()),
    )


committees = st.dictionaries(ids, stakes, min_size=1, max_size=3).map(
    lambda seats: tuple(Seat(*seat) for seat in seats.items())
)
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Data, st.binary(max_size=200), st.text(st.characters(codec="ascii"), max_size=64)),
    transfers,
    presences(),
    st.builds(Candidacy, assets, stakes),
    st.builds(Withdrawal, assets, stakes),
    st.builds(Witness, public_keys, st.booleans()),
    st.builds(Equivocation, public_keys, versions, ids, signatures, ids, signatures).filter(
        lambda votes: votes.first_hash != votes.second_hash
    ),
    st.builds(Recovery, st.integers(1, (1 << 64) - 1), ids, committees),
)


def read_action(transaction: Any) -> Any:
    """The action as the strict parser has read it, in the form of the client's."""
    match transaction.action:
        case "data":
            return Data(transaction.content, transaction.content_type)
        case "candidacy":
            return Candidacy(*transaction.stake)
        case "withdrawal":
            return Withdrawal(*transaction.stake)
    return getattr(transaction, transaction.action)


CLAIM = Presence(365_614_000, 1_366_562_000, 20, 5, 9, GENESIS)
VOTES = Equivocation(bytes(2592), 1, GENESIS, bytes(4627), SIGNER, bytes(4627))


def checked(envelope: bytes) -> Any:
    [result] = check_batch([envelope], GENESIS, KeyCache(), Limits(), 1)
    return result


@settings(deadline=None)
@given(
    action=actions,
    depends_on=st.lists(ids, max_size=4, unique=True),
    reads=objects,
    writes=objects,
    valid_for=st.none() | st.timedeltas(timedelta(milliseconds=1), timedelta(days=9_999)),
)
def test_the_strict_parser_admits_what_is_built_and_reads_the_same(
    action: Action,
    depends_on: list[bytes],
    reads: dict[str, int],
    writes: dict[str, int],
    valid_for: timedelta | None,
) -> None:
    signed = sign_transaction(
        KEY,
        genesis=GENESIS,
        depends_on=depends_on,
        reads=reads,
        writes=writes,
        valid_for=valid_for,
        with_public_key=True,
        action=action,
    )
    transaction = checked(signed.envelope)
    assert not isinstance(transaction, Refusal), (transaction.field, transaction.detail)
    assert transaction.tx_id == signed.tx_id
    assert transaction.author == SIGNER
    assert transaction.depends_on == tuple(depends_on)
    assert dict(transaction.reads) == reads
    assert dict(transaction.writes) == writes
    assert transaction.action == type(action).__name__.lower()
    assert read_action(transaction) == action
    if valid_for is None:
        assert transaction.valid_until_ms is None
    else:
        lasts = transaction.valid_until_ms - transaction.created_at_ms
        assert lasts == valid_for // timedelta(milliseconds=1)


def test_the_short_forms_say_the_same() -> None:
    def body(**action: Any) -> Any:
        [read] = decode_batch([sign_transaction(KEY, genesis=GENESIS, **action).envelope])
        return read_action(read)

    assert body(data=b"x") == body(action=Data(b"x")) == (b"x", "")
    assert body(data=b"", content_type="a/b") == body(action=Data(b"", "a/b")) == (b"", "a/b")
    transfer = Transfer("coin", SIGNER, 1)
    assert body(transfer=transfer) == body(action=transfer) == transfer


def test_an_envelope_by_key_id_is_the_stored_form() -> None:
    signed = sign_transaction(KEY, genesis=GENESIS, data=b"")
    [decoded] = decode_batch([signed.envelope])
    assert decoded.envelope == signed.envelope
    assert decoded.tx_id == signed.tx_id


def test_the_key_can_be_added_afterwards() -> None:
    signed = sign_transaction(KEY, genesis=GENESIS, data=b"x")
    assert checked(signed.envelope).code == "UNKNOWN_KEY"
    by_value = signed.with_public_key()
    assert checked(by_value).tx_id == signed.tx_id
    with_key = pb.SignedTransaction.FromString(by_value)
    assert with_key.public_key == KEY.public_key
    assert with_key.body == pb.SignedTransaction.FromString(signed.envelope).body


async def test_a_batch_is_signed_like_single_ones() -> None:
    bodies = [transaction_body(SIGNER, genesis=GENESIS, data=b"%d" % n) for n in range(20)]
    signed = await sign_batch(KEY, bodies, with_public_key=True)
    for body, transaction in zip(bodies, signed, strict=True):
        assert transaction.tx_id == hashlib.sha256(b"citychain/tx/v1\0" + body).digest()
        assert checked(transaction.envelope).tx_id == transaction.tx_id


def test_two_transactions_alike_are_not_the_same() -> None:
    first, second = (sign_transaction(KEY, genesis=GENESIS, data=b"x") for _ in range(2))
    assert first.tx_id != second.tx_id


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "action"),
        ({"data": b"", "transfer": Transfer("coin", GENESIS, 1)}, "action"),
        ({"data": b"", "genesis": b"x"}, "genesis"),
        ({"data": b"", "nonce": b"x"}, "nonce"),
        ({"data": b"", "depends_on": [GENESIS, b"x"]}, "depends_on[1]"),
        ({"data": b"", "action": Data(b"")}, "action"),
        ({"transfer": Transfer("coin", b"x", 1)}, "transfer.to"),
        ({"action": Transfer("coin", GENESIS, 1 << 64)}, "transfer.amount"),
        ({"action": Candidacy("coin", 0)}, "candidacy.stake"),
        ({"action": Withdrawal("coin", 1 << 63)}, "withdrawal.stake"),
        ({"action": Witness(bytes(2591))}, "witness.public_key"),
        ({"action": CLAIM._replace(latitude_e7=900_000_001)}, "presence.latitude_e7"),
        ({"action": CLAIM._replace(longitude_e7=-1_800_000_001)}, "presence.longitude_e7"),
        ({"action": CLAIM._replace(accuracy_m=-1)}, "presence.accuracy_m"),
        ({"action": CLAIM._replace(first_round=-1)}, "presence.first_round"),
        ({"action": CLAIM._replace(last_round=4)}, "presence.last_round"),
        ({"action": CLAIM._replace(anchor=b"")}, "presence.anchor"),
        (
            {"action": CLAIM._replace(witnesses=(WitnessSignature(b"", bytes(4627)),))},
            "presence.witnesses[0].key_id",
        ),
        (
            {"action": CLAIM._replace(witnesses=(WitnessSignature(GENESIS, b""),))},
            "presence.witnesses[0].signature",
        ),
        ({"action": VOTES._replace(first_signature=b"")}, "equivocation.first_signature"),
        ({"action": VOTES._replace(second_hash=GENESIS)}, "equivocation.second_hash"),
        ({"action": Recovery(0, GENESIS, (Seat(SIGNER, 1),))}, "recovery.from_round"),
        ({"action": Recovery(1, b"", (Seat(SIGNER, 1),))}, "recovery.previous"),
        ({"action": Recovery(1, GENESIS, ())}, "recovery.seats"),
        ({"action": Recovery(1, GENESIS, (Seat(SIGNER, 0),))}, "recovery.seats[0].stake"),
    ],
)
def test_what_no_city_accepts_is_not_built(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        transaction_body(SIGNER, **{"genesis": GENESIS, **arguments})
    assert caught.value.field == field


def test_a_repr_is_short() -> None:
    assert len(repr(sign_transaction(KEY, genesis=GENESIS, data=b"x" * 1_000))) < 250
