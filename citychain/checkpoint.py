"""The checkpoint: what representatives sign, one a round.

Layout, integers big-endian::

    version 2 = 1 | genesis 32 | round 8 | previous checkpoint's hash 32
    | log root 32 | log size 8 | len(rule) 1 | rule | record hash 32
    | committee in office: seats 2, each key id 32, stake 8
    | 0, or 1 and the next committee likewise
    | proof-of-history entry: prev 32 | num_hashes 8 | mixin 32 | hash 32

    mixin           = SHA-256("citychain/mixin/v1\\0" || all before the entry)
    checkpoint hash = SHA-256("citychain/checkpoint/v1\\0" || all)

The first checkpoint's previous hash, and its entry's ``prev``, are the genesis id.
The log root is that of RFC 6962 over the city's whole log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from citychain.errors import VerificationError
from citychain.layout import POH_BYTES, Reader, poh_bytes, seats_bytes
from citychain.types import PohEntry, Quorum, Seat

__all__ = [
    "OBJECTION_CONTEXT",
    "VOTE_CONTEXT",
    "Checkpoint",
    "body_bytes",
    "checkpoint_hash",
    "decode",
    "decode_body",
    "mixin",
    "objection_message",
    "quorum_stake",
    "vote_message",
    "with_poh",
]

_VERSION: Final = (1).to_bytes(2, "big")
VOTE_CONTEXT: Final = b"citychain/vote/v1"
"""Signature context of votes."""
OBJECTION_CONTEXT: Final = b"citychain/objection/v1"
"""Signature context of objections."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A decoded checkpoint."""

    genesis: bytes
    round: int
    previous: bytes
    root: bytes
    size: int
    rule: str
    record_hash: bytes
    committee: tuple[Seat, ...]
    next_committee: tuple[Seat, ...] | None
    poh: PohEntry


def body_bytes(
    *,
    genesis: bytes,
    round: int,
    previous: bytes,
    root: bytes,
    size: int,
    rule: str,
    record_hash: bytes,
    committee: tuple[Seat, ...],
    next_committee: tuple[Seat, ...] | None,
) -> bytes:
    """A checkpoint without its proof-of-history entry."""
    rule_bytes = rule.encode()
    return b"".join(
        (
            _VERSION,
            genesis,
            round.to_bytes(8, "big"),
            previous,
            root,
            size.to_bytes(8, "big"),
            bytes((len(rule_bytes),)),
            rule_bytes,
            record_hash,
            seats_bytes(committee),
            b"\0" if next_committee is None else b"\1" + seats_bytes(next_committee),
        )
    )


def mixin(body: bytes) -> bytes:
    """What the round's proof-of-history entry mixes in."""
    return hashlib.sha256(b"citychain/mixin/v1\0" + body).digest()


def with_poh(body: bytes, poh: PohEntry) -> bytes:
    """The complete checkpoint."""
    return body + poh_bytes(poh)


def without_poh(checkpoint: bytes) -> bytes:
    """What `mixin` takes."""
    return checkpoint[:-POH_BYTES]


def checkpoint_hash(checkpoint: bytes) -> bytes:
    """Hash of a complete checkpoint."""
    return hashlib.sha256(b"citychain/checkpoint/v1\0" + checkpoint).digest()


def decode(checkpoint: bytes) -> Checkpoint:
    """Decode a checkpoint.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(checkpoint, "checkpoint")
    decoded = _decode_body(reader, checkpoint[-POH_BYTES:])
    reader.take(POH_BYTES)
    reader.end()
    return decoded


def decode_body(body: bytes) -> Checkpoint:
    """Decode a checkpoint without its proof-of-history entry, which is zeros in the result.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(body, "checkpoint")
    decoded = _decode_body(reader, bytes(POH_BYTES))
    reader.end()
    return decoded


def _decode_body(reader: Reader, entry: bytes) -> Checkpoint:
    if (version := reader.take(2)) != _VERSION:
        raise VerificationError(f"checkpoint: layout version {version.hex()} is unknown")
    return Checkpoint(
        genesis=reader.take(32),
        round=reader.integer(8),
        previous=reader.take(32),
        root=reader.take(32),
        size=reader.integer(8),
        rule=reader.text(),
        record_hash=reader.take(32),
        committee=reader.seats(),
        next_committee=reader.seats() if _flag(reader) else None,
        poh=Reader(entry, "checkpoint").poh(),
    )


def _flag(reader: Reader) -> bool:
    if (flag := reader.integer(1)) > 1:
        raise VerificationError(f"checkpoint: flag {flag} is neither 0 nor 1")
    return flag == 1


def vote_message(genesis: bytes, round: int, checkpoint_hash: bytes) -> bytes:
    """What a representative signs, with the context `VOTE_CONTEXT`: genesis 32 | round 8
    | checkpoint hash 32."""
    return genesis + round.to_bytes(8, "big") + checkpoint_hash


def objection_message(
    genesis: bytes, round: int, checkpoint_hash: bytes, check: str, detail: str
) -> bytes:
    """What a representative signs that does not vote, with the context `OBJECTION_CONTEXT`: that
    of a vote | len(check) 1 | check | len(detail) 2 | detail."""
    why = [
        len(encoded).to_bytes(length, "big") + encoded
        for encoded, length in ((check.encode(), 1), (detail.encode(), 2))
    ]
    return vote_message(genesis, round, checkpoint_hash) + b"".join(why)


def quorum_stake(stake_total: int, quorum: Quorum) -> int:
    """The least stake that makes a certificate: for ``two-thirds`` the least with
    ``3 * stake >= 2 * stake_total``, for ``majority`` that with ``2 * stake > stake_total``."""
    return stake_total // 2 + 1 if quorum == "majority" else -(-2 * stake_total // 3)
