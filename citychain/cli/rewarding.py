"""A distribution of rewards, from the audit to the last payment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from citychain.cli.auditing import Seen, run_audit
from citychain.cli.output import say
from citychain.cli.reaching import Servers, connect
from citychain.cli.shown_rewards import NO_BUDGET, tell, write
from citychain.client.city import CityClient
from citychain.committee import CommitteeChain
from citychain.config import Settings
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRequest
from citychain.genesis import Genesis
from citychain.rewards import paying
from citychain.rewards.calculation import PRESENT, Distribution, Due, distribute
from citychain.rewards.comparing import Line, PaymentState, compare
from citychain.rewards.counting import Count, Payment, Stated, counting, presence_validity
from citychain.statements import Rewards

__all__ = ["Distributing", "Wish"]

DEFAULTS: Final = {"base": 10_000, "full": 1_500, "light": 1_000, "absent": 500}


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

    def rounds(self, count: Count) -> tuple[int, int]:
        """The first and the last one of the epoch, for a first statement.

        Raises:
            InvalidRequest: they are not over, or some of them were stated as another epoch's.
        """
        rounds = self.epoch_rounds or count.epoch_rounds
        first, last = self.epoch * rounds + 1, (self.epoch + 1) * rounds
        if last > count.round:
            raise InvalidRequest(
                "--epoch",
                f"{self.epoch} ends with round {last}, and the last certified one is {count.round}",
            )
        if (other := count.clash(first, last)) is not None:
            there = other.parameters
            raise InvalidRequest(
                "--epoch-rounds",
                f"makes rounds {first} to {last} of epoch {self.epoch}, and rounds {there.first} "
                f"to {there.last} were stated for epoch {there.epoch}, by {other.tx_id.hex()}",
            )
        return first, last

    def parameters(self, count: Count, *, pays: bool) -> Rewards:
        """For a first statement.

        Raises:
            InvalidRequest: an option is missing, or none that can be.
        """
        from pydantic import ValidationError

        unstated = "is needed: nothing is stated for the epoch yet"
        if self.asset is None:
            raise InvalidRequest("--asset", unstated)
        if self.absent is not None and self.absent > PRESENT:
            raise InvalidRequest("--absent", "is at most 1")
        first, last = self.rounds(count)
        if pays and self.budget is None:
            raise InvalidRequest("--budget", f"{unstated}; --dry-run says what is due without one")
        members = {name: value for name, value in self._named().items() if value is not None}
        try:
            return Rewards(
                epoch=self.epoch,
                first=first,
                last=last,
                **DEFAULTS | {"budget": NO_BUDGET} | members,
                asset=self.asset,
                votes=count.votes(first, last).hex(),
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
        if file is not None:
            _check_writable(file)
        genesis, count = await self._count()
        if self.key is not None and key_id(self.key.public_key) != genesis.operator_id:
            raise InvalidRequest("--key", "is not the key of the city's operator, who alone pays")
        if self.key is not None and self.wish.epoch not in count.stated:
            parameters = self._parameters(count)
            planned = distribute(parameters, count.services(parameters.first, parameters.last))
            # A statement is for good: none is made beside a payment that it makes wrong.
            if not _tell_wrong(compare(planned, count.paid.get(self.wish.epoch, {}))):
                async with connect(self.servers, self.city, self.timeout) as client:
                    await _check_funds(client, genesis, parameters, planned.dues)
                    tx_id = await paying.state(client, genesis, self.key, parameters)
                say(f"stated the parameters of epoch {self.wish.epoch}: {tx_id.hex()}")
                # What counts is what the record has, were another one stated before.
                genesis, count = await self._count()
        stated = count.stated.get(self.wish.epoch)
        parameters = self._parameters(count)
        first, last = parameters.first, parameters.last
        distribution = distribute(parameters, count.services(first, last))
        paid = dict(count.paid.get(self.wish.epoch, {}))
        same_votes = count.votes(first, last).hex() == parameters.votes
        if not same_votes:
            say(
                f"the certificates of rounds {first} to {last} that were read here have other "
                "votes than those that the operator stated: amounts of representatives may differ"
            )
        if count.is_unasked(first, last):
            say(
                f"no challenge for fragments that weigh was over in rounds {first} to {last}: "
                "holders are due nothing"
            )
        if self.key is not None and stated is not None and same_votes:
            await self._pay(genesis, distribution, paid)
        lines = compare(distribution, paid)
        shown = lines
        if explained is not None:
            shown = [line for line in lines if line.key_id == explained]
            shown = shown or [Line(explained, None, None, PaymentState.NOTHING)]
        is_asked = presence_validity(genesis) is not None
        explains = None if explained is None else is_asked
        tell(distribution, shown, stated, same_votes, self.json, explains)
        if file is not None:
            write(file, distribution, lines)
        begun = stated is not None or bool(paid)
        wrong = {PaymentState.WRONG, PaymentState.DUE} if begun else {PaymentState.WRONG}
        return same_votes and not any(line.state in wrong for line in shown)

    async def _count(self) -> tuple[Genesis, Count]:
        counts: list[tuple[Genesis, Count]] = []

        def watch(genesis: Genesis, chain: CommitteeChain) -> Seen:
            count = Count(genesis.operator_id, presence_validity(genesis))
            counts.append((genesis, count))
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

    def _parameters(self, count: Count) -> Rewards:
        """As stated, or else as wished.

        Raises:
            InvalidRequest: an option is not as was stated, or the epoch is not over.
        """
        stated = count.stated.get(self.wish.epoch)
        if stated is None:
            return self.wish.parameters(count, pays=self.key is not None)
        self.wish.check(stated)
        return stated.parameters

    async def _pay(
        self, genesis: Genesis, distribution: Distribution, paid: dict[bytes, Payment]
    ) -> None:
        """Pay what is due yet; adds to ``paid`` what became of it.

        Nothing if somebody was paid something else than is due: all together would get more than
        the budget.
        """
        assert self.key is not None
        parameters = distribution.parameters
        lines = compare(distribution, paid)
        if _tell_wrong(lines):
            return
        dues = [
            line.due for line in lines if line.due is not None and line.state is PaymentState.DUE
        ]
        dues = paying.in_order(dues, genesis.operator_id)
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


def _tell_wrong(lines: Sequence[Line]) -> bool:
    """Say who was paid something else than is due; whether anybody was."""
    wrong = [line.key_id.hex() for line in lines if line.state is PaymentState.WRONG]
    if wrong:
        say(f"nothing more is paid: something else than is due was paid to {', '.join(wrong)}")
    return bool(wrong)


async def _check_funds(
    client: CityClient, genesis: Genesis, parameters: Rewards, dues: Sequence[Due]
) -> None:
    """Hold what is to be paid to what the operator has.

    Raises:
        InvalidRequest: it is more.
    """
    needed = paying.needed(dues, genesis.operator_id)
    has = await paying.balance(client, parameters.asset, genesis.operator_id)
    if has < needed:
        detail = f"has {has} {parameters.asset}, and {needed} are due: nothing was paid"
        raise InvalidRequest("--key", detail)


def _check_writable(file: Path) -> None:
    """Find out before anything is paid that a file cannot be written.

    Raises:
        InvalidRequest: it cannot.
    """
    try:
        file.open("a").close()
    except OSError as error:
        raise InvalidRequest("--csv", f"{file}: cannot be written: {error.strerror}") from None
