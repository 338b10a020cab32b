"""The strict parser and the checks, against an encoder, a parser and a signer that are not ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transaction_wire import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Body,
    Data,
    Transfer,
    bodies,
    chunk,
    integer,
    sha256,
    stored_form,
    transaction,
    tx_id_of,
    varint,
)

from citychain._native import transactions
from citychain._native.signatures import KeyCache, SigningKey
from citychain._native.transactions import (
    ENVELOPES_MAX,
    REFUSAL_CODES,
    Limits,
    Refusal,
    Transaction,
    check_batch,
    decode_batch,
)
from citychain.crypto.keys import key_id
from citychain.rpc._generated.citychain.v1.transaction_pb2 import (
    SCHEME_ML_DSA_87,
    ObjectRead,
    ObjectWrite,
    SignedTransaction,
    TransactionBody,
)

CONTEXT = b"citychain/tx/v1"
GENESIS = b"G" * 32
KEY = SigningKey(bytes(range(32)))
AUTHOR = key_id(KEY.public_key)
STRANGER = SigningKey(bytes(32))
BODY = Body(genesis=GENESIS, author=AUTHOR)
NOW_MS = 1_000
REST = (KeyCache(), Limits(), NOW_MS)


def sign(body: bytes, key: SigningKey = KEY) -> bytes:
    return key.sign(body, CONTEXT, deterministic=True)


@dataclass(frozen=True)
class Envelope:
    """The fields of a SignedTransaction, each as encoded."""

    body: bytes
    scheme: bytes
    signer: bytes
    signature: bytes

    @classmethod
    def of(cls, body: bytes) -> Envelope:
        return cls(chunk(1, body), integer(2, 1), chunk(3, KEY.public_key), chunk(5, sign(body)))

    def encode(self) -> bytes:
        return self.body + self.scheme + self.signer + self.signature


def by_value(body: bytes) -> bytes:
    return Envelope.of(body).encode()


def by_id(body: bytes) -> bytes:
    return stored_form(body, AUTHOR, sign(body))


def check(
    envelope: bytes,
    *,
    keys: KeyCache | None = None,
    limits: Limits | None = None,
    now_ms: int = NOW_MS,
) -> Transaction | Refusal:
    # An empty cache is false, so `keys or ...` would use another one.
    cache = KeyCache() if keys is None else keys
    [result] = check_batch([envelope], GENESIS, cache, limits or Limits(), now_ms)
    return result


def refusal(envelope: bytes, **kwargs: Any) -> tuple[str, str | None]:
    result = check(envelope, **kwargs)
    assert isinstance(result, Refusal), result
    assert result.code in REFUSAL_CODES
    return result.code, result.field


def admitted(envelope: bytes, **kwargs: Any) -> Transaction:
    result = check(envelope, **kwargs)
    assert isinstance(result, Transaction), result
    return result


def as_body(decoded: Transaction) -> Body:
    if decoded.action == "transfer":
        assert decoded.transfer is not None
        assert decoded.content_type is None
        assert decoded.content is None
        action: Data | Transfer = Transfer(*decoded.transfer)
    else:
        assert decoded.content_type is not None
        assert decoded.content is not None
        assert decoded.transfer is None
        action = Data(decoded.content_type, decoded.content)
    return Body(
        decoded.genesis,
        decoded.author,
        decoded.nonce,
        decoded.created_at_ms,
        decoded.valid_until_ms,
        decoded.depends_on,
        decoded.reads,
        decoded.writes,
        action,
    )


# --- reading ----------------------------------------------------------------


@given(bodies(), st.randoms(use_true_random=False))
def test_every_field_is_read_in_any_order(body: Body, random: Any) -> None:
    fields = body.fields()
    random.shuffle(fields)
    # Elements of a list keep their order among themselves.
    for number in (6, 7, 8):
        tag = varint(number << 3 | 2)
        places = [place for place, encoded in enumerate(fields) if encoded.startswith(tag)]
        originals = [encoded for encoded in body.fields() if encoded.startswith(tag)]
        for place, encoded in zip(places, originals, strict=True):
            fields[place] = encoded
    encoded = b"".join(fields)
    [decoded] = decode_batch([stored_form(encoded, body.author)])
    assert as_body(decoded) == body
    assert decoded.body == encoded
    assert decoded.tx_id == tx_id_of(encoded) == transactions.tx_id(encoded)


def protobuf_body(encoded: bytes) -> Body:
    """The body as protobuf's own parser reads it."""
    message = TransactionBody.FromString(encoded)
    action: Data | Transfer
    if message.WhichOneof("action") == "data":
        action = Data(message.data.content_type, message.data.content)
    else:
        action = Transfer(message.transfer.asset, message.transfer.to, message.transfer.amount)
    return Body(
        message.genesis,
        message.author,
        message.nonce,
        message.created_at_ms,
        message.valid_until_ms if message.HasField("valid_until_ms") else None,
        tuple(message.depends_on),
        tuple((read.object, read.version) for read in message.reads),
        tuple((write.object, write.expected_version) for write in message.writes),
        action,
    )


