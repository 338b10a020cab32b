"""What a distribution of rewards says: lines for people, records, a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from citychain.cli.output import counted, print_json
from citychain.rewards.calculation import Distribution
from citychain.rewards.comparing import Line, PaymentState
from citychain.rewards.counting import Stated

__all__ = ["NO_BUDGET", "tell", "told", "write"]

NO_BUDGET: Final = (1 << 53) - 1
"""Stated where there is none."""


def _record(distribution: Distribution, line: Line) -> dict[str, Any]:
    """All that makes the amount of one key."""
    due, payment = line.due, line.payment
    record: dict[str, Any] = {"key": line.key_id, "state": line.state.value}
    if due is not None:
        service = due.service
        record |= {
            "role": service.role.value,
            "done": service.done,
            "of": service.of,
            "score": told(service.score),
            "present": service.present,
            "base": distribution.parameters.base,
            "rate": due.rate,
            "multiplier": due.multiplier,
            "exact": str(due.exact),
            "scale": told(distribution.scale),
        }
    return record | {
        "due": 0 if due is None else due.amount,
        "paid": 0 if payment is None else payment.amount,
        "asset": distribution.parameters.asset if payment is None else payment.asset,
        "tx_id": "" if payment is None else payment.tx_id,
    }


def tell(
    distribution: Distribution,
    lines: Sequence[Line],
    stated: Stated | None,
    same_votes: bool,
    json: bool,
    explains: bool | None,
) -> None:
    """Print it.

    Args:
        same_votes: Whether the certificates that were read have the votes that were stated.
        explains: Say how each line comes about, and no sum; whether the city asks for presences.
    """
    explain = explains is not None
    parameters = distribution.parameters
    payees = sum(due.amount > 0 for due in distribution.dues)
    paid = sum(line.payment.amount for line in lines if line.payment is not None)
    total = {
        "epoch": parameters.epoch,
        "first": parameters.first,
        "last": parameters.last,
        "asset": parameters.asset,
        "budget": None if parameters.budget == NO_BUDGET else parameters.budget,
        "stated": None if stated is None else stated.tx_id,
        "same_votes": same_votes,
        "payees": payees,
        "due": distribution.amount,
        "paid": paid,
        **{state.value + "_keys": _count_of(lines, state) for state in PaymentState},
    }
    if json:
        for line in lines:
            print_json(_record(distribution, line))
        if not explain:
            print_json(total)
        return
    for line in lines:
        print(_words(distribution, line))
        if explains is not None:
            print(_explained(distribution, line, explains))
    if not explain:
        print(
            f"EPOCH    {parameters.epoch}, rounds {parameters.first} to {parameters.last}: "
            f"{distribution.amount:,} {parameters.asset} due to {counted(payees, 'key')}, "
            f"{paid:,} paid" + ("" if stated else "; nothing is stated yet")
        )


def _count_of(lines: Sequence[Line], state: PaymentState) -> int:
    return sum(line.state is state for line in lines)


def _words(distribution: Distribution, line: Line) -> str:
    due, payment, asset = line.due, line.payment, distribution.parameters.asset
    words = f"{line.state.name:<8} {line.key_id.hex()}"
    if due is not None:
        words += f"  {due.service.role.value:<14}  {due.service.done:,} of {due.service.of:,}"
        words += f"  {due.amount:,} {asset}"
    if payment is not None and line.state is PaymentState.WRONG:
        words += f"  was paid {payment.amount:,} {payment.asset}"
    return words


def _explained(distribution: Distribution, line: Line, asks_presence: bool) -> str:
    due, parameters = line.due, distribution.parameters
    rounds = f"rounds {parameters.first} to {parameters.last}"
    if due is None:
        return (
            f"         in {rounds} it was in no committee, and no checkpoint asked it for what it "
            "holds"
        )
    service = due.service
    did = f"{service.done} / {service.of}   certificates with its vote, of rounds in office"
    if service.share is not None:
        did = (
            f"{told(service.share)}   of all announced fragments; it answered with "
            f"{service.done} of {service.of} chunks"
        )
    seen = "its presence stood" if service.present else "no presence of it stood"
    if not asks_presence:
        seen = "the city asks for no presence"
    rows = [
        f"score       {did}, in {rounds}",
        f"rate        {_decimal(due.rate)}   of a {service.role.value}",
        f"multiplier  {_decimal(due.multiplier)}   {seen} in the epoch",
        f"base        {parameters.base} {parameters.asset}",
        f"exact       {due.exact} = {float(due.exact):.3f}",
        f"scale       {told(distribution.scale)}"
        + ("" if distribution.scale == 1 else f" = {float(distribution.scale):.6f}, by the budget"),
        f"amount      {due.amount} {parameters.asset}, by the largest remainder",
    ]
    return "\n".join(f"         {row}" for row in rows)


def told(value: Fraction) -> str:
    """A fraction; rounded where so many keys made it that nobody would read it."""
    return str(value) if value.denominator < 1 << 40 else f"{float(value):.15f}"


def _decimal(thousandths: int) -> str:
    return f"{thousandths // 1_000}.{thousandths % 1_000:03}"


def write(file: Path, distribution: Distribution, lines: Sequence[Line]) -> None:
    """Write a table of all keys."""
    columns = [
        *(
            "epoch",
            "key",
            "state",
            "role",
            "done",
            "of",
            "score",
            "present",
            "base",
            "rate",
            "multiplier",
        ),
        *("exact", "scale", "due", "paid", "asset", "tx_id"),
    ]
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, columns, restval="")
        table.writeheader()
        for line in lines:
            record = _record(distribution, line) | {"epoch": distribution.parameters.epoch}
            table.writerow({name: _plain(value) for name, value in record.items()})


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
