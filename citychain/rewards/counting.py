"""What a city's public record says of who is to be paid, and who was.

A fold over certified rounds, in order: nothing else counts. It keeps of each key in which rounds it
was in office, voted and was present, so whatever epoch can be asked for afterwards.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from citychain._native.transactions import Transaction
from citychain.city.replay import PublishedRound
from citychain.committee import CommitteeChain
from citychain.errors import VerificationError
from citychain.holding.reading import stated
from citychain.holding.recount import Recount
from citychain.rewards.calculation import Role, Service
from citychain.statements import Rewards
from citychain.types import Verdict

__all__ = ["Count", "Payment", "Stated", "counting"]


class Payment(NamedTuple):
    """A reward that was paid."""

    tx_id: bytes
    round: int
    asset: str
    amount: int


class Stated(NamedTuple):
    """The parameters of an epoch's distribution, as the operator stated them first."""

    tx_id: bytes
    round: int
    parameters: Rewards


class _Rounds:
    """Rounds in ascending order."""

    def __init__(self) -> None:
        self._rounds = array("Q")

    def add(self, round: int) -> None:
        if not self._rounds or self._rounds[-1] != round:
            self._rounds.append(round)

    def within(self, first: int, last: int) -> int:
        """How many of them are from ``first`` to ``last``."""
        return bisect_right(self._rounds, last) - bisect_left(self._rounds, first)


class Count:
    """What the rounds that were taken say.

    Args:
        operator: Key id of the city's operator.
    """

    def __init__(self, operator: bytes) -> None:
        self._operator = operator
        self._recount = Recount(operator)
        self._in_office: defaultdict[bytes, _Rounds] = defaultdict(_Rounds)
        self._voted: defaultdict[bytes, _Rounds] = defaultdict(_Rounds)
        self._present: defaultdict[bytes, _Rounds] = defaultdict(_Rounds)
        self.round = 0
        """The last one that was taken."""
        self.stated: dict[int, Stated] = {}
        """By epoch."""
        self.paid: defaultdict[int, dict[bytes, Payment]] = defaultdict(dict)
        """By epoch and key."""

    def take(
        self,
        round: int,
        time_ms: int,
        checkpoint_hash: bytes,
        office: Collection[bytes],
        voters: Collection[bytes],
        transactions: Sequence[Transaction],
        verdicts: Sequence[Verdict],
    ) -> None:
        """Move on to after a certified round.

        Args:
            office: Key ids of the committee that certifies it.
            voters: Key ids of those whose vote is in its certificate.
            transactions: Those that it seals, in order; any that follow are left out.
            verdicts: Its record's.

        Raises:
            ValueError: it is not the next round.
        """
        statements = stated(transactions, verdicts)
        self._recount.take(round, time_ms, checkpoint_hash, statements)
        self.round = round
        for key_id in office:
            self._in_office[key_id].add(round)
        for key_id in voters:
            self._voted[key_id].add(round)
        for tx_id, author, content_type, content in statements:
            if author == self._operator and content_type == Rewards.CONTENT_TYPE:
                self._state(tx_id, round, content)
        for it, verdict in zip(transactions, verdicts, strict=False):
            if verdict is not None:
                continue
            if it.action == "presence":
                self._present[it.author].add(round)
            elif (reward := it.reward) is not None:
                payment = Payment(it.tx_id, round, reward.asset, reward.amount)
                self.paid[reward.epoch][reward.to] = payment

    def _state(self, tx_id: bytes, round: int, content: bytes) -> None:
        try:
            parameters = Rewards.from_bytes(content)
        except VerificationError:
            return
        self.stated.setdefault(parameters.epoch, Stated(tx_id, round, parameters))

    def services(self, first: int, last: int) -> list[Service]:
        """What keys did in these rounds, in order of key id: whoever was in office, and whoever
        else was asked for chunks.

        Raises:
            ValueError: the last one was not taken yet.
        """
        if last > self.round:
            raise ValueError(f"round {last} was not taken yet: the last one is {self.round}")
        found = {}
        for key_id in self._recount.holders:
            asked, answered = self._recount.tally(key_id, first, last)
            if asked:
                found[key_id] = (Role.LIGHT, answered, asked)
        for key_id, rounds in self._in_office.items():
            if of := rounds.within(first, last):
                found[key_id] = (Role.FULL, _within(self._voted, key_id, first, last), of)
        return [
            Service(key_id, role, done, of, _within(self._present, key_id, first, last) > 0)
            for key_id, (role, done, of) in sorted(found.items())
        ]


def _within(rounds: defaultdict[bytes, _Rounds], key_id: bytes, first: int, last: int) -> int:
    return rounds[key_id].within(first, last) if key_id in rounds else 0


def counting(count: Count, chain: CommitteeChain) -> Callable[[PublishedRound, bool], None]:
    """What an audit tells of each round: those that are certified are taken.

    Args:
        chain: The audit's own.
    """

    def seen(published: PublishedRound, certified: bool) -> None:
        stored, decided = published.stored, published.record
        if not certified or stored.certificate is None:
            return
        count.take(
            decided.round,
            decided.time_ms,
            stored.checkpoint_hash,
            [seat.key_id for seat in chain.in_office(decided.round).seats],
            [vote.key_id for vote in stored.certificate.votes],
            published.transactions,
            decided.verdicts,
        )

    return seen
