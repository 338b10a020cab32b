"""What a council does about a round: nothing is refused, and more than half must sign."""

from __future__ import annotations

from collections.abc import Sequence

from citychain._native.transactions import Transaction
from citychain.consensus.steps import ApprovedByVotes
from citychain.errors import ConfigurationError
from citychain.hooks.definitions import NoOptions
from citychain.ports import (
    CityContext,
    Judgement,
    RoundContext,
    StateView,
)

__all__ = ["Council", "CouncilOptions"]


class CouncilOptions(NoOptions):
    """The council has no options; the genesis names its members."""


class Council(ApprovedByVotes):
    """A `citychain.ports.ConsensusStep` that takes votes.

    Raises:
        ConfigurationError: the genesis gives members unlike votes.
    """

    def __init__(self, options: CouncilOptions, city: CityContext) -> None:
        if {seat.stake for seat in city.genesis.seats} != {1}:
            raise ConfigurationError(
                f"city {city.slug}: members of a council have one vote each: leave out their stakes"
            )
        super().__init__(city)

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """Refuses nothing; the council is always the same."""
        return Judgement(committee=self.city.genesis.seats)
