"""Storages, looked at beside whoever has them open; and what their clocks say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok, warning
from citychain.cli.output import moment_in_words
from citychain.clock import SystemClock
from citychain.errors import CitychainError
from citychain.upkeep import StorageLook

__all__ = ["check_clocks", "check_storages", "clock_results", "look_results"]

APART: Final = timedelta(seconds=2)
"""Leases last for some seconds: clocks that are further apart are told."""
FAR_APART: Final = timedelta(seconds=30)


def check_storages(examined: Examined) -> Iterator[Result]:
    """Whether each can be read, and is of a schema that this release knows."""
    for name, look in examined.looks.items():
        subject = f"storage {name}"
        if isinstance(look, CitychainError):
            yield fault(subject, str(look), "mend its table, or start it")
        elif look is None:
            yield ok(subject, "was not looked at: it cannot be read without being opened")
        else:
            yield from look_results(name, look)


def look_results(name: str, look: StorageLook) -> Iterator[Result]:
    """What a look at a storage says."""
    subject, known = f"storage {name}", look.schema_version_known
    if not look.schema_version:
        yield ok(subject, "is not there yet: a server makes it")
    elif look.schema_version > known:
        yield fault(
            subject,
            f"has schema version {look.schema_version}, and this release knows {known}",
            "use the release that wrote it, or a newer one",
        )
    else:
        more = "" if look.schema_version == known else f"; a server makes it {known}"
        cities = f"{look.cities:,} {'city' if look.cities == 1 else 'cities'}"
        yield ok(subject, f"can be read: {cities}, schema version {look.schema_version}{more}")
    if look.lacks:
        yield fault(
            subject,
            f"lacks indexes: {', '.join(look.lacks)}",
            f"citychain db indexes --storage {name}",
        )


def check_clocks(examined: Examined) -> Iterator[Result]:
    """This machine's clock against those of storages, and against what they hold."""
    compared = False
    for name, look in examined.looks.items():
        if isinstance(look, StorageLook):
            for result in clock_results(name, look, SystemClock().time_ms()):
                compared = True
                yield result
    if not compared:
        yield ok("clock", "there is nothing here to compare it with")


def clock_results(name: str, look: StorageLook, now_ms: int) -> Iterator[Result]:
    """This clock against a storage; nothing where that has no time in it."""
    subject, fix = "clock", "let both machines keep time by NTP"
    if look.clock_ms is not None:
        apart = timedelta(milliseconds=abs(look.clock_ms - now_ms))
        what = f"is {apart.total_seconds():.1f} s from that of storage {name}"
        if apart > FAR_APART:
            yield fault(subject, what, fix)
        elif apart > APART:
            yield warning(subject, what, fix)
        else:
            yield ok(subject, what)
    if look.newest_ms > now_ms + APART // timedelta(milliseconds=1):
        yield fault(
            subject,
            f"says {moment_in_words(now_ms)}, and the newest round in storage {name} is of "
            f"{moment_in_words(look.newest_ms)}",
            "set the clock right (timedatectl)",
        )
    elif look.newest_ms:
        yield ok(subject, f"is later than the newest round in storage {name}")
