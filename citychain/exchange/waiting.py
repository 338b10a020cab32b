"""What is known of the remittances to one city that are not settled; all else is in the ledger.

::

    carried ── tried in vain, and others are left ──▶ parked ── a sweep ──▶ again ── in vain ─┐
       ▲                                                 ▲                                    │
       └── left in the ledger, the oldest first          └────────────────────────────────────┘

So many are in memory and no more. Those that come when there is no room are left in the ledger, and
read from there when there is. What was tried in vain makes room for these: it is parked, which is
to forget all of it but between which rounds such ones are. These rounds are read again from time to
time, by a sweep, and what is still in escrow is tried again; it has room of its own. So nothing
that fails keeps others waiting, and nothing is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["AGAIN_MAX", "SWEEP_SECONDS", "WAITING_MAX", "Place", "Waiting"]

WAITING_MAX: Final = 4_096
"""Remittances to one city that are in memory, some 2 KB each."""
AGAIN_MAX: Final = 1_024
"""Those beside them that were parked, and are tried again."""
SWEEP_SECONDS: Final = 600.0
"""The least between the beginnings of two sweeps: a rejected delivery stays in the other ledger."""


class Place(NamedTuple):
    """Where in the ledger the reading stands."""

    round: int
    past: int
    """How many of those that the round sends to the city are read already."""


class Waiting:
    """Remittances to one city that are not settled."""

    def __init__(self) -> None:
        self.carried: dict[bytes, int] = {}
        """Those in memory, the oldest first, with their rounds."""
        self.again: dict[bytes, int] = {}
        """Likewise those that a sweep found."""
        self.left: Place | None = None
        """From here on they are left in the ledger, if any are."""
        self.parked: tuple[int, int] | None = None
        """Every one that is parked, or in ``again``, is of these rounds."""
        self.changed = asyncio.Event()
        """There may be room, or something to read."""
        self._sweep: Place | None = None
        self._until = 0
        self._found: tuple[int, int] | None = None
        """As ``parked``, once the sweep is over."""
        self._not_before = 0.0

    def __len__(self) -> int:
        return len(self.carried) + len(self.again)

    def take(self, tx_id: bytes, round: int) -> bool:
        """Have one in memory; false if there is no room."""
        if tx_id in self.carried or tx_id in self.again:
            return True
        if len(self.carried) >= WAITING_MAX:
            return False
        self.carried[tx_id] = round
        return True

    def take_again(self, tx_id: bytes, round: int) -> bool:
        """Have one in memory that a sweep found; false if there is no room."""
        if tx_id in self.carried:
            return True
        if tx_id not in self.again:
            if len(self.again) >= AGAIN_MAX:
                return False
            self.again[tx_id] = round
        self._found = _with(self._found, round)
        return True

    def leave(self, place: Place) -> None:
        """Leave what is from a place on in the ledger, for now."""
        self.left = min(self.left or place, place)
        self.changed.set()

    def settled(self, tx_id: bytes) -> None:
        """It is done."""
        self.carried.pop(tx_id, None)
        self.again.pop(tx_id, None)
        self.changed.set()

    def let_go(self, vain: Iterable[bytes], now: float) -> list[bytes]:
        """Park those tried in vain whose room others need, and return them."""
        gone = []
        for tx_id in vain:
            if self.again.pop(tx_id, None) is None:
                if self.left is None or tx_id not in self.carried:
                    continue
                round = self.carried.pop(tx_id)
                if self.parked is None:
                    self._not_before = max(self._not_before, now + SWEEP_SECONDS)
                self.parked, self._found = _with(self.parked, round), _with(self._found, round)
            gone.append(tx_id)
        return gone

    @property
    def reads_on(self) -> bool:
        """Whether to read what is left: for a few there would be much to read."""
        return self.left is not None and len(self.carried) <= WAITING_MAX // 2

    def sweep(self, now: float) -> tuple[Place, int] | None:
        """Where to read what is parked, and to which round; ``None`` if not now."""
        if self._sweep is None and self.parked is not None and now >= self._not_before:
            self._not_before = now + SWEEP_SECONDS
            self._sweep, self._until, self._found = Place(self.parked[0], 0), self.parked[1], None
        if self._sweep is None or len(self.again) > AGAIN_MAX // 2:
            return None
        return self._sweep, self._until

    def swept(self, place: Place) -> None:
        """A sweep has come so far."""
        self._sweep = place
        if place.round > self._until:
            self._sweep, self.parked = None, self._found

    def seconds(self, now: float) -> float | None:
        """How long until the next sweep, if there is one."""
        sleeps = self._sweep is None and self.parked is not None
        return max(self._not_before - now, 0.0) if sleeps else None


def _with(rounds: tuple[int, int] | None, round: int) -> tuple[int, int]:
    """Rounds from a first to a last, with another among them."""
    first, last = rounds or (round, round)
    return min(first, round), max(last, round)
