"""A consensus step in which the test says who is elected, recovered and in office."""

from __future__ import annotations

from collections.abc import Sequence

from citychain import checkpoint
from citychain._native.transactions import Transaction
from citychain.consensus.steps import SealedByHistory
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.ports import CityContext, Judgement, RoundContext, StateView, StoredRound
from citychain.types import Certificate, Seat, Vote

__all__ = ["Electing", "Members", "Offices", "seats_of"]

Members = Sequence[SigningKey]
"""Of one stake each."""


def seats_of(members: Members) -> tuple[Seat, ...]:
    return tuple(sorted(Seat(key_id(member.public_key), 1) for member in members))


class Offices:
    """Who is in office in a city, from which round on."""

    def __init__(self, first: Members) -> None:
        self.changes = [(1, first)]
        self.named: dict[int, tuple[Seat, ...]] = {}
        """By round that is sealed."""
        self.elected: dict[int, Members] = {}
        """By round."""

    def in_office(self, round: int) -> Members:
        return [members for first, members in self.changes if first <= round][-1]


class Electing(SealedByHistory):
    """All in office sign; nobody judges anything."""

    def __init__(self, offices: Offices, city: CityContext) -> None:
        super().__init__(city)
        self._offices = offices

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        elected = self._offices.elected.get(round.round)
        named = self._offices.named.get(round.round)
        return Judgement(
            committee=named or seats_of(self._offices.in_office(round.round)),
            next_committee=None if elected is None else seats_of(elected),
        )

    async def approve(self, round: StoredRound) -> Certificate:
        digest = round.checkpoint_hash
        message = checkpoint.vote_message(self.city.genesis.id, round.round, digest)
        votes = [
            Vote(
                key_id(member.public_key),
                member.sign(message, checkpoint.VOTE_CONTEXT, deterministic=True),
            )
            for member in self._offices.in_office(round.round)
        ]
        return Certificate(round.round, digest, tuple(votes))
