"""Ids of public keys."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["SCHEME_ML_DSA_87", "key_id"]

SCHEME_ML_DSA_87: Final = 1
"""FIPS 204 ML-DSA-87, as `proto/citychain/v1/transaction.proto` numbers it."""


def key_id(public_key: bytes, scheme: int = SCHEME_ML_DSA_87) -> bytes:
    """SHA-256("citychain/key/v1\\0" || scheme as one byte || public key), 32 bytes.

    `native/core/src/transactions` computes the same.
    """
    return hashlib.sha256(b"citychain/key/v1\0" + bytes((scheme,)) + public_key).digest()
