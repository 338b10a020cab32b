"""What the pacer makes of a city over time, and a chart of it.

Rounds close as `citychain.city.sequencer` closes them, by the same function of the pending ones;
only that sealing takes no time here. Times are exact: transactions come in even intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Final, NamedTuple

from citychain.config import PacerSettings, get_dynamic_batch_interval

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Closing", "draw", "simulate"]

ROWS_MAX: Final = 40
BAR: Final = 40
"""Width of the longest interval."""
MICROSECOND: Final = timedelta(microseconds=1)


class Closing(NamedTuple):
    """A round that closed."""

    seconds: float
    """When."""
    sealed: int
    """Transactions in it."""
    pending: int
    """Those that wait for the next."""
    interval: float
    """Seconds after which the next one closes."""


def simulate(
    pacer: PacerSettings,
    *,
    pending: int,
    current: timedelta,
    rate: float,
    holding: bool,
) -> Iterator[Closing]:
    """Rounds one after the other, from one on that closed at 0; ends if none closes any more.

    Args:
        pending: Transactions that wait at 0.
        current: The interval at 0.
        rate: Transactions that come each second.
        holding: Some wait for others all the time: rounds close also when nothing came.
    """
    arrivals = _Arrivals(pending, Fraction(rate))
    interval, closed = current, Fraction()
    while True:
        due = closed + Fraction(interval // MICROSECOND, 1_000_000)
        if not holding:
            if (came := arrivals.reach(1, closed)) is None:
                return
            due = max(due, came)
        full = arrivals.reach(pacer.max_tx, closed)
        closed = due if full is None else min(due, full)
        waiting = arrivals.waiting(closed)
        interval = get_dynamic_batch_interval(waiting, interval, pacer)
        sealed = min(waiting, pacer.max_tx)
        arrivals.gone += sealed
        yield Closing(float(closed), sealed, waiting - sealed, interval.total_seconds())


class _Arrivals:
    """Those that wait at 0, and others that come in even intervals."""

    def __init__(self, pending: int, rate: Fraction) -> None:
        self._pending = pending
        self._rate = rate
        self.gone = 0
        """Of all of them, the sealed ones."""

    def waiting(self, at: Fraction) -> int:
        """How many wait at a time."""
        return self._pending + floor(self._rate * at) - self.gone

    def reach(self, count: int, after: Fraction) -> Fraction | None:
        """When so many wait, if none is sealed from ``after`` on; ``None`` for never."""
        if self.waiting(after) >= count:
            return after
        return (count + self.gone - self._pending) / self._rate if self._rate else None


def draw(closings: Sequence[Closing], pacer: PacerSettings) -> Table:
    """A chart of intervals over time; of many rounds so many as there is room for."""
    from rich.table import Table

    table = Table("s", "rounds", "sealed", "pending", "interval", "", box=None)
    for some in _grouped(closings):
        last = some[-1]
        table.add_row(
            f"{last.seconds:.2f}",
            f"{len(some):,}",
            f"{sum(it.sealed for it in some):,}",
            f"{last.pending:,}",
            f"{last.interval:g}",
            "█" * max(1, round(BAR * last.interval / pacer.max_seconds)),
        )
    return table


def _grouped(closings: Sequence[Closing]) -> Iterator[Sequence[Closing]]:
    """Each by itself; or those of equal times together, where that would be too long."""
    if len(closings) <= ROWS_MAX:
        yield from ([it] for it in closings)
        return
    end = closings[-1].seconds or 1.0
    group: list[Closing] = []
    row = 0
    for closing in closings:
        if group and floor(closing.seconds / end * (ROWS_MAX - 1)) != row:
            yield group
            group = []
        row = floor(closing.seconds / end * (ROWS_MAX - 1))
        group.append(closing)
    yield group
