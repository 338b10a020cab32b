"""Where a city's ledger stands, as far as this server has told its watchers.

Rounds become known here one after the other, whoever sealed and approved them: this server's own
sequencer while it leads the city, the storage while another one does. What changes the standing
and what tells of it is one step, so that nothing is told twice or left out when the lead passes
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from citychain.city.metering import UNMETERED, CityMeter
from citychain.city.watchers import Watchers, event_of
from citychain.ports import StoredRound
from citychain.types import Head, SealedNode, State

__all__ = ["Standing"]


class Standing:
    """The latest sealed and the latest approved round of one city.

    Args:
        meter: Told of what is final.
    """

    def __init__(self, watchers: Watchers, meter: CityMeter = UNMETERED) -> None:
        self._watchers = watchers
        self._meter = meter
        self.head = Head()
        """The latest round, with what it leaves; and the latest approved one."""

    def begin(self, head: Head) -> None:
        """The city is opened; nobody has watched yet."""
        self.head = head

    @property
    def certified_round(self) -> int:
        """All rounds up to this one are approved, and were told of."""
        return self.head.certified_round

    def last(self, *, sealed: bool) -> int:
        """The latest round, or the latest approved one."""
        return self.head.round if sealed else self.head.certified_round

    def sealed(self, head: Head, nodes: Sequence[SealedNode]) -> None:
        """The next round is committed, and leaves the ledger so; its nodes, in order of seq."""
        self.head = replace(head, certified_round=self.head.certified_round)
        self._watchers.tell(nodes, final=False)

    def approved(self, round: int, nodes: Sequence[SealedNode]) -> None:
        """The next round has its certificate."""
        self.head = replace(self.head, certified_round=round)
        self._meter.final(nodes)
        self._watchers.tell(nodes, final=True)

    def state_of(self, node: SealedNode) -> State:
        """The present state of a sealed transaction."""
        return event_of(node, final=node.round <= self.certified_round).state


def head_after(stored: StoredRound, epoch: int) -> Head:
    """Where the ledger stands after a round that was read back."""
    return Head(
        round=stored.round,
        time_ms=stored.time_ms,
        epoch=epoch,
        size=stored.size,
        peaks=stored.peaks,
        checkpoint=stored.checkpoint,
        checkpoint_hash=stored.checkpoint_hash,
    )
