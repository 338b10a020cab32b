"""This machine's clock, held against whatever else says what time it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok, warning
from citychain.cli.output import moment_in_words
from citychain.clock import SystemClock
from citychain.upkeep import StorageLook

__all__ = ["apart", "before_newest", "check_clocks"]

APART: Final = timedelta(seconds=2)
"""Leases last for some seconds: clocks that are further apart are told."""
FAR_APART: Final = timedelta(seconds=30)
SUBJECT: Final = "clock"


def check_clocks(examined: Examined) -> Iterator[Result]:
    """This clock against those of storages, and against what they hold."""
    now_ms = SystemClock().time_ms()
    results = []
    for name, look in examined.looks.items():
        if isinstance(look, StorageLook):
            storage = f"storage {name}"
            if look.clock_ahead_ms is not None:
                results.append(apart(storage, look.clock_ahead_ms))
            if look.newest_ms:
                late = before_newest(storage, look.newest_ms, now_ms)
                results.append(late or ok(SUBJECT, f"is later than the newest round in {storage}"))
    yield from results or [ok(SUBJECT, "there is nothing here to compare it with")]


def apart(whose: str, ahead_ms: int) -> Result:
    """This clock against another one, that is so far ahead."""
    difference = timedelta(milliseconds=abs(ahead_ms))
    what = f"that of {whose} is {difference.total_seconds():.1f} s "
    what += "ahead of it" if ahead_ms > 0 else "behind it"
    fix = "let both machines keep time by NTP"
    if difference > FAR_APART:
        return fault(SUBJECT, what, fix)
    if difference > APART:
        return warning(SUBJECT, what, fix)
    return ok(SUBJECT, f"that of {whose} says the same")


def before_newest(whose: str, newest_ms: int, now_ms: int) -> Result | None:
    """What is wrong if a round is of a time that has not come yet."""
    if newest_ms <= now_ms + APART // timedelta(milliseconds=1):
        return None
    return fault(
        SUBJECT,
        f"says {moment_in_words(now_ms)}, and the newest round in {whose} is of "
        f"{moment_in_words(newest_ms)}",
        "set the clock right (timedatectl): this one, or theirs",
    )
