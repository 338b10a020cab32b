"""ML-DSA-87 signatures: agreement with pyca/cryptography, and what does not verify."""

from typing import NamedTuple

import pytest
from cryptography.exceptions import InvalidSignature as PycaInvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey, MLDSA87PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain.crypto.signatures import (
    CONTEXT_BYTES_MAX,
    PUBLIC_KEY_BYTES,
    SEED_BYTES,
    SIGNATURE_BYTES,
    PreparedKey,
    SigningKey,
    verify,
    verify_batch,
)
from citychain.errors import InvalidSignature

SEEDS = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)
CONTEXTS = st.binary(max_size=CONTEXT_BYTES_MAX)


class Signed(NamedTuple):
    public_key: bytes
    message: bytes
    context: bytes
    signature: bytes


MALFORMED = [
    ("public_key", b""),
    ("public_key", bytes(PUBLIC_KEY_BYTES - 1)),
    ("public_key", bytes(PUBLIC_KEY_BYTES + 1)),
    ("context", bytes(CONTEXT_BYTES_MAX + 1)),
    ("context", bytes(100_000)),
    ("signature", b""),
    ("signature", bytes(SIGNATURE_BYTES - 1)),
    ("signature", bytes(SIGNATURE_BYTES)),
    ("signature", bytes(SIGNATURE_BYTES + 1)),
    ("message", b"another"),
]


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey(bytes(range(32)))


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, message=st.binary(max_size=2000), context=CONTEXTS, deterministic=st.booleans())
def test_pyca_verifies_our_signatures(
    seed: bytes, message: bytes, context: bytes, deterministic: bool
) -> None:
    key = SigningKey(seed)
    assert MLDSA87PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw() == key.public_key
    signature = key.sign(message, context, deterministic=deterministic)
    theirs = MLDSA87PublicKey.from_public_bytes(key.public_key)
    theirs.verify(signature, message, context)
    with pytest.raises(PycaInvalidSignature):
        theirs.verify(signature, message + b"\0", context)


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, message=st.binary(max_size=2000), context=CONTEXTS)
def test_we_verify_pycas_signatures(seed: bytes, message: bytes, context: bytes) -> None:
    theirs = MLDSA87PrivateKey.from_seed_bytes(seed)
    public_key = theirs.public_key().public_bytes_raw()
    signature = theirs.sign(message, context)
    assert len(public_key) == PUBLIC_KEY_BYTES
    assert len(signature) == SIGNATURE_BYTES
    verify(public_key, message, context, signature)
    PreparedKey(public_key).verify(message, context, signature)
    assert verify_batch([(public_key, message, context, signature)]) == [True]


@pytest.mark.parametrize(("field", "value"), MALFORMED)
def test_what_is_malformed_does_not_verify(key: SigningKey, field: str, value: bytes) -> None:
    good = Signed(key.public_key, b"message", b"context", key.sign(b"message", b"context"))
    bad = good._replace(**{field: value})
    verify(*good)
    with pytest.raises(InvalidSignature):
        verify(*bad)
    if field != "public_key":
        with pytest.raises(InvalidSignature):
            PreparedKey(key.public_key).verify(*bad[1:])
    assert verify_batch([good, bad]) == [True, False]


def test_lengths_are_checked_by_name(key: SigningKey) -> None:
    with pytest.raises(ValueError, match="seed must have 32 bytes, not 31"):
        SigningKey(bytes(31))
    with pytest.raises(ValueError, match="public_key must have 2592 bytes, not 1"):
        PreparedKey(b"\0")
    with pytest.raises(ValueError, match="context must have at most 255 bytes, not 256"):
        key.sign(b"", bytes(256))
    with pytest.raises(ValueError, match="context must have at most 255 bytes, not 256"):
        key.sign_batch([b""], bytes(256))


def test_only_deterministic_signatures_repeat(key: SigningKey) -> None:
    assert key.sign(b"m", b"", deterministic=True) == key.sign(b"m", b"", deterministic=True)
    assert key.sign(b"m", b"") != key.sign(b"m", b"")


def test_no_secret_is_printed(key: SigningKey) -> None:
    assert bytes(range(32)).hex()[:16] not in repr(key) + str(key)


def test_a_batch_keeps_its_order(key: SigningKey) -> None:
    messages = [bytes([i]) * i for i in range(100)]
    signatures = key.sign_batch(messages, b"c", deterministic=True)
    assert signatures == [key.sign(m, b"c", deterministic=True) for m in messages]
    other = SigningKey(bytes(32)).public_key
    keys = [other if i % 3 == 0 else key.public_key for i in range(100)]
    items = [(k, m, b"c", s) for k, m, s in zip(keys, messages, signatures, strict=True)]
    assert verify_batch(items) == [i % 3 != 0 for i in range(100)]
    assert verify_batch([]) == []
