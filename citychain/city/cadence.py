"""When to look again at what other servers wrote.

Soon after something came, ever later while nothing does, and at once when the storage hints that
there is something: a city in which nothing happens costs a look every few seconds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from citychain.ports import CityStorage, Clock

__all__ = ["Cadence"]

LEAST_SECONDS: Final = 0.1
"""Between two looks, however much is going on."""
LONGEST_SECONDS: Final = 5.0
SHARE: Final = 10
"""A look comes after a tenth of the time in which nothing came."""
EFFORT: Final = 5
"""Looking takes about a sixth of the time at most."""


class Cadence:
    """The rhythm of one who looks. Used by one task.

    Args:
        together: Once nothing comes any more, look when the others of this process do: where one
            query answers them all.
    """

    def __init__(self, storage: CityStorage, clock: Clock, *, together: bool = False) -> None:
        self._storage = storage
        self._clock = clock
        self._together = together
        self._came = self._began = clock.monotonic()
        self._took = 0.0
        """The last look, in seconds."""
        self._hurried = False
        """By a hint, after which nothing was found yet."""

    def begin(self) -> None:
        """A look begins."""
        self._began = self._clock.monotonic()

    async def rest(self, *, found: bool) -> None:
        """After a look, wait until it is time for the next."""
        now = self._clock.monotonic()
        # One look in which the process, or the storage, stood still says nothing of the effort,
        # nor of the city.
        before, self._took = self._took, now - self._began
        effort = min(before, self._took)
        self._came += self._took - effort
        if found:
            self._came, self._hurried = now, False
        least = min(max(LEAST_SECONDS, EFFORT * effort), LONGEST_SECONDS)
        quiet = (now - self._came) / SHARE
        longest = min(max(least, quiet), LONGEST_SECONDS)
        if self._together and longest == LONGEST_SECONDS:
            # To the next tick of a clock that all have.
            longest = max(least, LONGEST_SECONDS - now % LONGEST_SECONDS)
        await self._storage.changed(timedelta(seconds=longest))
        hinted = self._clock.monotonic() < now + longest
        # A busy city gives a hint at every write. One that was quiet is looked at soon, once.
        if hinted and quiet >= least and not self._hurried:
            least, self._hurried = LEAST_SECONDS, True
        elif not hinted:
            self._hurried = False
        early = now + least - self._clock.monotonic()
        if early > 0:
            await self._clock.sleep(early)
