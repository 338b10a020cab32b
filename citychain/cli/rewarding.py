"""A distribution of rewards, from the audit to the last payment."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from citychain.cli.auditing import Seen, run_audit
from citychain.cli.options import Servers, connect
from citychain.cli.output import print_json, say
from citychain.client.city import CityClient
from citychain.committee import CommitteeChain
from citychain.config import Settings
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRequest
from citychain.genesis import Genesis
from citychain.rewards import paying
from citychain.rewards.calculation import Distribution, Due, distribute
from citychain.rewards.comparing import Line, State, compare
from citychain.rewards.counting import Count, Payment, Stated, counting
from citychain.statements import Rewards

__all__ = ["Distributing", "Wish", "told"]

NO_BUDGET: Final = (1 << 53) - 1
DEFAULTS: Final = {"base": 10_000, "full": 1_500, "light": 1_000, "absent": 500}
EPOCH_ROUNDS: Final = 1_000


class Wish(NamedTuple):
    """What the options say; ``None`` for those that are not given."""

    epoch: int
    asset: str | None
    epoch_rounds: int | None
    base: int | None
    full: int | None
    light: int | None
    absent: int | None
    budget: int | None

    def parameters(self, genesis: Genesis) -> Rewards:
        """For a first statement.

        Raises:
            InvalidRequest: an option is missing, or none that can be.
        """
        from pydantic import ValidationError

        if self.asset is None:
            raise InvalidRequest("--asset", "is needed: nothing is stated for the epoch yet")
        rounds = self.epoch_rounds or genesis.consensus_options.get("epoch_rounds", EPOCH_ROUNDS)
        members = {name: value for name, value in self._named().items() if value is not None}
        try:
            return Rewards(
                epoch=self.epoch,
                first=self.epoch * rounds + 1,
                last=(self.epoch + 1) * rounds,
                **DEFAULTS | {"budget": NO_BUDGET} | members,
                asset=self.asset,
            )
        except ValidationError as error:
            [fault, *_] = error.errors(include_url=False, include_input=False)
            raise InvalidRequest(f"--{'.'.join(map(str, fault['loc']))}", fault["msg"]) from None

    def check(self, stated: Stated) -> None:
        """Hold what is given to what was stated.

        Raises:
            InvalidRequest: naming the option that says something else.
        """
        parameters = stated.parameters
        there = parameters.model_dump()
        there["epoch_rounds"] = parameters.last - parameters.first + 1
        named = {"asset": self.asset, "epoch_rounds": self.epoch_rounds, **self._named()}
        for name, value in named.items():
            if value is not None and value != there[name]:
                option = "--" + name.replace("_", "-")
                told = there[name] if name not in ("full", "light", "absent") else there[name] / 1e3
                detail = f"was stated as {told} for epoch {self.epoch}, by {stated.tx_id.hex()}"
                raise InvalidRequest(option, f"{detail}: leave it out")

    def _named(self) -> dict[str, int | None]:
        return {
            "base": self.base,
            "full": self.full,
            "light": self.light,
            "absent": self.absent,
            "budget": self.budget,
        }


@dataclass(frozen=True)
class Distributing:
    """One run of the command."""

    city: str
    wish: Wish
    key: SigningKey | None
    """The operator's; ``None`` to pay nothing."""
    given: Genesis | None
    servers: Servers
    timeout: float
    settings: Settings
    json: bool

    async def run(self, explained: bytes | None, file: Path | None) -> bool:
        """Compute, pay if there is a key, and tell.

        Args:
            explained: Tell of this key alone.
            file: Where to write a table.

        Returns:
            Whether what was paid is what is due.
        """
        genesis, count = await self._count()
        if self.key is not None and key_id(self.key.public_key) != genesis.operator_id:
            raise InvalidRequest("--key", "is not the key of the city's operator, who alone pays")
        if self.key is not None and self.wish.epoch not in count.stated:
            parameters = self._parameters(genesis, count)
            planned = distribute(parameters, count.services(parameters.first, parameters.last))
            async with connect(self.servers, self.city, self.timeout) as client:
                await _check_funds(client, genesis, parameters, planned.dues)
                tx_id = await paying.state(client, genesis, self.key, parameters)
            say(f"stated the parameters of epoch {self.wish.epoch}: {tx_id.hex()}")
            # What counts is what the record has, were another one stated before.
            genesis, count = await self._count()
        stated = count.stated.get(self.wish.epoch)
        parameters = self._parameters(genesis, count)
        services = count.services(parameters.first, parameters.last)
        distribution = distribute(parameters, services)
        paid = dict(count.paid.get(self.wish.epoch, {}))
        if self.key is not None:
            await self._pay(genesis, distribution, paid)
        lines = compare(distribution, paid)
        shown = lines
        if explained is not None:
            shown = [line for line in lines if line.key_id == explained]
            shown = shown or [Line(explained, None, None, State.NOTHING)]
        _tell(distribution, shown, stated, self.json, explain=explained is not None)
        if file is not None:
            _write(file, distribution, lines)
        begun = stated is not None or bool(paid)
        wrong = {State.WRONG, State.DUE} if begun else {State.WRONG}
        return not any(line.state in wrong for line in shown)

    async def _count(self) -> tuple[Genesis, Count]:
        counts: list[tuple[Genesis, Count]] = []

        def watch(genesis: Genesis, chain: CommitteeChain) -> Seen:
            counts.append((genesis, Count(genesis.operator_id)))
            return counting(counts[-1][1], chain)

        await run_audit(
            city=self.city,
            given=self.given,
            first=1,
            promise=None,
            servers=self.servers,
            timeout=self.timeout,
            settings=self.settings,
            progress=not self.json,
            watch=watch,
        )
        [found] = counts
        return found

    def _parameters(self, genesis: Genesis, count: Count) -> Rewards:
        """As stated, or else as wished.

        Raises:
            InvalidRequest: an option is not as was stated, or the epoch is not over.
        """
        stated = count.stated.get(self.wish.epoch)
        if stated is not None:
            self.wish.check(stated)
            parameters = stated.parameters
        else:
            parameters = self.wish.parameters(genesis)
        if parameters.last > count.round:
            raise InvalidRequest(
                "--epoch",
                f"{self.wish.epoch} ends with round {parameters.last}, and the last certified one "
                f"is {count.round}",
            )
        return parameters

    async def _pay(
        self, genesis: Genesis, distribution: Distribution, paid: dict[bytes, Payment]
    ) -> None:
        """Pay what is due yet; adds to ``paid`` what became of it."""
        assert self.key is not None
        parameters = distribution.parameters
        lines = [line for line in compare(distribution, paid) if line.state is State.DUE]
        dues = [line.due for line in lines if line.due is not None]
        async with connect(self.servers, self.city, self.timeout) as client:
            await _check_funds(client, genesis, parameters, dues)
            async for it in paying.pay(client, genesis, self.key, parameters, dues):
                payee = it.due.service.key_id
                if it.code == "REWARDED":
                    paid[payee] = await paying.payment(client, parameters.epoch, payee)
                elif it.code:
                    say(f"{payee.hex()}: the payment {it.tx_id.hex()} was rejected: {it.code}")
                else:
                    amount = it.due.amount
                    paid[payee] = Payment(it.tx_id, it.round, parameters.asset, amount)
                    say(f"paid {amount} {parameters.asset} to {payee.hex()}")


