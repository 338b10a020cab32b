"""Presence: what a witness signs, and what the ledger keeps of where a key was.

Layouts, integers big-endian, latitude and longitude signed, in degrees times 10^7::

    witness message, context "citychain/presence/v1":
        genesis 32 | subject 32 | latitude_e7 4 | longitude_e7 4 | accuracy_m 4
        | first_round 8 | last_round 8 | anchor 32
    value of the object $presence/<key id>:
        round 8 | time_ms 8 | latitude_e7 4 | longitude_e7 4 | accuracy_m 4
        | factor_permille 4 | tx_id 32
    pop = SHA-256("citychain/pop/v1\\0" | genesis 32 | round 8 | tx_id 32 | policy 1
                  | the author's $presence value before the round, or nothing)
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, Literal, NamedTuple, TypeAlias

from citychain.errors import VerificationError
from citychain.types import Presence

__all__ = [
    "POLICIES",
    "WITNESS_CONTEXT",
    "Policy",
    "PresenceRecord",
    "pop_hash",
    "presence_object",
    "witness_message",
    "witness_object",
]

WITNESS_CONTEXT: Final = b"citychain/presence/v1"
"""FIPS 204 context string of a witness's signature."""

Policy: TypeAlias = Literal["none", "claimed", "witnessed"]
POLICIES: Final[tuple[Policy, ...]] = ("none", "claimed", "witnessed")
"""By the number that stands for each in a pop."""

_RECORD: Final = struct.Struct(">QQiiII32s")
_CLAIM: Final = struct.Struct(">iiIQQ")


class PresenceRecord(NamedTuple):
    """Where and when a key was last seen, as the ledger has it."""

    round: int
    time_ms: int
    """Of the round."""
    latitude_e7: int
    longitude_e7: int
    accuracy_m: int
    factor_permille: int
    """By which its stake weighs in an election: 1000 for once."""
    tx_id: bytes
    """Of the presence transaction."""

    def to_bytes(self) -> bytes:
        """Value of the ledger object."""
        return _RECORD.pack(*self)

    @classmethod
    def from_bytes(cls, value: bytes) -> PresenceRecord:
        """Parse the value of the ledger object.

        Raises:
            VerificationError: it has another length than 64 bytes.
        """
        if len(value) != _RECORD.size:
            raise VerificationError(f"presence: {len(value)} bytes instead of {_RECORD.size}")
        return cls(*_RECORD.unpack(value))


def presence_object(key: bytes) -> str:
    """Object id of a key's last presence."""
    return f"$presence/{key.hex()}"


def witness_object(key: bytes) -> str:
    """Object id of a witness; its value is the public key, empty once it is revoked."""
    return f"$witness/{key.hex()}"


def witness_message(genesis: bytes, subject: bytes, presence: Presence) -> bytes:
    """What a witness signs, with `WITNESS_CONTEXT`.

    Args:
        subject: Key id of whom the witness saw.
        presence: Its witnesses are left out.
    """
    claim = _CLAIM.pack(
        presence.latitude_e7,
        presence.longitude_e7,
        presence.accuracy_m,
        presence.first_round,
        presence.last_round,
    )
    return genesis + subject + claim + presence.anchor


def pop_hash(genesis: bytes, round: int, tx_id: bytes, policy: Policy, presence: bytes) -> bytes:
    """Hash of the judgement of place that a node contains, 32 bytes.

    Args:
        presence: The author's `PresenceRecord` before the round, in bytes; empty for none.
    """
    return hashlib.sha256(
        b"citychain/pop/v1\0"
        + genesis
        + round.to_bytes(8, "big")
        + tx_id
        + bytes((POLICIES.index(policy),))
        + presence
    ).digest()