@given(bodies())
def test_what_protobuf_writes_is_read(body: Body) -> None:
    message = TransactionBody(
        genesis=body.genesis,
        author=body.author,
        nonce=body.nonce,
        created_at_ms=body.created_at_ms,
        valid_until_ms=body.valid_until_ms,
        depends_on=body.depends_on,
        reads=[ObjectRead(object=name, version=version) for name, version in body.reads],
        writes=[ObjectWrite(object=name, expected_version=at) for name, at in body.writes],
    )
    if isinstance(body.action, Data):
        message.data.SetInParent()
        message.data.content_type = body.action.content_type
        message.data.content = body.action.content
    else:
        message.transfer.asset = body.action.asset
        message.transfer.to = body.action.to
        message.transfer.amount = body.action.amount
    signed = SignedTransaction(
        body=message.SerializeToString(),
        scheme=SCHEME_ML_DSA_87,
        key_id=body.author,
        signature=bytes(SIGNATURE_BYTES),
    )
    [decoded] = decode_batch([signed.SerializeToString()])
    assert as_body(decoded) == body


# --- a second strict parser -------------------------------------------------


class Refused(Exception):
    pass


def demand(condition: bool) -> None:
    if not condition:
        raise Refused


def strict_fields(data: bytes, kinds: dict[int, type], many: Sequence[int]) -> dict[int, list[Any]]:
    """Fields by number, after the rules that hold for every message."""
    at = 0

    def take_varint() -> int:
        nonlocal at
        value = 0
        for count in range(10):
            demand(at < len(data))
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                demand(byte != 0 or count == 0)
                demand(value < 2**64)
                return value
        raise Refused

    fields: dict[int, list[Any]] = {number: [] for number in kinds}
    while at < len(data):
        tag = take_varint()
        number, wire_type = tag >> 3, tag & 7
        demand(number in kinds)
        demand(wire_type == (0 if kinds[number] is int else 2))
        demand(number in many or not fields[number])
        value = take_varint()
        if kinds[number] is int:
            fields[number].append(value)
            continue
        demand(at + value <= len(data))
        fields[number].append(data[at : at + value])
        at += value
    return fields


def one(values: list[Any], default: Any) -> Any:
    return values[0] if values else default


def strict_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused from None


def strict_objects(entries: list[bytes]) -> tuple[tuple[str, int], ...]:
    demand(len(entries) <= 16)
    named = {}
    for entry in entries:
        fields = strict_fields(entry, {1: bytes, 2: int}, ())
        name = one(fields[1], b"")
        demand(1 <= len(name) <= 128)
        text = strict_text(name)
        demand(not text.startswith("$") and text not in named)
        named[text] = one(fields[2], 0)
    return tuple(named.items())


