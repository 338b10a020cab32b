"""ML-DSA-87 signatures (FIPS 204, pure form): sign, verify, verify many.

Every use has a context string of its own (at most 255 bytes, such as ``b"citychain/tx/v1"``), so
that a signature made for one purpose never verifies for another. What does not verify raises
`citychain.errors.InvalidSignature`; only the batch returns a verdict an item.

A verification spends most of its time expanding the public key. ``PreparedKey`` does that once;
``KeyCache`` keeps the busiest keys prepared, within bounds. All work runs without the GIL.
"""

from typing import Final

from citychain._native.signatures import (
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

__all__ = [
    "CONTEXT_BYTES_MAX",
    "PUBLIC_KEY_BYTES",
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "TRANSACTION_CONTEXT",
    "KeyCache",
    "PreparedKey",
    "SigningKey",
    "verify",
    "verify_batch",
]

TRANSACTION_CONTEXT: Final = b"citychain/tx/v1"
"""Signature context of transactions."""
