"""Hashes, ids and signatures of citychain, and how a check fails.

docs/protocol.md, "Hashes, ids, signatures".
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

PUBLIC_KEY_BYTES, SIGNATURE_BYTES = 2592, 4627


class Invalid(Exception):
    """Something claimed does not hold; `check` names what was looked at."""

    def __init__(self, check, detail):
        super().__init__(f"{check}: {detail}")
        self.check = check


def require(holds, check, detail):
    if not holds:
        raise Invalid(check, detail)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def be(number, length):
    return number.to_bytes(length, "big")


def genesis_id(file):
    return sha256(b"citychain/genesis/v1\0", file)


def key_id(public_key, scheme=1):
    return sha256(b"citychain/key/v1\0", be(scheme, 1), public_key)


def tx_id(body):
    return sha256(b"citychain/tx/v1\0", body)


def signed(public_key, message, context, signature):
    """Whether an ML-DSA-87 signature holds."""
    try:
        MLDSA87PublicKey.from_public_bytes(public_key).verify(signature, message, context)
    except (InvalidSignature, ValueError):
        return False
    return True
