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
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._open: Counter[str] = Counter()

    def begin(self, caller: str, context: Any) -> None:
        """Count a call until it ends.

        Args:
            context: The call's, of gRPC.

        Raises:
            Overloaded: the caller has as many open as it may have.
        """
        if self._open[caller] >= self._each:
            raise Overloaded(f"{caller} has {self._each} calls open: end some", RETRY_AFTER)
        self._open[caller] += 1
        context.add_done_callback(lambda _: self._end(caller))

    def _end(self, caller: str) -> None:
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]