def strict_body(data: bytes) -> Body:
    kinds: dict[int, type] = dict.fromkeys((1, 2, 3, 6, 7, 8, 16, 17), bytes)
    fields = strict_fields(data, kinds | {4: int, 5: int}, (6, 7, 8))
    for number, length in ((1, 32), (2, 32), (3, 8)):
        demand(len(one(fields[number], b"")) == length)
    created_at_ms, valid_until_ms = one(fields[4], 0), one(fields[5], None)
    demand(created_at_ms >= 1)
    demand(valid_until_ms is None or valid_until_ms > created_at_ms)
    demand(len(fields[6]) <= 4 and len(set(fields[6])) == len(fields[6]))
    demand(all(len(tx_id) == 32 for tx_id in fields[6]))
    demand(len(fields[16]) + len(fields[17]) == 1)
    action: Data | Transfer
    if fields[16]:
        inner = strict_fields(fields[16][0], {1: bytes, 2: bytes}, ())
        demand(len(one(inner[1], b"")) <= 64)
        action = Data(strict_text(one(inner[1], b"")), one(inner[2], b""))
    else:
        inner = strict_fields(fields[17][0], {1: bytes, 2: bytes, 3: int}, ())
        asset, to, amount = one(inner[1], b""), one(inner[2], b""), one(inner[3], 0)
        demand(re.fullmatch(rb"[a-z0-9-]{1,32}", asset) is not None)
        demand(len(to) == 32 and amount >= 1)
        action = Transfer(asset.decode(), to, amount)
    return Body(
        fields[1][0],
        fields[2][0],
        fields[3][0],
        created_at_ms,
        valid_until_ms,
        tuple(fields[6]),
        strict_objects(fields[7]),
        strict_objects(fields[8]),
        action,
    )


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a few edits of the kinds that parsers get wrong."""
    data = bytearray(draw(originals))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        edit = draw(st.sampled_from(["set", "flip", "insert", "delete", "repeat", "cut"]))
        if edit == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        elif edit == "cut":
            del data[at:]
        elif edit in ("delete", "repeat"):
            span = data[at : at + draw(st.integers(1, 40))]
            data[at : at + len(span)] = span + span if edit == "repeat" else b""
        elif at < len(data):
            mask = draw(st.integers(0, 255))
            data[at] = mask if edit == "set" else data[at] ^ (1 << (mask & 7))
    return bytes(data)


@st.composite
def rearranged(draw: st.DrawFn) -> bytes:
    """Whole fields left out, repeated, moved, or of another body."""
    pool = draw(bodies()).fields() + draw(bodies()).fields()
    kept = draw(st.lists(st.sampled_from(pool), min_size=4, max_size=12))
    whole = draw(bodies()).fields()
    return b"".join(draw(st.permutations(whole + kept[: draw(st.integers(0, 2))])))


@settings(max_examples=500)
@given(mutated(bodies().map(Body.encode)) | rearranged() | st.binary(max_size=300))
@example(Body().encode() + b"\x20\x81\x00")
def test_the_parser_accepts_what_a_second_one_accepts(encoded: bytes) -> None:
    """And both read the same out of it, as does protobuf's own."""
    try:
        expected = strict_body(encoded)
    except Refused:
        author = bytes(32)
        with pytest.raises(ValueError, match=r"^envelopes\[0\]: "):
            decode_batch([stored_form(encoded, author)])
        return
    [decoded] = decode_batch([stored_form(encoded, expected.author)])
    assert as_body(decoded) == expected == protobuf_body(encoded)


# --- refusals, each with its field ------------------------------------------


def edited(old: bytes, new: bytes) -> bytes:
    encoded = BODY.encode()
    assert encoded.count(old) == 1
    return encoded.replace(old, new)


def with_entry(number: int, entry: bytes) -> bytes:
    return BODY.encode() + chunk(number, entry)


