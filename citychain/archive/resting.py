"""Resting between the steps of what is done for a city beside sealing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from citychain.ports import Clock

__all__ = ["Rests"]

RESTS: Final = 1.0
"""For so many times as long as a step took it rests."""
RESTS_FULL: Final = 9.0
"""Likewise while more transactions wait than a round takes: the city needs all that there is."""


class Rests:
    """Rests as long as work took, or longer where the city has much to do.

    Args:
        pending: Transactions that wait.
        full: With so many a round is full.
    """

    def __init__(self, pending: Callable[[], int], full: int, clock: Clock) -> None:
        self._pending = pending
        self._full = full
        self._clock = clock

    async def after(self, began: float) -> None:
        """Rest for what was done since then, by the clock's `monotonic`."""
        rests = RESTS_FULL if self._pending() >= self._full else RESTS
        await self._clock.sleep(rests * (self._clock.monotonic() - began))
