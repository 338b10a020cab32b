"""How many calls each of many callers has open."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, Final

from citychain.errors import Overloaded

__all__ = ["RETRY_AFTER", "OpenCalls"]

RETRY_AFTER: Final = timedelta(seconds=1)


class OpenCalls:
    """Counts calls from their first header until gRPC has sent the last of their answer, so that
    one whose answer nobody reads counts too. Used on one event loop.

    Args:
        each: How many each caller may have open.
        together: How many all of them may. gRPC's own bound counts what is refused, too, for as
            long as nobody reads that: who reads nothing at all would keep everybody out.
    """

    def __init__(self, each: int, together: int) -> None:
        self._each = each
        self._together = together
        self._open: Counter[str] = Counter()
        self._all = 0

    def begin(self, caller: str, context: Any) -> None:
        """Count a call until it ends.

        Args:
            context: The call's, of gRPC.

        Raises:
            Overloaded: the caller has as many open as it may have, or all have.
        """
        if self._open[caller] >= self._each:
            raise Overloaded(f"{caller} has {self._each} calls open: end some", RETRY_AFTER)
        if self._all >= self._together:
            raise Overloaded(f"{self._together} calls are open already", RETRY_AFTER)
        self._open[caller] += 1
        self._all += 1
        context.add_done_callback(lambda _: self._end(caller))

    def _end(self, caller: str) -> None:
        self._open[caller] -= 1
        self._all -= 1
        if not self._open[caller]:
            del self._open[caller]