DATA = BODY.action.field()
BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "unknown field": (BODY.encode() + integer(18, 1), "body"),
    "presence is not in use yet": (BODY.encode() + chunk(9, b""), "body"),
    "field number zero": (BODY.encode() + b"\0\0", "body"),
    "tag cut off": (BODY.encode() + b"\x82", "body"),
    "non-minimal tag": (BODY.encode() + b"\xa8\x00\x02", "body"),
    "value cut off": (BODY.encode() + b"\x28\x80", "body.valid_until_ms"),
    "repeated genesis": (BODY.encode() + chunk(1, GENESIS), "body.genesis"),
    "repeated created_at_ms": (BODY.encode() + integer(4, 1), "body.created_at_ms"),
    "short genesis": (edited(chunk(1, GENESIS), chunk(1, GENESIS[1:])), "body.genesis"),
    "no author": (edited(chunk(2, AUTHOR), b""), "body.author"),
    "long author": (edited(chunk(2, AUTHOR), chunk(2, AUTHOR + b"x")), "body.author"),
    "no nonce": (edited(chunk(3, bytes(8)), b""), "body.nonce"),
    "nonce of 9 bytes": (edited(chunk(3, bytes(8)), chunk(3, bytes(9))), "body.nonce"),
    "nonce as varint": (edited(chunk(3, bytes(8)), integer(3, 0)), "body.nonce"),
    "genesis as group": (edited(chunk(1, GENESIS), b"\x0b\x0c"), "body.genesis"),
    "created_at_ms as fixed64": (
        edited(integer(4, 1), varint(4 << 3 | 1) + bytes(8)),
        "body.created_at_ms",
    ),
    "no created_at_ms": (edited(integer(4, 1), b""), "body.created_at_ms"),
    "created_at_ms of 0": (edited(integer(4, 1), integer(4, 0)), "body.created_at_ms"),
    "non-minimal created_at_ms": (edited(integer(4, 1), b"\x20\x81\x00"), "body.created_at_ms"),
    "created_at_ms of 65 bits": (
        edited(integer(4, 1), b"\x20\x81" + b"\x80" * 8 + b"\x02"),
        "body.created_at_ms",
    ),
    "created_at_ms of 11 bytes": (
        edited(integer(4, 1), b"\x20\x81" + b"\x80" * 9 + b"\x01"),
        "body.created_at_ms",
    ),
    "valid_until_ms of 0": (BODY.encode() + integer(5, 0), "body.valid_until_ms"),
    "valid_until_ms not later": (BODY.encode() + integer(5, 1), "body.valid_until_ms"),
    "short dependency": (BODY.encode() + chunk(6, bytes(31)), "body.depends_on[0]"),
    "repeated dependency": (BODY.encode() + 2 * chunk(6, bytes(32)), "body.depends_on[1]"),
    "5 dependencies": (
        BODY.encode() + b"".join(chunk(6, bytes((i,)) * 32) for i in range(5)),
        "body.depends_on[4]",
    ),
    "read of nothing": (with_entry(7, integer(2, 1)), "body.reads[0].object"),
    "read of a reserved object": (with_entry(7, chunk(1, "$balance/x")), "body.reads[0].object"),
    "read of invalid UTF-8": (with_entry(7, chunk(1, b"\xff")), "body.reads[0].object"),
    "surrogate in UTF-8": (with_entry(7, chunk(1, b"\xed\xa0\x80")), "body.reads[0].object"),
    "overlong UTF-8": (with_entry(7, chunk(1, b"\xc0\x80")), "body.reads[0].object"),
    "repeated version": (
        with_entry(7, chunk(1, "a") + integer(2, 1) * 2),
        "body.reads[0].version",
    ),
    "unknown field in a read": (with_entry(7, chunk(1, "a") + integer(3, 1)), "body.reads[0]"),
    "object read twice": (
        BODY.encode() + chunk(7, chunk(1, "a")) + chunk(7, chunk(1, "a") + integer(2, 1)),
        "body.reads[1].object",
    ),
    "object written twice": (
        BODY.encode() + b"".join(chunk(8, chunk(1, name)) for name in "aba"),
        "body.writes[2].object",
    ),
    "expected_version as bytes": (
        with_entry(8, chunk(1, "a") + chunk(2, b"")),
        "body.writes[0].expected_version",
    ),
    "write of a reserved object": (with_entry(8, chunk(1, "$")), "body.writes[0].object"),
    "write cut off": (with_entry(8, chunk(1, "abc")[:-1]), "body.writes[0].object"),
    "no action": (edited(DATA, b""), "body.action"),
    "action twice": (BODY.encode() + DATA, "body.data"),
    "both actions": (BODY.encode() + Transfer("yen", AUTHOR, 1).field(), "body.transfer"),
    "content_type of invalid UTF-8": (
        edited(DATA, chunk(16, chunk(1, b"\x80"))),
        "body.data.content_type",
    ),
    "content twice": (edited(DATA, chunk(16, chunk(2, b"a") * 2)), "body.data.content"),
    "unknown field in data": (edited(DATA, chunk(16, integer(3, 0))), "body.data"),
    "empty asset": (edited(DATA, Transfer("", AUTHOR, 1).field()), "body.transfer.asset"),
    "asset in capitals": (edited(DATA, Transfer("YEN", AUTHOR, 1).field()), "body.transfer.asset"),
    "asset not ASCII": (edited(DATA, Transfer("円", AUTHOR, 1).field()), "body.transfer.asset"),
    "asset of 33": (edited(DATA, Transfer("y" * 33, AUTHOR, 1).field()), "body.transfer.asset"),
    "short payee": (edited(DATA, Transfer("y", AUTHOR[1:], 1).field()), "body.transfer.to"),
    "amount of 0": (edited(DATA, Transfer("y", AUTHOR, 0).field()), "body.transfer.amount"),
    "amount as bytes": (edited(DATA, chunk(17, chunk(3, b"\x01"))), "body.transfer.amount"),
    "empty body": (b"", "body.created_at_ms"),
}


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=list(BAD_BODIES))
def test_a_malformed_body_is_refused_by_its_field(body: bytes, field: str) -> None:
    assert refusal(by_value(body)) == ("MALFORMED", field)
    with pytest.raises(ValueError, match=re.escape(f"envelopes[1]: MALFORMED: {field} ")):
        decode_batch([by_id(BODY.encode()), stored_form(body, AUTHOR)])


