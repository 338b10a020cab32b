"""The port of a consensus step: when a round is proven and approved, and by whose votes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction
    from citychain.ports.context import RoundContext, StateView
    from citychain.ports.storage import StoredRound
    from citychain.types import (
        CastVote,
        Certificate,
        ConflictingVotes,
        Objection,
        PohEntry,
        Rejection,
        Seat,
        VoteOutcome,
    )

__all__ = [
    "CommitteeStatus",
    "ConsensusStep",
    "Judgement",
    "RepresentativeStatus",
    "SupportsVotes",
    "resumes",
    "takes_votes",
]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What consensus says of a round's candidates before they are ordered."""

    committee: tuple[Seat, ...]
    """In office for this round: named in the checkpoint, certifies it."""
    next_committee: tuple[Seat, ...] | None = None
    """Set in the last round of an epoch."""
    refused: Mapping[int, Rejection] = field(default_factory=dict)
    """By index into the candidates."""
    pops: Sequence[bytes] | None = None
    """For each candidate the 32-byte hash of its judgement of place; ``None``
    where the city judges none."""
    actions: frozenset[str] = frozenset()
    """Names of the actions beyond ``data`` and ``transfer`` that the step gives a meaning
    to; transactions with others are rejected as ``UNSUPPORTED_ACTION``."""
    effects: Callable[[Sequence[Transaction]], Mapping[str, bytes]] | None = None
    """Values of the ``$``-objects of the step's own that the round writes, given those
    candidates that are approved, in order. Pure; called once, in a worker thread."""


class ConsensusStep(Protocol):
    """Decides when a round is proven and approved.

    A step that takes votes from elsewhere is a `SupportsVotes` too.
    """

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """Judge candidates and name the committee. Pure.

        Who repeats a round has its candidates in the order that the DAG rule gave them
        afterwards: what is said of each must not depend on their order.
        """

    async def seal(self, previous_poh: bytes, mixin: bytes) -> PohEntry:
        """The round's proof-of-history entry over ``mixin``, the hash of all else in
        the checkpoint."""

    async def approve(self, round: StoredRound) -> Certificate:
        """Return a certificate by a quorum of the round's committee.

        Called once the round is durable, for several rounds at once and in any
        order; again for the same round after a restart, so a representative
        that voted must repeat that vote. A key signs one checkpoint of a round, ever:
        the one that the storage has. It may wait for as long as the quorum
        takes: votes can come from other processes. It is cancelled at shutdown.
        """


@dataclass(frozen=True, slots=True)
class RepresentativeStatus:
    """A member of the committee in office."""

    key_id: bytes
    stake: int
    last_round: int
    """The latest round that it voted for since the city was opened, 0 for none."""
    objection: Objection | None = None
    """Its latest; ``None`` once it votes again."""


@dataclass(frozen=True, slots=True)
class CommitteeStatus:
    """Who is in office, and what the city waits for."""

    round: int
    """The first round that waits for its certificate, or the next one."""
    members: Sequence[RepresentativeStatus]
    stake_for: int
    """Stake that signed that round so far."""
    stake_needed: int
    sealed_round: int
    """The latest round."""
    approved_round: int
    """All rounds up to this one have certificates that are durable."""
    conflicting: Sequence[ConflictingVotes] = ()
    """Proofs that a key signed two checkpoints of one round."""


def takes_votes(step: ConsensusStep) -> SupportsVotes | None:
    """The step if it is a `SupportsVotes` too.

    It is asked, not inspected: what stands in front of a step for a test answers for it.
    """
    offered = (getattr(step, name, None) for name in ("cast", "object", "recover", "committee"))
    return cast("SupportsVotes", step) if all(map(callable, offered)) else None


def resumes(step: ConsensusStep) -> Callable[[], Awaitable[None]] | None:
    """What a step that remembers anything of the ledger offers besides, ``resume``; it is asked,
    not inspected.

    Awaited before a server begins to seal a city's rounds, when it has ceased to, and while it
    does not where another one may have changed the committee: what the step knows of the ledger is
    to be read anew when it is next asked, and what it does by itself ends. No round is being
    judged or approved meanwhile.
    """
    offered = getattr(step, "resume", None)
    return cast("Callable[[], Awaitable[None]]", offered) if callable(offered) else None


@runtime_checkable
class SupportsVotes(Protocol):
    """A consensus step whose representatives may be elsewhere."""

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        """Take votes, authenticated by their signatures; one outcome each, in order."""

    async def object(self, objections: Sequence[Objection]) -> None:
        """Take objections of representatives; those that do not verify are dropped."""

    async def recover(self, envelope: bytes, public_keys: Sequence[bytes]) -> None:
        """Put the committee of an operator's recovery in office.

        Args:
            envelope: The signed transaction with the recovery.
            public_keys: Of the new committee, in order of its seats.

        Raises:
            InvalidRequest: it is not the operator's, or does not fit where the ledger stands.
        """

    async def recovers(self, tx_id: bytes) -> bool:
        """Whether `recover` put the recovery of this transaction in force, even if another or
        an election has ended it.

        The ledger may name no committee that receipts do not lead to: what did not come that
        way is not let into it.
        """

    async def committee(self) -> CommitteeStatus:
        """Who is in office now."""
