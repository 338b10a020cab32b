"""What a transaction does: the actions, and how they stand on the wire.

`citychain.types` has those that a city hands on as they are: `Presence`, `Equivocation`,
`Recovery`, `Reward`, and those between cities.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from citychain.errors import InvalidRequest
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.rpc.messages import ID_BYTES
from citychain.types import (
    Anchor,
    Delivery,
    Equivocation,
    Peer,
    Presence,
    Recovery,
    Remittance,
    Reward,
    Settlement,
)

__all__ = [
    "Action",
    "Candidacy",
    "Data",
    "Transfer",
    "Withdrawal",
    "Witness",
    "put_action",
]

STAKE_MAX: Final = (1 << 63) - 1
U64_MAX: Final = (1 << 64) - 1
PEER_BYTES_MAX: Final = 256 << 10
CHECKPOINT_BYTES: Final = (42, 128 << 10)
REFUSAL_CODE: Final = re.compile(r"[A-Z0-9_]{1,32}")
REASON_BYTES_MAX: Final = 255


class Data(NamedTuple):
    """Says something."""

    content: bytes
    content_type: str = ""
    """A media type."""


class Transfer(NamedTuple):
    """Moves an amount from the signer's balance."""

    asset: str
    to: bytes
    """Key id of the payee."""
    amount: int
    """In the asset's smallest unit."""


class Candidacy(NamedTuple):
    """Stands for the committee: moves an amount from the signer's balance to the signer's stake."""

    asset: str
    stake: int
    """What is added, in the asset's smallest unit."""


class Withdrawal(NamedTuple):
    """Moves an amount from the signer's stake back to the signer's balance."""

    asset: str
    stake: int
    """What is taken out, in the asset's smallest unit."""


class Witness(NamedTuple):
    """Registers a witness, or revokes one; signed by the city's operator."""

    public_key: bytes
    revoked: bool = False


Action: TypeAlias = (
    Data
    | Transfer
    | Presence
    | Candidacy
    | Withdrawal
    | Witness
    | Equivocation
    | Recovery
    | Peer
    | Remittance
    | Delivery
    | Settlement
    | Anchor
    | Reward
)


def put_action(body: transaction_pb2.TransactionBody, action: Action) -> None:
    """Write the action into a body.

    Raises:
        InvalidRequest: a field cannot be right in any city.
    """
    match action:
        case Data(content, content_type):
            # Set also where both of its fields are empty.
            body.data.CopyFrom(transaction_pb2.Data(content_type=content_type, content=content))
        case Transfer(asset, to, amount):
            body.transfer.asset = asset
            body.transfer.to = _sized("transfer.to", to, ID_BYTES)
            body.transfer.amount = _ranged("transfer.amount", amount, 1, U64_MAX)
        case Presence():
            _put_presence(body.presence, action)
        case Candidacy(asset, stake):
            body.candidacy.asset = asset
            body.candidacy.stake = _ranged("candidacy.stake", stake, 1, STAKE_MAX)
        case Withdrawal(asset, stake):
            body.withdrawal.asset = asset
            body.withdrawal.stake = _ranged("withdrawal.stake", stake, 1, STAKE_MAX)
        case Witness(public_key, revoked):
            body.witness.public_key = _sized("witness.public_key", public_key, PUBLIC_KEY_BYTES)
            body.witness.revoked = revoked
        case Equivocation():
            _put_equivocation(body.equivocation, action)
        case Recovery():
            _put_recovery(body.recovery, action)
        case Peer(file):
            body.peer.genesis_file = _within("peer.genesis_file", file, 1, PEER_BYTES_MAX)
        case Remittance(asset, city, to, amount):
            body.remittance.asset = asset
            body.remittance.city = _sized("remittance.city", city, ID_BYTES)
            body.remittance.to = _sized("remittance.to", to, ID_BYTES)
            body.remittance.amount = _ranged("remittance.amount", amount, 1, U64_MAX)
        case Delivery():
            _put_delivery(body.delivery, action)
        case Settlement():
            _put_settlement(body.settlement, action)
        case Anchor(city, checkpoint, proof):
            body.anchor.city = _sized("anchor.city", city, ID_BYTES)
            name = "anchor.checkpoint"
            body.anchor.checkpoint = _within(name, checkpoint, *CHECKPOINT_BYTES)
            body.anchor.proof = _given("anchor.proof", proof)
        case Reward(epoch, asset, to, amount):
            body.reward.epoch = _ranged("reward.epoch", epoch, 0, U64_MAX)
            body.reward.asset = asset
            body.reward.to = _sized("reward.to", to, ID_BYTES)
            body.reward.amount = _ranged("reward.amount", amount, 1, U64_MAX)


