"""What each key is due for an epoch, in whole units: the same for everybody who has the record.

Exactly, with rates and multipliers in thousandths::

    exact(key) = base * rate / 1000 * score * presence / 1000
    scale      = min(1, budget / sum of all exact)
    whole      = sum of all exact * scale, without its fraction

A key gets ``exact * scale`` without its fraction. What is left of ``whole`` goes out in single
units, to the largest fractions first; of equal ones to the smaller key id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import Final, NamedTuple

from citychain.statements import Rewards

__all__ = ["PRESENT", "Distribution", "Due", "Role", "Service", "distribute"]

PRESENT: Final = 1_000
"""Multiplier, in thousandths, of a key whose presence stood in the epoch."""


class Role(StrEnum):
    """What a key is paid for."""

    FULL = "representative"
    """It votes."""
    LIGHT = "holder"
    """It holds fragments."""


class Service(NamedTuple):
    """What a key did in an epoch. A key has one of these."""

    key_id: bytes
    role: Role
    done: int
    """Rounds whose certificate has its vote, or chunks that it answered with..."""
    of: int
    """...of the rounds in which it was in office, or of the chunks that it was asked for."""
    present: bool
    """Whether a presence of it stood in the epoch, or the city asks for none."""
    share: Fraction | None = None
    """Of a holder: what part of all announced fragments it proved to have."""

    @property
    def score(self) -> Fraction:
        """0 to 1: the share of a holder, or else what was done of what was to be done."""
        return Fraction(self.done, self.of) if self.share is None else self.share


class Due(NamedTuple):
    """What a key is due."""

    service: Service
    rate: int
    """In thousandths."""
    multiplier: int
    """In thousandths."""
    exact: Fraction
    """Before the budget."""
    amount: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """What all keys are due."""

    parameters: Rewards
    dues: Sequence[Due]
    """In order of key id."""
    scale: Fraction
    """By which the budget makes all amounts smaller; 1 where it is enough."""

    @property
    def amount(self) -> int:
        """Of all together."""
        return sum(due.amount for due in self.dues)


def distribute(parameters: Rewards, services: Iterable[Service]) -> Distribution:
    """Compute what keys are due.

    Args:
        services: In whatever order, of each key one.
    """
    ordered = sorted(services)
    exact = [_exact(parameters, service) for service in ordered]
    # Of one denominator: of many keys the sum of fractions takes long.
    common = lcm(*(value.denominator for value in exact))
    parts = [value.numerator * (common // value.denominator) for value in exact]
    total, most = sum(parts), parameters.budget * common
    share = (parameters.budget, total) if total > most else (1, common)
    dues = [
        Due(it, _rate(parameters, it), _multiplier(parameters, it), value, amount)
        for it, value, amount in zip(ordered, exact, _whole(parts, *share), strict=True)
    ]
    scale = Fraction(most, total) if total > most else Fraction(1)
    return Distribution(parameters, dues, scale)


def _exact(parameters: Rewards, service: Service) -> Fraction:
    factor = Fraction(_rate(parameters, service) * _multiplier(parameters, service), 1_000_000)
    return parameters.base * factor * service.score


def _rate(parameters: Rewards, service: Service) -> int:
    return parameters.full if service.role is Role.FULL else parameters.light


def _multiplier(parameters: Rewards, service: Service) -> int:
    return PRESENT if service.present else parameters.absent


def _whole(parts: Sequence[int], numerator: int, denominator: int) -> list[int]:
    """Each part times a fraction, by largest remainders; of equal ones the first."""
    divided = [divmod(part * numerator, denominator) for part in parts]
    amounts = [whole for whole, _ in divided]
    left = sum(parts) * numerator // denominator - sum(amounts)
    for index in sorted(range(len(parts)), key=lambda index: (-divided[index][1], index))[:left]:
        amounts[index] += 1
    return amounts
