"""Changes of the committee."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from citychain.committee import HANDOVERS_MAX
from citychain.crypto.signatures import PUBLIC_KEY_BYTES
from citychain.errors import VerificationError
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages.fields import at_most, exact
from citychain.rpc.messages.rounds import (
    CHECKPOINT_BYTES_MAX,
    decode_certificate,
    encode_certificate,
)
from citychain.types import Handover

__all__ = ["decode_handovers", "encode_handover"]

SEATS_MAX: Final = 1_024
RECOVERY_BYTES_MAX: Final = 64 << 10


def encode_handover(handover: Handover) -> ledger_pb2.Handover:
    """An election or a recovery."""
    message = ledger_pb2.Handover(
        checkpoint=handover.checkpoint,
        certificate=encode_certificate(handover.certificate) if handover.certificate else None,
        public_keys=handover.public_keys,
    )
    if handover.recovery:
        message.recovery.ParseFromString(handover.recovery)
    return message


def decode_handovers(messages: Sequence[ledger_pb2.Handover]) -> tuple[Handover, ...]:
    """Changes of the committee in their form; whether they hold is for others to say."""
    at_most(len(messages), HANDOVERS_MAX, "handovers")
    return tuple(
        _decode_handover(message, f"handovers[{index}]") for index, message in enumerate(messages)
    )


def _decode_handover(message: ledger_pb2.Handover, field: str) -> Handover:
    at_most(len(message.checkpoint), CHECKPOINT_BYTES_MAX, f"{field}.checkpoint")
    at_most(len(message.public_keys), SEATS_MAX, f"{field}.public_keys")
    public_keys = tuple(
        exact(key, PUBLIC_KEY_BYTES, f"{field}.public_keys[{index}]")
        for index, key in enumerate(message.public_keys)
    )
    elected, recovered = message.HasField("certificate"), message.HasField("recovery")
    if elected == recovered or elected != bool(message.checkpoint):
        raise VerificationError(f"{field}: must be either an election or a recovery")
    if elected:
        certificate = decode_certificate(message.certificate, f"{field}.certificate")
        return Handover(public_keys, message.checkpoint, certificate)
    recovery = message.recovery.SerializeToString()
    at_most(len(recovery), RECOVERY_BYTES_MAX, f"{field}.recovery")
    return Handover(public_keys, recovery=recovery)
