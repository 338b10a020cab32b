"""What built-in consensus steps have in common, and others may begin with.

`SealedByHistory` seals rounds by proof of history; `ApprovedByVotes` also has them approved by
the votes of a committee. A subclass of the latter writes `judge`, and no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from citychain._native.transactions import Transaction
from citychain.consensus.votes import VoteBox
from citychain.crypto import poh
from citychain.ports import (
    CityContext,
    CommitteeStatus,
    Judgement,
    RoundContext,
    StateView,
    StoredRound,
)
from citychain.types import CastVote, Certificate, Objection, PohEntry, VoteOutcome

__all__ = ["ApprovedByVotes", "SealedByHistory"]


class SealedByHistory(ABC):
    """A consensus step whose rounds take the hashes that the genesis asks for."""

    def __init__(self, city: CityContext) -> None:
        self.city = city

    @abstractmethod
    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """See `citychain.ports.ConsensusStep.judge`."""

    async def seal(self, previous_poh: bytes, mixin: bytes) -> PohEntry:
        """See `citychain.ports.ConsensusStep.seal`."""
        num_hashes = self.city.genesis.num_hashes
        digest = await self.city.compute(poh.extend, previous_poh, num_hashes, mixin)
        return PohEntry(previous_poh, num_hashes, mixin, digest)

    @abstractmethod
    async def approve(self, round: StoredRound) -> Certificate:
        """See `citychain.ports.ConsensusStep.approve`."""


class ApprovedByVotes(SealedByHistory):
    """A `citychain.ports.SupportsVotes`: representatives vote, here and elsewhere.

    A server enters it when it opens the city, and leaves it when the city is closed.
    """

    def __init__(self, city: CityContext) -> None:
        super().__init__(city)
        self._votes = VoteBox(city)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End what goes on by itself."""
        await self._votes.close()

    async def resume(self) -> None:
        """See `citychain.ports.resumes`."""
        await self._votes.resume()

    async def approve(self, round: StoredRound) -> Certificate:
        """Wait for the votes of a quorum."""
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

    async def recovers(self, tx_id: bytes) -> bool:
        """See `citychain.ports.SupportsVotes.recovers`."""
        return await self._votes.recovers(tx_id)

    async def committee(self) -> CommitteeStatus:
        """See `citychain.ports.SupportsVotes.committee`."""
        return await self._votes.committee()