GOOD = Envelope.of(BODY.encode())
BAD_ENVELOPES: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", "MALFORMED", "scheme"),
    "unknown field": (GOOD.encode() + integer(6, 1), "MALFORMED", None),
    "trailing byte": (GOOD.encode() + b"\0", "MALFORMED", None),
    "cut off": (GOOD.encode()[:-1], "MALFORMED", "signature"),
    "body twice": (GOOD.body + GOOD.encode(), "MALFORMED", "body"),
    "huge length": (b"\x0a" + b"\xff" * 9 + b"\x01", "MALFORMED", "body"),
    "no scheme": (replace(GOOD, scheme=b"").encode(), "MALFORMED", "scheme"),
    "scheme 0": (replace(GOOD, scheme=integer(2, 0)).encode(), "MALFORMED", "scheme"),
    "scheme 2": (replace(GOOD, scheme=integer(2, 2)).encode(), "SCHEME_NOT_ALLOWED", "scheme"),
    "scheme 257": (
        replace(GOOD, scheme=integer(2, 257)).encode(),
        "SCHEME_NOT_ALLOWED",
        "scheme",
    ),
    "no signer": (replace(GOOD, signer=b"").encode(), "MALFORMED", "signer"),
    "both signers": (GOOD.encode() + chunk(4, AUTHOR), "MALFORMED", "key_id"),
    "short public key": (
        replace(GOOD, signer=chunk(3, bytes(PUBLIC_KEY_BYTES - 1))).encode(),
        "MALFORMED",
        "public_key",
    ),
    "long key id": (replace(GOOD, signer=chunk(4, bytes(33))).encode(), "MALFORMED", "key_id"),
    "no signature": (replace(GOOD, signature=b"").encode(), "MALFORMED", "signature"),
    "long signature": (
        replace(GOOD, signature=chunk(5, bytes(SIGNATURE_BYTES + 1))).encode(),
        "MALFORMED",
        "signature",
    ),
    "zero signature": (
        replace(GOOD, signature=chunk(5, bytes(SIGNATURE_BYTES))).encode(),
        "BAD_SIGNATURE",
        "signature",
    ),
    "signature in another context": (
        replace(GOOD, signature=chunk(5, KEY.sign(BODY.encode(), b"citychain/vote/v1"))).encode(),
        "BAD_SIGNATURE",
        "signature",
    ),
    "signature of another body": (
        replace(GOOD, body=chunk(1, replace(BODY, nonce=b"another!").encode())).encode(),
        "BAD_SIGNATURE",
        "signature",
    ),
    "another city": (
        by_value(replace(BODY, genesis=bytes(32)).encode()),
        "WRONG_GENESIS",
        "body.genesis",
    ),
    "another's key": (
        replace(GOOD, signer=chunk(3, STRANGER.public_key)).encode(),
        "KEY_MISMATCH",
        "public_key",
    ),
    "another's key id": (
        replace(GOOD, signer=chunk(4, bytes(32))).encode(),
        "KEY_MISMATCH",
        "key_id",
    ),
    "unknown key id": (by_id(BODY.encode()), "UNKNOWN_KEY", "key_id"),
}


