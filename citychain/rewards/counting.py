"""What a city's public record says of who is to be paid, and who was.

A fold over certified rounds, in order: nothing else counts. It keeps of each key in which rounds it
was in office, voted and sent a presence, so whatever epoch can be asked for afterwards.

Any votes that are a quorum certify a round, so two who follow a city may have different ones. The
operator states those that it counted; integers are big-endian::

    of a round  SHA-256(round 8 | key ids of those with a vote in its certificate, sorted, 32 each)
    votes       SHA-256("citychain/votes/v1\\0" | of each round from first to last, 32 each)
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from citychain._native.transactions import Transaction
from citychain.city.replay import PublishedRound
from citychain.committee import CommitteeChain
from citychain.errors import VerificationError
from citychain.genesis import Genesis
from citychain.holding.reading import stated
from citychain.holding.recount import Recount
from citychain.rewards.calculation import Role, Service
from citychain.statements import Rewards
from citychain.types import Verdict

__all__ = ["Count", "Payment", "Stated", "counting", "presence_validity"]

_VOTES: Final = b"citychain/votes/v1\0"
_DIGEST: Final = 32


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
        validity: For how many rounds a presence stands; ``None`` where the city asks for none.
    """

    def __init__(self, operator: bytes, validity: int | None = None) -> None:
        self._operator = operator
        self._validity = validity
        self._recount = Recount(operator)
        self._in_office: defaultdict[bytes, _Rounds] = defaultdict(_Rounds)
        self._voted: defaultdict[bytes, _Rounds] = defaultdict(_Rounds)
        self._present: defaultdict[bytes, _Rounds] = defaultdict(_Rounds)
        self._votes = bytearray()
        """A digest of each round."""
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
        votes = round.to_bytes(8, "big") + b"".join(sorted(voters))
        self._votes += hashlib.sha256(votes).digest()
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
        # What was stated before its end nobody could have counted.
        if parameters.last < round and self.clash(parameters.first, parameters.last) is None:
            self.stated.setdefault(parameters.epoch, Stated(tx_id, round, parameters))

    def clash(self, first: int, last: int) -> Stated | None:
        """A distribution that was stated for some of these rounds: no other one counts."""
        return next(
            (
                it
                for it in self.stated.values()
                if it.parameters.first <= last and first <= it.parameters.last
            ),
            None,
        )

    def votes(self, first: int, last: int) -> bytes:
        """Digest of who voted in these rounds.

        Raises:
            ValueError: the last one was not taken yet.
        """
        self._is_taken(last)
        part = self._votes[_DIGEST * (first - 1) : _DIGEST * last]
        return hashlib.sha256(_VOTES + part).digest()

    @property
    def epoch_rounds(self) -> int:
        """Rounds of an epoch, if nobody says otherwise: as stated last, or else those from one
        challenge to the next, so that one is over in each epoch but the first."""
        if self.stated:
            parameters = max(self.stated.values(), key=lambda it: it.parameters.last).parameters
            return parameters.last - parameters.first + 1
        return self._recount.rules.challenge_rounds

    def is_unasked(self, first: int, last: int) -> bool:
        """Whether there are holders, and nothing that weighs was asked of them in challenges that
        were over in these rounds: they get nothing."""
        return bool(self._recount.holders) and not self._recount.announced(first, last)

    def services(self, first: int, last: int) -> list[Service]:
        """What keys did in these rounds, in order of key id: whoever was in office, and whoever
        else was asked for chunks.

        Raises:
            ValueError: the last one was not taken yet.
        """
        self._is_taken(last)
        found: dict[bytes, Service] = {}
        announced = self._recount.announced(first, last)
        for key_id in self._recount.holders:
            asked, answered = self._recount.tally(key_id, first, last)
            if asked:
                proved = self._recount.proved(key_id, first, last)
                share = proved / announced if announced else proved
                present = self._is_present(key_id, first, last)
                found[key_id] = Service(key_id, Role.LIGHT, answered, asked, present, share)
        for key_id, rounds in self._in_office.items():
            if of := rounds.within(first, last):
                voted = _within(self._voted, key_id, first, last)
                present = self._is_present(key_id, first, last)
                found[key_id] = Service(key_id, Role.FULL, voted, of, present)
        return sorted(found.values())

    def _is_taken(self, last: int) -> None:
        if last > self.round:
            raise ValueError(f"round {last} was not taken yet: the last one is {self.round}")

    def _is_present(self, key_id: bytes, first: int, last: int) -> bool:
        if self._validity is None:
            return True
        return _within(self._present, key_id, max(1, first - self._validity), last) > 0


def _within(rounds: defaultdict[bytes, _Rounds], key_id: bytes, first: int, last: int) -> int:
    return rounds[key_id].within(first, last) if key_id in rounds else 0


def presence_validity(genesis: Genesis) -> int | None:
    """For how many rounds a presence stands in a city; ``None`` if it asks for none."""
    options = genesis.consensus_options
    if not genesis.consensus.startswith("poh-pop/") or options.get("policy", "none") == "none":
        return None
    return int(options["validity_rounds"])


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
