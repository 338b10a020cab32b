"""What a city counts of itself, for whoever runs the server; `citychain.metrics` keeps it.

Telling a meter costs microseconds, never waits and never fails, so the city tells it from the
event loop, between two steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol, TypeAlias

from citychain.handler import Received, Refusal
from citychain.ports import StoredRound
from citychain.types import SealedNode, SealedRound

__all__ = ["UNMETERED", "CityMeter", "Step"]

Step: TypeAlias = Literal[
    "check", "append", "decide", "seal", "examine", "commit", "approve", "certify"
]
"""What takes a city's time, in the order in which it comes to a transaction."""


class CityMeter(Protocol):
    """Counts for one city. Used on one event loop."""

    def timed(self, step: Step) -> AbstractContextManager[None]:
        """Time a step; one that raises is counted as failed, one that is cancelled not at all."""

    def answered(self, results: Sequence[Received | Refusal]) -> None:
        """Transactions that were submitted have these answers."""

    def overloaded(self, transactions: int) -> None:
        """So many were sent back, for there is no room."""

    def sealed(self, round: SealedRound) -> None:
        """This server committed a round."""

    def approved(self, round: StoredRound, nodes: Sequence[SealedNode]) -> None:
        """A round that this server leads has its certificate."""

    def final(self, nodes: Sequence[SealedNode]) -> None:
        """A round has its certificate, whoever leads: the transactions of these nodes are final."""

    def term_began(self) -> None:
        """This server leads the city, which others serve too."""

    def lease_lost(self) -> None:
        """It leads no more: another server does, or nobody for now."""

    def archived(self, round: int) -> None:
        """All rounds up to this one are archived; this server archives the others."""


class _Unmetered:
    """Counts nothing."""

    def timed(self, step: Step) -> AbstractContextManager[None]:
        return nullcontext()

    def answered(self, results: Sequence[Received | Refusal]) -> None:
        pass

    def overloaded(self, transactions: int) -> None:
        pass

    def sealed(self, round: SealedRound) -> None:
        pass

    def approved(self, round: StoredRound, nodes: Sequence[SealedNode]) -> None:
        pass

    def final(self, nodes: Sequence[SealedNode]) -> None:
        pass

    def term_began(self) -> None:
        pass

    def lease_lost(self) -> None:
        pass

    def archived(self, round: int) -> None:
        pass


UNMETERED: Final[CityMeter] = _Unmetered()
"""Where nobody asks for metrics."""