@pytest.mark.parametrize(
    ("envelope", "code", "field"), BAD_ENVELOPES.values(), ids=list(BAD_ENVELOPES)
)
def test_a_bad_envelope_is_refused_by_its_field(
    envelope: bytes, code: str, field: str | None
) -> None:
    assert refusal(envelope) == (code, field)


def test_each_refusal_code_is_explained() -> None:
    codes = {code for _, code, _ in BAD_ENVELOPES.values()} | {"TOO_LARGE", "EXPIRED"}
    assert set(REFUSAL_CODES) == codes
    assert all(meaning.endswith(".") for meaning in REFUSAL_CODES.values())


def test_a_refusal_tells_the_bound_and_nothing_of_the_content() -> None:
    result = check(by_value(with_entry(7, chunk(1, "$secret"))))
    assert isinstance(result, Refusal)
    assert "must not start with $" in result.detail
    assert "secret" not in repr(result)
    assert "body.reads[0].object" in repr(result)


# --- limits -----------------------------------------------------------------


def named(count: int) -> tuple[tuple[str, int], ...]:
    return tuple((str(number), 0) for number in range(count))


LIMITS: dict[str, tuple[Callable[[int], Body], int, str]] = {
    "reads_max": (lambda n: replace(BODY, reads=named(n)), 16, "body.reads"),
    "writes_max": (lambda n: replace(BODY, writes=named(n)), 16, "body.writes"),
    "object_id_bytes_max": (
        lambda n: replace(BODY, writes=(("é" + "x" * (n - 2), 0),)),
        128,
        "body.writes[0].object",
    ),
    "content_type_bytes_max": (
        lambda n: replace(BODY, action=Data("x" * n)),
        64,
        "body.data.content_type",
    ),
}


@pytest.mark.parametrize(("limit", "case"), LIMITS.items(), ids=list(LIMITS))
def test_a_limit_holds_up_to_its_bound(
    limit: str, case: tuple[Callable[[int], Body], int, str]
) -> None:
    make, default, field = case
    assert getattr(Limits(), limit) == default
    admitted(by_value(make(default).encode()))
    assert refusal(by_value(make(default + 1).encode())) == ("TOO_LARGE", field)
    lower = Limits(**{limit: default - 1})
    assert refusal(by_value(make(default).encode()), limits=lower) == ("TOO_LARGE", field)
    result = check(by_value(make(default + 1).encode()))
    assert isinstance(result, Refusal)
    assert f"at most {default} " in result.detail
    with pytest.raises(ValueError, match=f"^{limit} must be at most {default}$"):
        Limits(**{limit: default + 1})


def test_a_body_is_bounded_in_bytes() -> None:
    spare = 65_536 - len(replace(BODY, action=Data("", bytes(65_000))).encode())
    largest = replace(BODY, action=Data("", bytes(65_000 + spare))).encode()
    assert len(largest) == Limits().body_bytes_max == 65_536
    admitted(by_value(largest))
    larger = replace(BODY, action=Data("", bytes(65_001 + spare))).encode()
    assert refusal(by_value(larger)) == ("TOO_LARGE", "body")
    admitted(by_value(larger), limits=Limits(body_bytes_max=65_537))
    # What is longer than any envelope can be is not even opened.
    assert refusal(bytes(80_000)) == ("TOO_LARGE", None)
    with pytest.raises(ValueError, match=r"^body_bytes_max must be at most"):
        Limits(body_bytes_max=1 << 30)


@pytest.mark.parametrize("call", [decode_batch, lambda many: check_batch(many, GENESIS, *REST)])
def test_a_batch_is_bounded(call: Callable[[list[bytes]], Sequence[object]]) -> None:
    assert len(call([by_id(BODY.encode())] * ENVELOPES_MAX)) == ENVELOPES_MAX
    with pytest.raises(ValueError, match="has 4097 items, at most 4096"):
        call([b""] * (ENVELOPES_MAX + 1))


