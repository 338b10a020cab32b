"""A clock that a test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable
from typing import Final, TypeVar

__all__ = ["FakeClock"]

T = TypeVar("T")

REAL_SECONDS: Final = 0.001
"""Between the steps of `FakeClock.advance_until`."""


class FakeClock:
    """`citychain.ports.Clock` that stands still until `advance` is called.

    Args:
        time_ms: Milliseconds since 1970 UTC at the beginning.
    """

    def __init__(self, time_ms: int = 1_800_000_000_000) -> None:
        self._start_ms = time_ms
        self._now = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self._start_ms + round(self._now * 1_000)

    def jump(self, seconds: float) -> None:
        """Move the time of day alone by so much, back with a negative number, as by hand: who
        sleeps does not notice."""
        self._start_ms += round(seconds * 1_000)

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced so far."""
        if seconds <= 0:
            return
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
        await sleeper

    @property
    def sleepers(self) -> int:
        """Number of tasks that wait for the clock."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move on, waking whoever is due, in order; each gets its turn before the next."""
        until = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, sleeper = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not sleeper.done():
                sleeper.set_result(None)
                await asyncio.sleep(0)
        self._now = until
        await asyncio.sleep(0)

    async def advance_until(self, done: Awaitable[T], step: float = 0.1) -> T:
        """Move on, step by step, until something is done; returns its result.

        For what goes on by itself meanwhile, in threads and over sockets: each step leaves it a
        moment of real time.
        """
        task = asyncio.ensure_future(done)
        try:
            while not task.done():
                await self.advance(step)
                await asyncio.wait({task}, timeout=REAL_SECONDS)
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