async def _check_funds(
    client: CityClient, genesis: Genesis, parameters: Rewards, dues: Sequence[Due]
) -> None:
    """Hold what is to be paid to what the operator has.

    Raises:
        InvalidRequest: it is more.
    """
    needed = sum(due.amount for due in dues if due.service.key_id != genesis.operator_id)
    has = await paying.balance(client, parameters.asset, genesis.operator_id)
    if has < needed:
        detail = f"has {has} {parameters.asset}, and {needed} are due: nothing was paid"
        raise InvalidRequest("--key", detail)


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


def _tell(
    distribution: Distribution,
    lines: Sequence[Line],
    stated: Stated | None,
    json: bool,
    *,
    explain: bool,
) -> None:
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
        "payees": payees,
        "due": distribution.amount,
        "paid": paid,
        **{state.value + "_keys": _count_of(lines, state) for state in State},
    }
    if json:
        for line in lines:
            print_json(_record(distribution, line))
        if not explain:
            print_json(total)
        return
    for line in lines:
        print(_words(distribution, line))
        if explain:
            print(_explained(distribution, line))
    if not explain:
        print(
            f"EPOCH    {parameters.epoch}, rounds {parameters.first} to {parameters.last}: "
            f"{distribution.amount:,} {parameters.asset} due to {payees:,} keys, {paid:,} paid"
            + ("" if stated else "; nothing is stated yet")
        )


def _count_of(lines: Sequence[Line], state: State) -> int:
    return sum(line.state is state for line in lines)


def _words(distribution: Distribution, line: Line) -> str:
    due, payment, asset = line.due, line.payment, distribution.parameters.asset
    words = f"{line.state.name:<8} {line.key_id.hex()}"
    if due is not None:
        words += f"  {due.service.role.value:<5}  {due.service.done:,} of {due.service.of:,}"
        words += f"  {due.amount:,} {asset}"
    if payment is not None and line.state is State.WRONG:
        words += f"  was paid {payment.amount:,} {payment.asset}"
    return words


def _explained(distribution: Distribution, line: Line) -> str:
    due, parameters = line.due, distribution.parameters
    rounds = f"rounds {parameters.first} to {parameters.last}"
    if due is None:
        return (
            f"         in {rounds} it was in no committee, and no checkpoint asked it for what it "
            "holds"
        )
    service = due.service
    did = "certificates with its vote, of rounds in office"
    if service.role == "light":
        did = "chunks that it answered with, of those asked for"
    seen = "has a presence" if service.present else "has no presence"
    rows = [
        f"score       {service.done} / {service.of}   {did}, in {rounds}",
        f"rate        {_decimal(due.rate)}   {service.role.value} node",
        f"multiplier  {_decimal(due.multiplier)}   it {seen} in the epoch",
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


def _write(file: Path, distribution: Distribution, lines: Sequence[Line]) -> None:
    columns = [
        *("epoch", "key", "state", "role", "done", "of", "present", "base", "rate", "multiplier"),
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