def test_a_genesis_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^genesis must have 32 bytes, not 31$"):
        check_batch([], bytes(31), *REST)


# --- time, keys, signatures -------------------------------------------------


def test_it_expires_after_the_time_until_which_it_is_valid() -> None:
    body = replace(BODY, valid_until_ms=500)
    admitted(by_value(body.encode()), now_ms=500)
    result = check(by_value(body.encode()), now_ms=501)
    assert isinstance(result, Refusal)
    assert (result.code, result.field) == ("EXPIRED", "body.valid_until_ms")


@pytest.mark.parametrize(
    ("envelope", "code"),
    [(e, code) for e, code, _ in BAD_ENVELOPES.values()],
    ids=list(BAD_ENVELOPES),
)
def test_a_refusal_names_the_transaction_if_it_could_be_read(envelope: bytes, code: str) -> None:
    result = check(envelope)
    assert isinstance(result, Refusal)
    if code in ("MALFORMED", "TOO_LARGE", "SCHEME_NOT_ALLOWED"):
        assert result.tx_id is None
    else:
        body = SignedTransaction.FromString(envelope).body
        assert result.tx_id == tx_id_of(body)


def test_a_key_is_known_by_its_id_once_a_signature_by_it_held() -> None:
    keys = KeyCache()
    encoded = BODY.encode()
    unknown = check(by_id(encoded), keys=keys)
    assert isinstance(unknown, Refusal)
    assert (unknown.code, unknown.key_id) == ("UNKNOWN_KEY", AUTHOR)
    forged = replace(GOOD, signature=chunk(5, sign(encoded, STRANGER))).encode()
    assert refusal(forged, keys=keys) == ("BAD_SIGNATURE", "signature")
    assert len(keys) == 0
    assert admitted(by_value(encoded), keys=keys).public_key == KEY.public_key
    assert len(keys) == 1
    assert admitted(by_id(encoded), keys=keys).public_key is None


def test_a_known_key_by_value_must_be_the_authors_still() -> None:
    keys = KeyCache()
    admitted(GOOD.encode(), keys=keys)
    admitted(GOOD.encode(), keys=keys)
    others = replace(GOOD, signer=chunk(3, STRANGER.public_key)).encode()
    assert refusal(others, keys=keys) == ("KEY_MISMATCH", "public_key")
    forged = replace(GOOD, signature=chunk(5, bytes(SIGNATURE_BYTES))).encode()
    assert refusal(forged, keys=keys) == ("BAD_SIGNATURE", "signature")


def test_a_signature_by_pyca_cryptography_holds() -> None:
    key = MLDSA87PrivateKey.from_seed_bytes(b"s" * 32)
    public_key = key.public_key().public_bytes_raw()
    author = sha256(b"citychain/key/v1\0\x01", public_key)
    assert transactions.key_id(public_key) == transactions.key_id(public_key, 1) == author
    assert transactions.key_id(public_key, 2) != author
    body = replace(BODY, author=author).encode()
    envelope = replace(
        GOOD,
        body=chunk(1, body),
        signer=chunk(3, public_key),
        signature=chunk(5, key.sign(body, CONTEXT)),
    )
    assert admitted(envelope.encode()).tx_id == tx_id_of(body)


def test_results_stand_in_the_order_of_the_batch() -> None:
    texts = [replace(BODY, nonce=number.to_bytes(8, "big")).encode() for number in range(40)]
    batch = [b"junk" if number % 5 == 3 else by_value(text) for number, text in enumerate(texts)]
    results = check_batch(batch, GENESIS, KeyCache(), Limits(), NOW_MS)
    for number, (text, result) in enumerate(zip(texts, results, strict=True)):
        if number % 5 == 3:
            assert isinstance(result, Refusal)
        else:
            assert isinstance(result, Transaction)
            assert result.body == text


# --- what is kept -----------------------------------------------------------


