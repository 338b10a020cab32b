"""How often each of many callers may do something."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Final

__all__ = ["Rates"]

TRACKED_MAX: Final = 65_536
"""Callers that are told apart at a time, about 10 MiB. Past that the one that was quiet longest is
forgotten, which gives it back what it had used."""

_SECOND: Final = 1_000_000_000


class Rates:
    """A token bucket for each caller, as the generic cell rate algorithm has it (ITU-T I.371): of
    each is kept the moment until which what it did is paid for.

    What is taken may be more than there is: who has taken much waits until it is paid for.

    Args:
        per_second: What each may take on average.
        burst: What that brings in this time may be taken at once, and one in any case.
        monotonic: Seconds from an arbitrary start.
    """

    def __init__(self, per_second: float, burst: timedelta, monotonic: Callable[[], float]) -> None:
        # Whole nanoseconds: sums of fractions are a little more or less than what they stand for.
        self._each = int(_SECOND / per_second)
        self._room = max(burst // timedelta(microseconds=1) * 1_000, self._each)
        self._monotonic = monotonic
        self._paid_until: OrderedDict[Hashable, int] = OrderedDict()

    def take(self, caller: Hashable, count: int = 1) -> timedelta:
        """Take so many; if the caller has not one left, nothing, and how long to wait is
        returned."""
        return self._take(caller, count, self._each)

    def take_more(self, caller: Hashable, count: int) -> timedelta:
        """Take so many beside one that was taken before; if more than all was taken since, nothing,
        and how long to wait is returned."""
        return self._take(caller, count, 0) if count else timedelta()

    def _take(self, caller: Hashable, count: int, least: int) -> timedelta:
        now = int(self._monotonic() * _SECOND)
        paid_until = max(self._paid_until.get(caller, now), now)
        if (over := paid_until + least - now - self._room) > 0:
            return timedelta(milliseconds=1 + over // 1_000_000)
        self._paid_until[caller] = paid_until + count * self._each
        self._paid_until.move_to_end(caller)
        if len(self._paid_until) > TRACKED_MAX:
            self._paid_until.popitem(last=False)
        return timedelta()
