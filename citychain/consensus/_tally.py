"""The votes for one round. Pure: whether a signature holds is decided before it comes here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from citychain.checkpoint import quorum_stake
from citychain.types import CastVote, Certificate, Quorum, Seat, Vote, VoteOutcome

__all__ = ["Tally"]

LATE_OR_COUNTED: Final = {True: VoteOutcome.LATE, False: VoteOutcome.COUNTED}


class Tally:
    """One round's votes.

    Args:
        named: The committee that the round's checkpoint names.
    """

    def __init__(
        self,
        round: int,
        checkpoint_hash: bytes,
        named: tuple[Seat, ...],
        quorum: Quorum,
    ) -> None:
        self.round = round
        self.checkpoint_hash = checkpoint_hash
        self.named = named
        self.certified = False
        """Its certificate was given: what comes now is late."""
        self.changed = asyncio.Event()
        """Set when there may be a certificate, or the committee is another."""
        self.votes: dict[bytes, bytes] = {}
        """Signatures of this round's checkpoint by key id."""
        self.late: dict[bytes, bytes] = {}
        """Those of `votes` that came after the certificate."""
        self._others: dict[bytes, CastVote] = {}
        self._quorum: Quorum = quorum
        self._seats: Mapping[bytes, int] = dict(named)

    # --- the committee

    def seat(self, committee: tuple[Seat, ...]) -> None:
        """Put a committee in office for this round."""
        self._seats = dict(committee)
        self.changed.set()

    def has_seat(self, key_id: bytes) -> bool:
        """Whether a key's vote counts here."""
        return key_id in self._seats

    @property
    def committee(self) -> tuple[Seat, ...]:
        """In office for this round."""
        return tuple(Seat(key_id, stake) for key_id, stake in self._seats.items())

    # --- votes

    def known(self, cast: CastVote) -> bool:
        """Whether this key's vote for this round's checkpoint is here."""
        return cast.checkpoint_hash == self.checkpoint_hash and cast.vote.key_id in self.votes

    def holds_against(self, cast: CastVote) -> bool:
        """Whether just this vote, for another checkpoint, is here, and is the key's only one."""
        key_id = cast.vote.key_id
        return key_id not in self.votes and self._others.get(key_id) == cast

    def take(self, cast: CastVote) -> tuple[VoteOutcome, CastVote | None]:
        """Take a vote whose signature holds, by a key with a seat.

        Returns:
            What became of it, and the key's vote for another checkpoint where there is one.
            A vote for this round's checkpoint counts even then: whoever verifies the
            certificate sees nothing wrong with it.
        """
        key_id, signature = cast.vote
        if self.known(cast):
            return VoteOutcome.REPEATED, None
        before = self._others.get(key_id)
        if cast.checkpoint_hash != self.checkpoint_hash:
            if key_id in self.votes:
                before = CastVote(
                    self.round, self.checkpoint_hash, Vote(key_id, self.votes[key_id])
                )
            if before is None:
                self._others[key_id] = cast
                return VoteOutcome.OTHER_CHECKPOINT, None
            if before.checkpoint_hash == cast.checkpoint_hash:
                return VoteOutcome.OTHER_CHECKPOINT, None
            return VoteOutcome.EQUIVOCATION, before
        self.add(key_id, signature)
        if before is not None:
            return VoteOutcome.EQUIVOCATION, before
        return LATE_OR_COUNTED[self.certified], None

    def add(self, key_id: bytes, signature: bytes) -> None:
        """Add a vote for this round's checkpoint."""
        self.votes[key_id] = signature
        if self.certified:
            self.late[key_id] = signature
        if self.stake_for >= self.stake_needed:
            self.changed.set()

    @property
    def stake_for(self) -> int:
        """Stake that voted for this round's checkpoint."""
        return sum(stake for key_id, stake in self._seats.items() if key_id in self.votes)

    @property
    def stake_needed(self) -> int:
        """Stake that a certificate takes."""
        return quorum_stake(sum(self._seats.values()), self._quorum)

    def certificate(self) -> Certificate | None:
        """All votes by keys with a seat, sorted by key id, if they are a quorum's."""
        if self.stake_for < self.stake_needed:
            return None
        votes = (Vote(*vote) for vote in sorted(self.votes.items()) if self.has_seat(vote[0]))
        return Certificate(self.round, self.checkpoint_hash, tuple(votes))
