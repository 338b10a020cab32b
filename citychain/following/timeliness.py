"""Whether a round is of about now, by what this process saw with its own clock.

A server could date a round back, to bring something in before it expires, or ahead. Ahead
is plain to see. Dated back is a round that must have been sealed after a moment at which
there was nothing more to get, and says that it was sealed before: such moments are when the
server let us wait for the next round, and when many rounds have come one after the other
since. A backlog that waited here while we were away is older, and passes.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from citychain.ports import Clock

__all__ = ["CLOCK_BOUND_MS", "Timeliness"]

CLOCK_BOUND_MS: Final = 30_000
"""How far a round's time may be off this machine's clock."""
WAITED_SECONDS: Final = 2.0
"""So long no backlog makes itself wait for."""
BACKLOG_MAX: Final = 64
"""More rounds without a certificate than any city lets come together."""


class Timeliness:
    """Judges the times of the rounds that come without a certificate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrivals: deque[int] = deque(maxlen=BACKLOG_MAX)
        self.sealed_after_ms = 0
        """What comes next was sealed after this moment; 0 while none is known."""

    def arrived(self, waited: float) -> None:
        """A round has come, after so many seconds of waiting for it."""
        now_ms = self._clock.time_ms()
        if waited >= WAITED_SECONDS:
            self._note(now_ms - int(waited * 1_000))
        if len(self._arrivals) == BACKLOG_MAX:
            self._note(self._arrivals[0])
        self._arrivals.append(now_ms)

    def _note(self, moment_ms: int) -> None:
        self.sealed_after_ms = max(self.sealed_after_ms, moment_ms)

    def ahead(self, time_ms: int) -> str | None:
        """Why a round's time cannot be yet; it can be later."""
        off_ms = time_ms - self._clock.time_ms()
        return f"it is {off_ms} ms ahead of our clock" if off_ms > CLOCK_BOUND_MS else None

    def back(self, time_ms: int) -> str | None:
        """Why a round must be later than it says."""
        off_ms = self.sealed_after_ms - time_ms
        if off_ms <= CLOCK_BOUND_MS:
            return None
        return f"it is dated {off_ms} ms before a moment when there was no such round"
