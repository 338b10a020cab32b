"""What a storage backend may offer to those who look after it, besides `StorageBackend`.

It is asked by methods: a backend that has them offers it. ``citychain db``, ``citychain doctor``,
``citychain move --forget`` and what reads backups use it, and no city needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from citychain.ports import CityStorage, StorageBackend
from citychain.types import ObjectWrite

__all__ = [
    "StorageLook",
    "StorageStats",
    "SupportsForgetting",
    "SupportsLooking",
    "SupportsReading",
    "SupportsUpkeep",
    "can_be_looked_at",
    "can_be_read",
    "can_forget",
    "has_upkeep",
]


@runtime_checkable
class SupportsForgetting(Protocol):
    """A storage backend that can remove a city, once it has moved to another storage."""

    async def forget(self, city: bytes, initial: Sequence[ObjectWrite]) -> None:
        """Remove all that is stored of the city with this genesis id, but for its note ``home``
        (`citychain.notes`), which says where it went: it could move back as to a new storage.
        Its name is free until somebody asks for it again, as `StorageBackend.city` says.
        Nobody has it open. What was removed when this was broken off stays removed, and a
        repetition removes the rest.

        Args:
            initial: The objects that the city began with; they are as before the first round.
        """


def can_forget(backend: StorageBackend) -> SupportsForgetting | None:
    """The backend if it is a `SupportsForgetting` too; it is asked, not inspected."""
    offered = callable(getattr(backend, "forget", None))
    return cast("SupportsForgetting", backend) if offered else None


@dataclass(frozen=True, slots=True)
class StorageStats:
    """How much a storage holds."""

    schema_version: int
    schema_version_known: int
    """The newest that this release can make of it."""
    bytes: int
    """On disk, or as much as is known of it; 0 where nothing is."""
    counts: Mapping[str, int]
    """Rows or documents by table or collection, as exact as is cheap."""


@runtime_checkable
class SupportsUpkeep(Protocol):
    """A storage backend with a schema that people look after: ``citychain db``."""

    async def stats(self) -> StorageStats:
        """How much there is of what."""

    async def indexes(self) -> Mapping[str, Sequence[str]]:
        """Make indexes that are missing; all there are then, by table or collection."""

    async def migrate(self) -> Sequence[str]:
        """Bring the schema to the newest version; what was done, a line each, empty where
        nothing was left to do."""


def has_upkeep(backend: StorageBackend) -> SupportsUpkeep | None:
    """The backend if it is a `SupportsUpkeep` too; it is asked, not inspected."""
    offered = (getattr(backend, name, None) for name in ("stats", "indexes", "migrate"))
    return cast("SupportsUpkeep", backend) if all(map(callable, offered)) else None


@dataclass(frozen=True, slots=True)
class StorageLook:
    """What opening a storage would find."""

    schema_version: int
    """0 where there is no storage yet: opening makes it."""
    schema_version_known: int
    """The newest that this release knows; it refuses a newer one."""
    cities: int = 0
    lacks: Sequence[str] = ()
    """Indexes that should be there, ``TABLE.INDEX`` each."""
    newest_ms: int = 0
    """The time of the newest round, of all cities, in milliseconds since 1970 UTC; 0 where that is
    not cheap to say."""
    clock_ahead_ms: int | None = None
    """How far its own clock is ahead of this one (`citychain.clock.ahead_ms`); ``None`` where it
    has none."""


@runtime_checkable
class SupportsLooking(Protocol):
    """A storage backend that can be looked at beside whoever has it open: ``citychain doctor``."""

    async def look(self) -> StorageLook:
        """Say what opening would find, and change nothing. Called instead of entering it.

        Raises:
            StorageError: opening it would fail.
        """


def can_be_looked_at(backend: StorageBackend) -> SupportsLooking | None:
    """The backend if it is a `SupportsLooking` too; it is asked, not inspected."""
    offered = callable(getattr(backend, "look", None))
    return cast("SupportsLooking", backend) if offered else None


@runtime_checkable
class SupportsReading(Protocol):
    """A storage backend of which a city can be read without a change to what is stored: backups."""

    def reading(self, city: bytes) -> AbstractAsyncContextManager[CityStorage]:
        """The city with this genesis id; what would write to it raises `StorageError`. Called
        instead of entering the backend, of a schema that this release knows as its newest.

        Raises:
            DirectoryInUse: another process writes there.
            NotFound: there is no such city.
            StorageError: it cannot be read as it is.
        """


def can_be_read(backend: StorageBackend) -> SupportsReading | None:
    """The backend if it is a `SupportsReading` too; it is asked, not inspected."""
    offered = callable(getattr(backend, "reading", None))
    return cast("SupportsReading", backend) if offered else None
