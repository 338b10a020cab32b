"""The round record: the one decision of a round, from which all else follows.

Layout, integers big-endian::

    version 2 = 1 | genesis 32 | round 8 | time_ms 8 | epoch 8
    | sealed 4 | held 4 | writes 4
    sealed times: tx_id 32 | len(code) 1 | code | if rejected: len(reason) 1 | reason
    held times:   tx_id 32 | place 4
    writes times: len(object) 1 | object | version 8 | len(value) 2 | value
    proof-of-history entry: prev 32 | num_hashes 8 | mixin 32 | hash 32

    record hash = SHA-256("citychain/round/v1\\0" || all but the last 104 bytes)

A held transaction's place is the number of sealed ones that stood before it when the round
was decided: whether one has to wait for another depends on which of the two came first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from citychain.errors import VerificationError
from citychain.layout import POH_BYTES, Reader, poh_bytes
from citychain.types import ObjectWrite, PohEntry, Rejection, Verdict

__all__ = ["POH_BYTES", "RECORD_BYTES_MAX", "RoundRecord", "body_bytes", "decode", "record_hash"]

RECORD_BYTES_MAX: Final = (8 << 20) - 1
_VERSION: Final = (1).to_bytes(2, "big")
_APPROVED: Final = b"\0"


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A decoded record."""

    genesis: bytes
    round: int
    time_ms: int
    epoch: int
    tx_ids: Sequence[bytes]
    """In order of seq."""
    verdicts: Sequence[Verdict]
    held: Sequence[bytes]
    """Transaction ids first held in this round."""
    held_places: Sequence[int]
    """For each of ``held`` the number of sealed ones that stood before it."""
    writes: Sequence[ObjectWrite]
    poh: PohEntry


def body_bytes(
    *,
    genesis: bytes,
    round: int,
    time_ms: int,
    epoch: int,
    tx_ids: Sequence[bytes],
    verdicts: Sequence[Verdict],
    held: Sequence[bytes],
    held_places: Sequence[int],
    writes: Sequence[ObjectWrite],
) -> bytes:
    """The record without its proof-of-history entry."""
    parts = [
        _VERSION,
        genesis,
        round.to_bytes(8, "big"),
        time_ms.to_bytes(8, "big"),
        epoch.to_bytes(8, "big"),
        len(tx_ids).to_bytes(4, "big"),
        len(held).to_bytes(4, "big"),
        len(writes).to_bytes(4, "big"),
    ]
    for tx_id, verdict in zip(tx_ids, verdicts, strict=True):
        parts += (tx_id, _APPROVED) if verdict is None else (tx_id, _rejection_bytes(verdict))
    for tx_id, place in zip(held, held_places, strict=True):
        parts += (tx_id, place.to_bytes(4, "big"))
    for object, version, value in writes:
        parts += (
            _counted(object.encode(), 1),
            version.to_bytes(8, "big"),
            _counted(value, 2),
        )
    return b"".join(parts)


def record_hash(body: bytes) -> bytes:
    """Hash of a record without its proof-of-history entry."""
    return hashlib.sha256(b"citychain/round/v1\0" + body).digest()


def with_poh(body: bytes, poh: PohEntry) -> bytes:
    """The complete record."""
    return body + poh_bytes(poh)


def without_poh(record: bytes) -> bytes:
    """What `record_hash` takes."""
    return record[:-POH_BYTES]


def poh_of(record: bytes) -> PohEntry:
    """The proof-of-history entry of a complete record."""
    return Reader(record[-POH_BYTES:], "round record").poh()


def decode(record: bytes) -> RoundRecord:
    """Decode a record.

    Raises:
        VerificationError: it is not in this layout.
    """
    if len(record) > RECORD_BYTES_MAX:
        raise VerificationError(f"round record: more than {RECORD_BYTES_MAX} bytes")
    reader = Reader(record, "round record")
    if (version := reader.take(2)) != _VERSION:
        raise VerificationError(f"round record: layout version {version.hex()} is unknown")
    genesis, round, time_ms, epoch = (
        reader.take(32),
        reader.integer(8),
        reader.integer(8),
        reader.integer(8),
    )
    sealed, held, writes = reader.integer(4), reader.integer(4), reader.integer(4)
    # The least that so many items take bounds them before any is read.
    if 33 * sealed + 36 * held + 12 * writes > len(record):
        raise VerificationError("round record: shorter than its counts say")
    tx_ids: list[bytes] = []
    verdicts: list[Verdict] = []
    for _ in range(sealed):
        tx_ids.append(reader.take(32))
        code = reader.text()
        verdicts.append(Rejection(code, reader.text()) if code else None)
    waiting = [(reader.take(32), reader.integer(4)) for _ in range(held)]
    decoded = RoundRecord(
        genesis=genesis,
        round=round,
        time_ms=time_ms,
        epoch=epoch,
        tx_ids=tx_ids,
        verdicts=verdicts,
        held=[tx_id for tx_id, _ in waiting],
        held_places=[place for _, place in waiting],
        writes=[
            ObjectWrite(reader.text(), reader.integer(8), reader.take(reader.integer(2)))
            for _ in range(writes)
        ],
        poh=reader.poh(),
    )
    reader.end()
    return decoded


def _rejection_bytes(rejection: Rejection) -> bytes:
    return _counted(rejection.code.encode("ascii"), 1) + _counted(rejection.reason.encode(), 1)


def _counted(data: bytes, length_bytes: int) -> bytes:
    return len(data).to_bytes(length_bytes, "big") + data
