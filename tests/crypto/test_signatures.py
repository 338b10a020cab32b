"""ML-DSA-87 signatures: agreement with pyca/cryptography, and what does not verify."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
    KeyCache,
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


@settings(deadline=None, max_examples=200)
@given(
    at=st.integers(0, 8 * SIGNATURE_BYTES - 1),
    field=st.sampled_from(["message", "context", "signature", "public_key"]),
)
def test_a_flipped_bit_is_noticed_by_both_engines(key: SigningKey, at: int, field: str) -> None:
    good = Signed(key.public_key, b"m" * 100, b"c" * 100, key.sign(b"m" * 100, b"c" * 100))
    flipped = bytearray(getattr(good, field))
    flipped[at // 8 % len(flipped)] ^= 1 << at % 8
    bad = good._replace(**{field: bytes(flipped)})
    with pytest.raises(InvalidSignature):
        verify(*bad)
    with pytest.raises(InvalidSignature):
        PreparedKey(bad.public_key).verify(*bad[1:])


def test_a_key_cache_keeps_its_bounds_under_threads() -> None:
    cache = KeyCache(prepared=3, public=4)
    keys = [SigningKey(bytes([n]) * 32) for n in range(8)]
    signatures = [key.sign(b"m", b"c") for key in keys]

    def use(turn: int) -> None:
        n = turn * 3 % len(keys)
        cache.add_public_key(bytes([n]) * 32, keys[n].public_key)
        if held := cache.get(bytes([n]) * 32):
            held.verify(b"m", b"c", signatures[n])
        assert cache.prepared_len <= 3
        assert len(cache) <= 7

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(use, range(800)))
    assert (cache.prepared_len, len(cache)) == (3, 7)


def test_a_key_cache_knows_only_what_it_was_given(key: SigningKey) -> None:
    cache = KeyCache()
    assert cache.get(bytes(32)) is None
    cache.insert(bytes(32), PreparedKey(key.public_key))
    held = cache.get(bytes(32))
    assert held is not None
    assert held.public_key == key.public_key
    with pytest.raises(ValueError, match="key_id must have 32 bytes, not 31"):
        cache.get(bytes(31))
    with pytest.raises(ValueError, match="public_key must have 2592 bytes, not 0"):
        cache.add_public_key(bytes(32), b"")


FORK = """
import os
from citychain.crypto.signatures import SigningKey

if os.path.isdir("/proc/self/task"):
    assert len(os.listdir("/proc/self/task")) == 1, "importing started a thread"
key = SigningKey(bytes(32))
key.sign_batch([b"a", b"b"], b"")
if (child := os.fork()) == 0:
    os._exit(len(key.sign_batch([b"a", b"b"], b"")))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_importing_starts_no_thread_and_a_forked_child_runs_batches() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60, capture_output=True)
