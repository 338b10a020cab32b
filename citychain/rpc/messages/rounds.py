"""Rounds, with what certifies them."""

from __future__ import annotations

from typing import Final

from citychain.crypto.signatures import SIGNATURE_BYTES
from citychain.errors import VerificationError
from citychain.ports import StoredRound
from citychain.record import RECORD_BYTES_MAX
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages.fields import ID_BYTES, at_most, exact
from citychain.types import Certificate, Vote

__all__ = [
    "CHECKPOINT_BYTES_MAX",
    "HASHES_MAX",
    "decode_certificate",
    "decode_round",
    "encode_certificate",
    "encode_round",
]

VOTES_MAX: Final = 1_024
CHECKPOINT_BYTES_MAX: Final = 128 << 10
HASHES_MAX: Final = 64
"""In an inclusion proof, or peaks of a tree: one for each bit of its size."""


def encode_certificate(certificate: Certificate) -> ledger_pb2.Certificate:
    """A quorum's votes."""
    return ledger_pb2.Certificate(
        round=certificate.round,
        checkpoint_hash=certificate.checkpoint_hash,
        votes=[
            ledger_pb2.Vote(key_id=key_id, signature=signature)
            for key_id, signature in certificate.votes
        ],
    )


def decode_certificate(message: ledger_pb2.Certificate, field: str = "certificate") -> Certificate:
    """A quorum's votes; whether they hold is for others to say."""
    at_most(len(message.votes), VOTES_MAX, f"{field}.votes")
    return Certificate(
        message.round,
        exact(message.checkpoint_hash, ID_BYTES, f"{field}.checkpoint_hash"),
        tuple(
            Vote(
                exact(vote.key_id, ID_BYTES, f"{field}.votes[{index}].key_id"),
                exact(vote.signature, SIGNATURE_BYTES, f"{field}.votes[{index}].signature"),
            )
            for index, vote in enumerate(message.votes)
        ),
    )


def encode_round(stored: StoredRound, *, with_record: bool = True) -> ledger_pb2.Round:
    """A committed round."""
    return ledger_pb2.Round(
        round=stored.round,
        time_ms=stored.time_ms,
        first_index=stored.first_index,
        size=stored.size,
        record=stored.record if with_record else b"",
        checkpoint=stored.checkpoint,
        checkpoint_hash=stored.checkpoint_hash,
        peaks=stored.peaks,
        certificate=encode_certificate(stored.certificate) if stored.certificate else None,
    )


def decode_round(message: ledger_pb2.Round) -> StoredRound:
    """A committed round; its record is empty where the server left it out."""
    at_most(len(message.record), RECORD_BYTES_MAX, "round.record")
    at_most(len(message.checkpoint), CHECKPOINT_BYTES_MAX, "round.checkpoint")
    if len(message.peaks) % ID_BYTES or len(message.peaks) > ID_BYTES * HASHES_MAX:
        raise VerificationError(f"round.peaks: {len(message.peaks)} bytes are no list of hashes")
    return StoredRound(
        round=message.round,
        time_ms=message.time_ms,
        first_index=message.first_index,
        size=message.size,
        record=message.record,
        checkpoint=message.checkpoint,
        checkpoint_hash=exact(message.checkpoint_hash, ID_BYTES, "round.checkpoint_hash"),
        peaks=message.peaks,
        certificate=(
            decode_certificate(message.certificate) if message.HasField("certificate") else None
        ),
    )
