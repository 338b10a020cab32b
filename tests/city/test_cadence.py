"""When one looks again at what other servers wrote."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest

from citychain.city.cadence import LONGEST_SECONDS, Cadence
from citychain.testing import FakeClock


class Storage:
    """Hints at once, or never."""

    def __init__(self, clock: FakeClock, *, hints: bool) -> None:
        self._clock = clock
        self._hints = hints

    async def changed(self, timeout: timedelta) -> None:
        if not self._hints:
            await self._clock.sleep(timeout.total_seconds())


@pytest.mark.parametrize("hints", [True, False])
async def test_a_look_that_stood_still_is_not_made_up_for(*, hints: bool) -> None:
    """A server that was paused for minutes while it looked is back within seconds."""
    clock = FakeClock()
    storage: Any = Storage(clock, hints=hints)
    cadence = Cadence(storage, clock)
    cadence.begin()
    await clock.advance(300)
    before = clock.monotonic()
    await clock.advance_until(cadence.rest(found=True), step=1)
    assert clock.monotonic() - before <= LONGEST_SECONDS + 1


async def looks(clock: FakeClock, *, together: bool, quiet: float) -> list[float]:
    """When one looks three times after so many seconds in which nothing came."""
    storage: Any = Storage(clock, hints=False)
    cadence = Cadence(storage, clock, together=together)
    await clock.sleep(quiet)
    times = []
    for _ in range(3):
        cadence.begin()
        await cadence.rest(found=False)
        times.append(clock.monotonic())
    return times


async def test_who_hears_nothing_looks_when_all_others_do() -> None:
    clock = FakeClock()

    async def all_looks(*, together: bool) -> list[list[float]]:
        quiet = [clock.monotonic() + 60 + number for number in range(5)]
        each = (looks(clock, together=together, quiet=seconds) for seconds in quiet)
        return await clock.advance_until(asyncio.gather(*each), step=0.5)

    for times in await all_looks(together=True):
        assert all(time % LONGEST_SECONDS == 0 for time in times)
        assert [b - a for a, b in itertools.pairwise(times)] == [LONGEST_SECONDS] * 2
    alone = await all_looks(together=False)
    assert len({time % LONGEST_SECONDS for times in alone for time in times}) > 1