def _put_presence(message: transaction_pb2.Presence, presence: Presence) -> None:
    name = "presence.latitude_e7"
    message.latitude_e7 = _ranged(name, presence.latitude_e7, -900_000_000, 900_000_000)
    name = "presence.longitude_e7"
    message.longitude_e7 = _ranged(name, presence.longitude_e7, -1_800_000_000, 1_800_000_000)
    message.accuracy_m = _ranged("presence.accuracy_m", presence.accuracy_m, 0, (1 << 32) - 1)
    first, last = presence.first_round, presence.last_round
    message.first_round = _ranged("presence.first_round", first, 0, U64_MAX)
    message.last_round = _ranged("presence.last_round", last, first, U64_MAX)
    message.anchor = _sized("presence.anchor", presence.anchor, ID_BYTES)
    for index, witness in enumerate(presence.witnesses):
        name = f"presence.witnesses[{index}]"
        message.witnesses.add(
            key_id=_sized(f"{name}.key_id", witness.key_id, ID_BYTES),
            signature=_sized(f"{name}.signature", witness.signature, SIGNATURE_BYTES),
        )


def _put_equivocation(message: transaction_pb2.Equivocation, votes: Equivocation) -> None:
    for field, length in (
        ("public_key", PUBLIC_KEY_BYTES),
        ("first_hash", ID_BYTES),
        ("first_signature", SIGNATURE_BYTES),
        ("second_hash", ID_BYTES),
        ("second_signature", SIGNATURE_BYTES),
    ):
        setattr(message, field, _sized(f"equivocation.{field}", getattr(votes, field), length))
    message.round = _ranged("equivocation.round", votes.round, 0, U64_MAX)
    if votes.first_hash == votes.second_hash:
        raise InvalidRequest("equivocation.second_hash", "is the same as first_hash")


def _put_recovery(message: transaction_pb2.Recovery, recovery: Recovery) -> None:
    message.from_round = _ranged("recovery.from_round", recovery.from_round, 1, U64_MAX)
    message.previous = _sized("recovery.previous", recovery.previous, ID_BYTES)
    if not recovery.seats:
        raise InvalidRequest("recovery.seats", "must be at least one")
    for index, seat in enumerate(recovery.seats):
        name = f"recovery.seats[{index}]"
        message.seats.add(
            key_id=_sized(f"{name}.key_id", seat.key_id, ID_BYTES),
            stake=_ranged(f"{name}.stake", seat.stake, 1, STAKE_MAX),
        )


def _put_delivery(message: transaction_pb2.Delivery, delivery: Delivery) -> None:
    message.city = _sized("delivery.city", delivery.city, ID_BYTES)
    message.tx_id = _sized("delivery.tx_id", delivery.tx_id, ID_BYTES)
    message.asset = delivery.asset
    message.to = _sized("delivery.to", delivery.to, ID_BYTES)
    message.amount = _ranged("delivery.amount", delivery.amount, 1, U64_MAX)
    message.proof = _given("delivery.proof", delivery.proof)
    code, reason = delivery.refusal_code, delivery.refusal_reason
    if code and not REFUSAL_CODE.fullmatch(code):
        raise InvalidRequest("delivery.refusal_code", "must be 1 to 32 of A-Z, 0-9 and _")
    if reason and not code:
        raise InvalidRequest("delivery.refusal_reason", "is given without a refusal_code")
    _within("delivery.refusal_reason", reason.encode(), 0, REASON_BYTES_MAX)
    message.refusal_code = code
    message.refusal_reason = reason


def _put_settlement(message: transaction_pb2.Settlement, settlement: Settlement) -> None:
    for field in ("tx_id", "payer", "city"):
        value = getattr(settlement, field)
        setattr(message, field, _sized(f"settlement.{field}", value, ID_BYTES))
    message.asset = settlement.asset
    message.amount = _ranged("settlement.amount", settlement.amount, 1, U64_MAX)
    message.returned = settlement.returned
    message.proof = _given("settlement.proof", settlement.proof)


def _sized(name: str, value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise InvalidRequest(name, f"has {len(value)} bytes; it must have {length}")
    return value


def _ranged(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidRequest(name, f"is {value}; it must be {low} to {high}")
    return value


def _within(name: str, value: bytes, low: int, high: int) -> bytes:
    if not low <= len(value) <= high:
        raise InvalidRequest(name, f"has {len(value)} bytes; it must have {low} to {high}")
    return value


def _given(name: str, value: bytes) -> bytes:
    if not value:
        raise InvalidRequest(name, "must not be empty")
    return value
