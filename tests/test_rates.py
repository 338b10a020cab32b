from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain import rates
from citychain.rates import Rates

NOTHING = timedelta()


class Time:
    """Passes when a test says so."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_each_has_so_many_at_once_and_then_as_many_as_time_brings() -> None:
    time = Time()
    taken = Rates(2.0, timedelta(seconds=5), time)
    assert [taken.take("alice") for _ in range(10)] == [NOTHING] * 10
    wait = taken.take("alice")
    assert timedelta(milliseconds=500) <= wait <= timedelta(milliseconds=501)
    assert taken.take("bob") == NOTHING
    time.now += 0.5
    assert taken.take("alice") == NOTHING
    assert taken.take("alice") > NOTHING
    time.now += 3_600
    assert [taken.take("alice") for _ in range(10)] == [NOTHING] * 10
    assert taken.take("alice") > NOTHING


@given(
    start=st.floats(0, 1e9),
    per_second=st.sampled_from([0.0001, 0.3, 3.0, 7.0, 10.0]),
    seconds=st.integers(0, 5),
)
def test_as_much_as_there_is_room_for_is_given_whatever_the_clock_says(
    start: float, per_second: float, seconds: int
) -> None:
    taken = Rates(per_second, timedelta(seconds=seconds), Time(start))
    for _ in range(max(1, int(per_second * seconds))):
        assert taken.take("alice") == NOTHING
    assert taken.take("alice") > NOTHING


def test_who_takes_much_waits_until_it_is_paid_for() -> None:
    time = Time()
    taken = Rates(10.0, timedelta(seconds=1), time)
    assert taken.take("alice", 100) == NOTHING
    wait = taken.take("alice")
    assert timedelta(seconds=9) < wait < timedelta(seconds=9.2)
    time.now += wait.total_seconds()
    assert taken.take("alice") == NOTHING


def test_one_that_was_let_in_brings_more_unless_others_brought_too_much_meanwhile() -> None:
    time = Time()
    taken = Rates(10.0, timedelta(seconds=1), time)
    assert [taken.take("alice") for _ in range(10)] == [NOTHING] * 10
    assert taken.take_more("alice", 99) == NOTHING
    wait = taken.take_more("alice", 99)
    assert timedelta(seconds=9.8) < wait < timedelta(seconds=10)
    assert taken.take_more("alice", 0) == NOTHING
    time.now += wait.total_seconds()
    assert taken.take_more("alice", 99) == NOTHING


def test_the_one_that_was_quiet_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "TRACKED_MAX", 2)
    taken = Rates(1.0, timedelta(seconds=1), Time())
    for caller in ("alice", "bob", "carol"):
        assert taken.take(caller) == NOTHING
    assert taken.take("bob") > NOTHING
    assert taken.take("alice") == NOTHING
