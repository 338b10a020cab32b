"""What people can query of a transaction."""

from __future__ import annotations

import json
from typing import Any

import bson
import pytest

from citychain._native.transactions import decode_batch
from citychain.client.actions import Transfer
from citychain.client.transactions import sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.storage._mongodb_payload import payloads, payloads_of_envelopes

KEY = SigningKey(bytes(32))
GENESIS = bytes(range(32))


def payload(**body: Any) -> dict[str, Any]:
    envelope = sign_transaction(KEY, genesis=GENESIS, **body).envelope
    [encoded] = payloads(decode_batch([envelope]))
    assert [encoded] == payloads_of_envelopes([envelope])
    assert encoded is not None
    return bson.decode(encoded)


def test_json_becomes_a_document() -> None:
    content = {"kind": "permit", "size": [1, 2.5, None, True], "金": {"沢": "x"}}
    found = payload(
        data=json.dumps(content).encode(),
        content_type="application/json; charset=utf-8",
        depends_on=[bytes(32)],
        writes={"permits/1": 0},
    )
    assert found["content"] == content
    assert found["action"] == "data"
    assert found["depends_on"] == [bytes(32)]
    assert found["writes"] == [{"object": "permits/1", "version": 0}]


def test_a_transfer_says_what_to_whom() -> None:
    transfer = Transfer(asset="coin", to=b"t" * 32, amount=7)
    found = payload(transfer=transfer)
    assert found["transfer"] == {"asset": "coin", "to": b"t" * 32, "amount": 7}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"n": NaN}',
        b'{"n": 1%s}' % (b"0" * 30),
        b'{"$set": 1}',
        b'{"a.b": 1}',
        b'{"": 1}',
        b'{"a\\u0000b": 1}',
        b'{"s": "\\ud800"}',
        b"[" * 30 + b"]" * 30,
        b"[" * 20_000,
        b'"%s"' % (b"x" * 20_000),
        b"\xff",
        b"",
    ],
)
def test_what_bson_cannot_hold_stays_bytes(content: bytes) -> None:
    assert payload(data=content, content_type="application/json")["content"] == content


def test_other_content_stays_bytes() -> None:
    assert payload(data=b"{}", content_type="text/plain")["content"] == b"{}"


def test_what_cannot_be_opened_has_no_payload() -> None:
    envelope = sign_transaction(KEY, genesis=GENESIS, data=b"x").envelope
    first, second, third = payloads_of_envelopes([b"junk", envelope, None])
    assert (first, third) == (None, None)
    assert second is not None
