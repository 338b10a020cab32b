"""Storages, looked at beside whoever has them open."""

from __future__ import annotations

from collections.abc import Iterator

from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok
from citychain.errors import CitychainError
from citychain.upkeep import StorageLook

__all__ = ["check_storages", "look_results"]


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
