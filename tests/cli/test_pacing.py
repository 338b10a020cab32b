"""The pacer over time, as ``citychain batch --simulate`` draws it."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from math import floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.cli.pacing import BAR, ROWS_MAX, Closing, simulate
from citychain.config import PacerSettings, get_dynamic_batch_interval

PACER = PacerSettings(min_seconds=0.25, max_seconds=2.0, max_tx=100)


def closings(
    pacer: PacerSettings = PACER,
    *,
    pending: int = 0,
    current: float = 0.25,
    rate: float = 0.0,
    holding: bool = False,
) -> Iterator[Closing]:
    return simulate(
        pacer,
        pending=pending,
        current=timedelta(seconds=current),
        rate=rate,
        holding=holding,
    )


def test_what_waits_is_sealed_and_then_nothing_happens() -> None:
    assert list(closings(pending=250, current=2.0)) == [
        Closing(0.0, 100, 150, 0.25),
        Closing(0.0, 100, 50, 0.25),
        Closing(0.25, 50, 0, 0.25),
    ]
    assert list(closings()) == []


def test_a_few_wait_for_an_interval_that_shrinks() -> None:
    # One comes each second: the second one waits for nothing, the round before is long closed.
    assert list(islice(closings(rate=1.0, current=1.25), 3)) == [
        Closing(1.25, 1, 0, 1.15),
        Closing(2.4, 1, 0, 1.05),
        Closing(3.45, 1, 0, 0.95),
    ]


def test_a_round_that_is_full_closes_early() -> None:
    # The hundredth comes after half a second.
    assert list(islice(closings(rate=200.0, current=2.0), 2)) == [
        Closing(0.5, 100, 0, 1.9),
        Closing(1.0, 100, 0, 1.8),
    ]


def test_where_something_is_held_empty_rounds_close_ever_later() -> None:
    intervals = [it.interval for it in islice(closings(holding=True), 5)]
    assert intervals == [0.75, 1.25, 1.75, 2.0, 2.0]
    seconds = [it.seconds for it in islice(closings(holding=True), 5)]
    assert seconds == [0.25, 1.0, 2.25, 4.0, 6.0]


@st.composite
def loads(draw: st.DrawFn) -> dict[str, Any]:
    shortest = draw(st.floats(0.01, 5))
    return {
        "pacer": PacerSettings(
            min_seconds=shortest,
            max_seconds=draw(st.floats(shortest, 20)),
            max_tx=draw(st.integers(1, 5_000)),
        ),
        "pending": draw(st.integers(0, 100_000)),
        "current": draw(st.floats(0, 20)),
        "rate": draw(st.just(0.0) | st.floats(0.001, 100_000)),
        "holding": draw(st.booleans()),
    }


@given(loads())
def test_nothing_is_lost_and_every_round_is_as_the_pacer_says(load: dict[str, Any]) -> None:
    pacer: PacerSettings = load["pacer"]
    before = Closing(0.0, 0, load["pending"], timedelta(seconds=load["current"]).total_seconds())
    sealed = 0
    for it in islice(closings(**load), 200):
        sealed += it.sealed
        came = load["rate"] * it.seconds
        # A float of the time may be on either side of an arrival.
        assert abs(sealed + it.pending - load["pending"] - floor(came)) <= 1 + came * 1e-12
        assert it.sealed <= pacer.max_tx
        assert it.seconds >= before.seconds
        waited = it.seconds - before.seconds
        if it.sealed < pacer.max_tx:
            assert it.pending == 0
            assert waited >= before.interval - 1e-9
        if load["holding"]:
            assert waited <= before.interval + 1e-9
        else:
            assert it.sealed
        assert timedelta(seconds=it.interval) == get_dynamic_batch_interval(
            it.sealed + it.pending, timedelta(seconds=before.interval), pacer
        )
        before = it


# --- as a command


def write_pacer(folder: Path) -> None:
    pacer = "[pacer]\nmin_seconds = 0.25\nmax_seconds = 2.0\nmax_tx = 100\n"
    (folder / "citychain.toml").write_text(pacer)


def test_it_is_drawn(process: Any, tmp_path: Path) -> None:
    write_pacer(tmp_path)
    simulated = ("batch", "250", "--simulate", "--current", "2")
    ran = process(*simulated, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    header, *rows = ran.out.splitlines()
    assert header.split() == ["s", "rounds", "sealed", "pending", "interval"]
    assert [row.split()[:5] for row in rows] == [
        ["0.00", "1", "100", "150", "0.25"],
        ["0.00", "1", "100", "50", "0.25"],
        ["0.25", "1", "50", "0", "0.25"],
    ]
    assert rows[0].split()[5] == "█" * (BAR // 8)
    told = process(*simulated, "--json", cwd=tmp_path)
    assert told.records[0] == {"seconds": 0.0, "sealed": 100, "pending": 150, "interval": 0.25}
    assert len(told.records) == 3


def test_many_rounds_are_drawn_together(citychain: Any, tmp_path: Path) -> None:
    write_pacer(tmp_path)
    load = ("batch", "0", "--simulate", "--rate", "1000", "--seconds", "30")
    _, *rows = citychain(*load, cwd=tmp_path).out.splitlines()
    assert len(rows) <= ROWS_MAX
    cells = [[cell.replace(",", "") for cell in row.split()] for row in rows]
    records = citychain(*load, "--json", cwd=tmp_path).records
    assert sum(int(row[1]) for row in cells) == len(records) == 300
    assert sum(int(row[2]) for row in cells) == sum(it["sealed"] for it in records) == 30_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "5"], "--simulate"),
        (["--holding"], "--simulate"),
        (["--seconds", "5"], "--simulate"),
        (["--simulate", "--rate", "-1"], "--rate"),
        (["--simulate", "--rate", "nan"], "--rate"),
        (["--simulate", "--seconds", "nan"], "--seconds"),
        (["--current", "nan"], "--current"),
        (["--simulate", "--rate", "1e6", "--seconds", "1000"], "--seconds"),
        (["--simulate", "--holding", "--seconds", "1e6"], "--seconds"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    citychain: Any, tmp_path: Path, options: list[str], message: str
) -> None:
    write_pacer(tmp_path)
    ran = citychain("batch", "0", *options, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.message


@pytest.mark.parametrize(
    ("pending", "options", "message"),
    [
        ("99999999999999999999999999", ["--simulate"], "'pending': "),
        ("1000000001", [], "'pending': "),
        ("1000000000", ["--simulate"], "PENDING: there are more than 100000 rounds"),
    ],
)
def test_more_than_can_wait_is_told(
    citychain: Any, tmp_path: Path, pending: str, options: list[str], message: str
) -> None:
    write_pacer(tmp_path)
    ran = citychain("batch", pending, *options, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.message


def test_where_no_round_closes_that_is_said(citychain: Any, tmp_path: Path) -> None:
    ran = citychain("batch", "0", "--simulate", cwd=tmp_path)
    assert (ran.code, ran.out, ran.message) == (0, "", "no round closes within 10 s")
