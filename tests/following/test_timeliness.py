"""What a clock can show of when a round was sealed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from citychain.following.timeliness import BACKLOG_MAX, CLOCK_BOUND_MS, WAITED_SECONDS, Timeliness
from citychain.testing import FakeClock


async def test_a_backlog_may_be_old_and_what_was_waited_for_may_not() -> None:
    clock = FakeClock()
    times = Timeliness(clock)
    hour_ago = clock.time_ms() - 3_600_000
    for _ in range(BACKLOG_MAX):
        times.arrived(0.01)
        assert times.back(hour_ago) is None
    await clock.advance(WAITED_SECONDS)
    began = clock.time_ms() - int(WAITED_SECONDS * 1_000)
    times.arrived(WAITED_SECONDS)
    assert times.back(hour_ago)
    assert times.back(began - CLOCK_BOUND_MS - 1)
    assert times.back(began - CLOCK_BOUND_MS) is None


async def test_rounds_that_come_all_the_time_cannot_stand_still() -> None:
    clock = FakeClock()
    times = Timeliness(clock)
    stuck = clock.time_ms()
    faults = []
    for _ in range(200):
        await clock.advance(1.9)
        times.arrived(1.9)
        faults.append(times.back(stuck))
    assert faults[0] is None
    assert faults[-1] is not None


@given(off_ms=st.integers(-10 * CLOCK_BOUND_MS, 10 * CLOCK_BOUND_MS))
def test_ahead_is_judged_by_the_clock_alone(off_ms: int) -> None:
    clock = FakeClock()
    fault = Timeliness(clock).ahead(clock.time_ms() + off_ms)
    assert (fault is not None) == (off_ms > CLOCK_BOUND_MS)
