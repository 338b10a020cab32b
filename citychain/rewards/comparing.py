"""What was paid for an epoch against what is due, to the last unit."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from citychain.rewards.calculation import Distribution, Due
from citychain.rewards.counting import Payment

__all__ = ["Line", "PaymentState", "compare"]


class PaymentState(StrEnum):
    """How a key stands."""

    PAID = "paid"
    """What it is due."""
    DUE = "due"
    """It was not paid yet."""
    NOTHING = "nothing"
    """It is due nothing, and was paid nothing."""
    WRONG = "wrong"
    """It was paid something else than it is due."""


class Line(NamedTuple):
    """One key."""

    key_id: bytes
    due: Due | None
    """``None`` for one that did nothing in the epoch."""
    payment: Payment | None
    state: PaymentState


def compare(distribution: Distribution, paid: Mapping[bytes, Payment]) -> list[Line]:
    """Compare, in order of key id.

    Args:
        paid: For the epoch, by key.
    """
    dues = {due.service.key_id: due for due in distribution.dues}
    asset = distribution.parameters.asset
    return [
        Line(key_id, dues.get(key_id), paid.get(key_id), _state(dues, paid, key_id, asset))
        for key_id in sorted(dues.keys() | paid.keys())
    ]


def _state(
    dues: Mapping[bytes, Due], paid: Mapping[bytes, Payment], key_id: bytes, asset: str
) -> PaymentState:
    amount = dues[key_id].amount if key_id in dues else 0
    if (payment := paid.get(key_id)) is None:
        return PaymentState.DUE if amount else PaymentState.NOTHING
    return (
        PaymentState.PAID
        if (payment.asset, payment.amount) == (asset, amount)
        else PaymentState.WRONG
    )
