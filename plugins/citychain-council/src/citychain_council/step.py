"""What a council does about a round: nothing is refused, and more than half must sign."""

from __future__ import annotations

from collections.abc import Sequence

from citychain._native.transactions import Transaction
from citychain.consensus.votes import VoteBox
from citychain.crypto import poh
from citychain.errors import ConfigurationError
from citychain.hooks.definitions import NoOptions
from citychain.ports import (
    CityContext,
    CommitteeStatus,
    Judgement,
    RoundContext,
    StateView,
    StoredRound,
)
from citychain.types import CastVote, Certificate, Objection, PohEntry, VoteOutcome

__all__ = ["Council", "CouncilOptions"]


class CouncilOptions(NoOptions):
    """The council has no options; the genesis names its members."""


class Council:
    """A `citychain.ports.ConsensusStep` that takes votes.

    Raises:
        ConfigurationError: the genesis gives members unlike votes.
    """

    def __init__(self, options: CouncilOptions, city: CityContext) -> None:
        if {seat.stake for seat in city.genesis.seats} != {1}:
            raise ConfigurationError(
                f"city {city.slug}: members of a council have one vote each: leave out their stakes"
            )
        self._city = city
        self._votes = VoteBox(city)

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """Refuses nothing; the council is always the same."""
        return Judgement(committee=self._city.genesis.seats)

    async def seal(self, previous_poh: bytes, mixin: bytes) -> PohEntry:
        """See `citychain.ports.ConsensusStep.seal`."""
        num_hashes = self._city.genesis.num_hashes
        digest = await self._city.compute(poh.extend, previous_poh, num_hashes, mixin)
        return PohEntry(previous_poh, num_hashes, mixin, digest)

    async def approve(self, round: StoredRound) -> Certificate:
        """Wait for the votes of more than half."""
        return await self._votes.approve(round)

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        """See `citychain.ports.SupportsVotes.cast`."""
        return await self._votes.cast(votes)

    async def object(self, objections: Sequence[Objection]) -> None:
        """See `citychain.ports.SupportsVotes.object`."""
        await self._votes.object(objections)

    async def recover(self, envelope: bytes, public_keys: Sequence[bytes]) -> None:
        """See `citychain.ports.SupportsVotes.recover`."""
        await self._votes.recover(envelope, public_keys)

    async def committee(self) -> CommitteeStatus:
        """See `citychain.ports.SupportsVotes.committee`."""
        return await self._votes.committee()