@given(st.permutations(range(4)), st.booleans())
def test_whatever_came_is_kept_in_one_form(order: list[int], value: bool) -> None:
    keys = KeyCache()
    keys.add_public_key(AUTHOR, KEY.public_key)
    signer = GOOD.signer if value else chunk(4, AUTHOR)
    fields = [GOOD.body, GOOD.scheme, signer, GOOD.signature]
    kept = admitted(b"".join(fields[at] for at in order), keys=keys)
    assert kept.envelope == by_id(BODY.encode())
    assert kept.size == len(kept.envelope)
    assert (kept.body, kept.signature, kept.scheme) == (BODY.encode(), sign(BODY.encode()), 1)
    assert kept.public_key == (KEY.public_key if value else None)
    [read_back] = decode_batch([kept.envelope])
    assert read_back == kept
    assert as_body(read_back) == as_body(kept) == BODY


@pytest.mark.parametrize("size", [0, 1, 30, 100, 127, 128, 16_000, 16_384, 65_000])
def test_the_stored_form_has_the_length_of_any_body(size: int) -> None:
    body = replace(BODY, action=Data("", bytes(size))).encode()
    assert admitted(by_value(body)).envelope == by_id(body)


def test_an_envelope_that_came_in_the_stored_form_is_not_copied() -> None:
    envelope = by_id(BODY.encode())
    keys = KeyCache()
    keys.add_public_key(AUTHOR, KEY.public_key)
    assert admitted(envelope, keys=keys).envelope is envelope
    assert decode_batch([envelope])[0].envelope is envelope


@pytest.mark.parametrize(
    "envelope",
    [
        GOOD.encode(),
        GOOD.scheme + GOOD.body + chunk(4, AUTHOR) + GOOD.signature,
        stored_form(BODY.encode(), bytes(32)),
    ],
    ids=["key by value", "other order", "another's key id"],
)
def test_only_the_stored_form_is_decoded(envelope: bytes) -> None:
    with pytest.raises(ValueError, match=r"envelopes\[0\]: .* form in which envelopes are stored"):
        decode_batch([envelope])


@settings(max_examples=300)
@given(mutated(st.just(GOOD.encode()) | st.just(by_id(BODY.encode()))))
def test_a_changed_envelope_is_refused_or_says_the_same(envelope: bytes) -> None:
    keys = KeyCache()
    keys.add_public_key(AUTHOR, KEY.public_key)
    result = check(envelope, keys=keys)
    if isinstance(result, Transaction):
        assert result.body == BODY.encode()
        assert result.envelope == by_id(BODY.encode())


@settings(max_examples=300)
@given(mutated(st.just(by_id(BODY.encode()))))
def test_what_is_decoded_was_in_the_stored_form_byte_for_byte(envelope: bytes) -> None:
    try:
        [decoded] = decode_batch([envelope])
    except ValueError:
        return
    assert envelope == stored_form(decoded.body, decoded.author, decoded.signature)


def test_transactions_are_equal_by_id() -> None:
    first, again = transaction(BODY), transaction(BODY)
    other = transaction(replace(BODY, nonce=b"another!"))
    assert first == again
    assert first is not again
    assert first != other
    assert first != first.tx_id
    assert len({first, again, other}) == 2
    # Another valid signature of the same body is the same transaction.
    [signed] = decode_batch([by_id(BODY.encode())])
    assert signed == first
    assert signed.signature != first.signature


def test_its_repr_is_short_and_shows_no_content() -> None:
    shown = repr(transaction(replace(BODY, action=Data("text/plain", b"secret" * 1000))))
    assert "secret" not in shown
    assert len(shown) < 100
    assert (
        transaction(replace(BODY, action=Data("text/plain", b"secret" * 1000))).tx_id.hex()[:16]
        in shown
    )


def test_only_the_native_code_makes_transactions() -> None:
    for native in (Transaction, Refusal):
        with pytest.raises(TypeError):
            native()
    with pytest.raises(AttributeError):
        transaction(BODY).tx_id = b""  # type: ignore[misc]


def test_limits_are_values() -> None:
    assert Limits() == Limits(reads_max=16)
    assert Limits() != Limits(reads_max=15)
    assert "reads_max: 15" in repr(Limits(reads_max=15))
