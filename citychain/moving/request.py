"""An operator's signature under the wish to move a city, or to remove what it left.

Integers big-endian::

    message   = genesis 32 | challenge 32 | forget 1 | allow_volatile 1 | name of the storage, UTF-8
    signature = by the genesis' operator, context "citychain/move/v1"

The challenge is the server's, and serves for one request: nobody can send a signature again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from citychain.crypto import signatures
from citychain.errors import InvalidRequest, InvalidSignature
from citychain.genesis import Genesis

__all__ = ["CHALLENGE_BYTES", "MoveRequest", "sign_move", "verify_move"]

CONTEXT: Final = b"citychain/move/v1"
"""Signature context of these."""
CHALLENGE_BYTES: Final = 32


class MoveRequest(NamedTuple):
    """What an operator wants of a city's storage."""

    storage: str
    forget: bool = False
    """Remove the city from this storage, which it left; else move it there."""
    allow_volatile: bool = False
    """Also to a storage that keeps nothing when the server stops."""


def sign_move(
    operator: signatures.SigningKey, genesis: bytes, challenge: bytes, request: MoveRequest
) -> bytes:
    """The operator's signature."""
    return operator.sign(_message(genesis, challenge, request), CONTEXT)


def verify_move(genesis: Genesis, challenge: bytes, request: MoveRequest, signature: bytes) -> None:
    """Check an operator's signature.

    Raises:
        InvalidRequest: it is not the operator's, or not under this request.
    """
    message = _message(genesis.id, challenge, request)
    try:
        signatures.verify(bytes.fromhex(genesis.operator), message, CONTEXT, signature)
    except (InvalidSignature, ValueError):
        raise InvalidRequest(
            "signature", "is not that of the city's operator under this request and challenge"
        ) from None


def _message(genesis: bytes, challenge: bytes, request: MoveRequest) -> bytes:
    flags = bytes((request.forget, request.allow_volatile))
    return b"".join((genesis, challenge, flags, request.storage.encode()))
