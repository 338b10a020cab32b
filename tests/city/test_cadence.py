"""When one looks again at what other servers wrote."""

from __future__ import annotations

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
