"""The checks between a received envelope and the ledger, with a signer that is not ours too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_transactions import (
    AUTHOR,
    BODY,
    CONTEXT,
    GENESIS,
    KEY,
    NOW_MS,
    Envelope,
    admitted,
    as_body,
    by_id,
    by_value,
    check,
    refusal,
    sign,
)
from transaction_wire import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Body,
    Data,
    chunk,
    integer,
    mutated,
    sha256,
    stored_form,
    transaction,
    tx_id_of,
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
from citychain.rpc._generated.citychain.v1.transaction_pb2 import SignedTransaction

STRANGER = SigningKey(bytes(32))
REST = (KeyCache(), Limits(), NOW_MS)

# --- refusals, each with its field ------------------------------------------

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
