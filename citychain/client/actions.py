"""What a transaction does: the actions, and how they stand on the wire.

`citychain.types` has those that a city hands on as they are: `Presence`, `Equivocation`
and `Recovery`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from citychain.errors import InvalidRequest
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.rpc.messages import ID_BYTES
from citychain.types import Equivocation, Presence, Recovery

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
    Data | Transfer | Presence | Candidacy | Withdrawal | Witness | Equivocation | Recovery
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


def _sized(name: str, value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise InvalidRequest(name, f"has {len(value)} bytes; it must have {length}")
    return value


def _ranged(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidRequest(name, f"is {value}; it must be {low} to {high}")
    return value
