"""When one looks again at what other servers wrote."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest

from citychain.city.cadence import EFFORT, LEAST_SECONDS, LONGEST_SECONDS, SHARE, Cadence
from citychain.testing import FakeClock

STEP = 0.05
SOON = LEAST_SECONDS + 2 * STEP


class Storage:
    """Hints at once, or never."""

    def __init__(self, clock: FakeClock, *, hints: bool) -> None:
        self._clock = clock
        self._hints = hints

    async def changed(self, timeout: timedelta) -> None:
        if not self._hints:
            await self._clock.sleep(timeout.total_seconds())


async def rested(clock: FakeClock, cadence: Cadence, *, found: bool) -> float:
    """For how long, in seconds, up to `STEP` more."""
    before, rest = clock.monotonic(), asyncio.create_task(cadence.rest(found=found))
    await asyncio.sleep(0)  # It begins now.
    await clock.advance_until(rest, step=STEP)
    return clock.monotonic() - before


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("hints", [True, False])
async def test_a_look_that_stood_still_is_not_made_up_for(*, hints: bool, found: bool) -> None:
    """A server that was paused for minutes while it looked is back at once."""
    clock = FakeClock()
    storage: Any = Storage(clock, hints=hints)
    cadence = Cadence(storage, clock)
    cadence.begin()
    await clock.advance(300)
    assert await rested(clock, cadence, found=found) <= SOON


@pytest.mark.parametrize("found", [True, False])
async def test_looks_that_take_long_take_a_share_of_the_time(*, found: bool) -> None:
    """However many hints there are: one alone comes at once, where nothing came for long."""
    clock = FakeClock()
    storage: Any = Storage(clock, hints=True)
    cadence = Cadence(storage, clock)
    await clock.advance(1_000)
    rests = []
    for _ in range(6):
        cadence.begin()
        await clock.advance(0.5)
        rests.append(await rested(clock, cadence, found=found))
    # The first look can be one that stood still.
    assert rests[0] <= SOON
    assert all(abs(rest - 0.5 * EFFORT) <= 2 * STEP for rest in rests[2:]), rests


async def test_a_hint_in_a_quiet_city_is_followed_soon_however_long_looks_take() -> None:
    clock = FakeClock()
    hints: Any = Storage(clock, hints=True)
    none: Any = Storage(clock, hints=False)
    cadence = Cadence(none, clock)

    async def look(storage: Any, *, found: bool = False) -> float:
        cadence._storage = storage
        cadence.begin()
        await clock.advance(0.5)
        return await rested(clock, cadence, found=found)

    async def quiet() -> None:
        began = clock.monotonic()
        while clock.monotonic() - began <= (SHARE + 1) * 0.5 * EFFORT:
            await look(none)

    for found in (True, False):
        await quiet()
        assert await look(hints) <= SOON
        # What came is the beginning of more, or was not meant.
        assert await look(hints, found=found) >= 0.5 * EFFORT
        assert await look(hints, found=found) >= 0.5 * EFFORT
    # It was a hint of nothing; the next one may be of something.
    await look(none)
    assert await look(hints) <= SOON


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
