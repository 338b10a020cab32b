from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain._native.transactions import Limits, Refusal, check_batch, decode_batch
from citychain.client import Transfer, sign_batch, sign_transaction, transaction_body
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.errors import InvalidRequest
from citychain.rpc._generated.citychain.v1 import transaction_pb2 as pb

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
transfers = st.builds(
    Transfer,
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32),
    ids,
    st.integers(1, (1 << 64) - 1),
)


def checked(envelope: bytes) -> Any:
    [result] = check_batch([envelope], GENESIS, KeyCache(), Limits(), 1)
    return result


@settings(deadline=None)
@given(
    action=st.one_of(
        st.fixed_dictionaries(
            {
                "data": st.binary(max_size=200),
                "content_type": st.text(st.characters(codec="ascii"), max_size=64),
            }
        ),
        st.fixed_dictionaries({"transfer": transfers}),
    ),
    depends_on=st.lists(ids, max_size=4, unique=True),
    reads=objects,
    writes=objects,
    valid_for=st.none() | st.timedeltas(timedelta(milliseconds=1), timedelta(days=9_999)),
)
def test_the_strict_parser_admits_what_is_built_and_reads_the_same(
    action: dict[str, Any],
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
        **action,
    )
    transaction = checked(signed.envelope)
    assert not isinstance(transaction, Refusal), (transaction.field, transaction.detail)
    assert transaction.tx_id == signed.tx_id
    assert transaction.author == SIGNER
    assert transaction.depends_on == tuple(depends_on)
    assert dict(transaction.reads) == reads
    assert dict(transaction.writes) == writes
    if "transfer" in action:
        assert transaction.transfer == action["transfer"]
    else:
        assert transaction.content == action["data"]
        assert transaction.content_type == action["content_type"]
    if valid_for is None:
        assert transaction.valid_until_ms is None
    else:
        lasts = transaction.valid_until_ms - transaction.created_at_ms
        assert lasts == valid_for // timedelta(milliseconds=1)


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
        ({"transfer": Transfer("coin", b"x", 1)}, "transfer.to"),
    ],
)
def test_what_no_city_accepts_is_not_built(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        transaction_body(SIGNER, **{"genesis": GENESIS, **arguments})
    assert caught.value.field == field


def test_a_repr_is_short() -> None:
    assert len(repr(sign_transaction(KEY, genesis=GENESIS, data=b"x" * 1_000))) < 250
