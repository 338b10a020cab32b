"""Actions as people write them, each a JSON object; bytes are hexadecimal."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from citychain.client.actions import Candidacy, Transfer, Withdrawal, Witness
from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from citychain.types import (
    Anchor,
    Delivery,
    Equivocation,
    Peer,
    Recovery,
    Remittance,
    Reward,
    Seat,
    Settlement,
)

__all__ = [
    "AnchorDraft",
    "CandidacyDraft",
    "DeliveryDraft",
    "EquivocationDraft",
    "PeerDraft",
    "RecoveryDraft",
    "RemittanceDraft",
    "RewardDraft",
    "SettlementDraft",
    "TransferDraft",
    "WithdrawalDraft",
    "WitnessDraft",
]

Id = Annotated[bytes, Field(min_length=32, max_length=32)]
PublicKey = Annotated[bytes, Field(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
Signature = Annotated[bytes, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Amount = Annotated[int, Field(ge=1, lt=1 << 64)]
Proof = Annotated[bytes, Field(min_length=1)]
Stake = Annotated[int, Field(ge=1, lt=1 << 63)]


class _Draft(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, val_json_bytes="hex")


class TransferDraft(_Draft):
    """An amount for another key."""

    asset: str
    amount: Amount
    to: Id

    @property
    def action(self) -> Transfer:
        """What it says."""
        return Transfer(self.asset, self.to, self.amount)


class _StakeDraft(_Draft):
    asset: str
    stake: Stake


class CandidacyDraft(_StakeDraft):
    """An amount for one's stake."""

    @property
    def action(self) -> Candidacy:
        """What it says."""
        return Candidacy(self.asset, self.stake)


class WithdrawalDraft(_StakeDraft):
    """An amount out of one's stake."""

    @property
    def action(self) -> Withdrawal:
        """What it says."""
        return Withdrawal(self.asset, self.stake)


class WitnessDraft(_Draft):
    """A witness to register or to revoke."""

    public_key: PublicKey
    revoked: bool = False

    @property
    def action(self) -> Witness:
        """What it says."""
        return Witness(self.public_key, self.revoked)


class EquivocationDraft(_Draft):
    """Two votes of one key in one round."""

    public_key: PublicKey
    round: Annotated[int, Field(ge=0, lt=1 << 64)]
    first_hash: Id
    first_signature: Signature
    second_hash: Id
    second_signature: Signature

    @property
    def action(self) -> Equivocation:
        """What it says."""
        return Equivocation(**dict(self))


class _SeatDraft(_Draft):
    key_id: Id
    stake: Stake


class RecoveryDraft(_Draft):
    """A committee in the place of one that is lost."""

    from_round: Annotated[int, Field(ge=1, lt=1 << 64)]
    previous: Id
    seats: Annotated[tuple[_SeatDraft, ...], Field(min_length=1, max_length=256)]

    @property
    def action(self) -> Recovery:
        """What it says."""
        seats = tuple(Seat(seat.key_id, seat.stake) for seat in self.seats)
        return Recovery(self.from_round, self.previous, seats)


class PeerDraft(_Draft):
    """Another city to pin."""

    genesis_file: Annotated[bytes, Field(min_length=1, max_length=256 << 10)]

    @property
    def action(self) -> Peer:
        """What it says."""
        return Peer(**dict(self))


class RemittanceDraft(_Draft):
    """An amount for a key in another city."""

    asset: str
    amount: Amount
    city: Id
    to: Id

    @property
    def action(self) -> Remittance:
        """What it says."""
        return Remittance(**dict(self))


class DeliveryDraft(_Draft):
    """A remittance from another city, with its receipt."""

    city: Id
    tx_id: Id
    asset: str
    to: Id
    amount: Amount
    proof: Proof
    refusal_code: Annotated[str, Field(pattern=r"^([A-Z0-9_]{1,32})?$")] = ""
    refusal_reason: str = ""

    @property
    def action(self) -> Delivery:
        """What it says."""
        return Delivery(**dict(self))


class SettlementDraft(_Draft):
    """What became of a remittance, with the other city's receipt."""

    tx_id: Id
    payer: Id
    city: Id
    asset: str
    amount: Amount
    returned: bool = False
    proof: Proof

    @property
    def action(self) -> Settlement:
        """What it says."""
        return Settlement(**dict(self))


class AnchorDraft(_Draft):
    """A checkpoint of another city, with its certificate."""

    city: Id
    checkpoint: Annotated[bytes, Field(min_length=42, max_length=128 << 10)]
    proof: Proof

    @property
    def action(self) -> Anchor:
        """What it says."""
        return Anchor(**dict(self))


class RewardDraft(_Draft):
    """What a key is paid for an epoch."""

    epoch: Annotated[int, Field(ge=0, lt=1 << 64)]
    asset: str
    amount: Amount
    to: Id

    @property
    def action(self) -> Reward:
        """What it says."""
        return Reward(**dict(self))
