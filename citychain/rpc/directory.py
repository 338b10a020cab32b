"""What the services ask of the rest: who handles a city, and which plugins there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from citychain.city.listing import CityListing
from citychain.handler import CityHandler
from citychain.moving.moving import MoveResult, Told

__all__ = ["CityDirectory", "CityMoves", "PluginRecord"]


class CityDirectory(Protocol):
    """Names to cities; `citychain.city.directory.CityDirectory` is the real one."""

    async def handler(self, name: str) -> CityHandler:
        """The open city of this name.

        Raises:
            NotFound: no city has this name; suggests near ones.
            CityUnavailable: it cannot be opened now.
        """

    async def listing(self, name: str) -> CityListing:
        """What is known of the city of this name, without opening it.

        Raises:
            NotFound: no city has this name; suggests near ones.
        """

    def listings(self, query: str, after: str, limit: int) -> Sequence[CityListing]:
        """Listed cities of which some name begins with ``query``, by slug, after a slug."""


class CityMoves(Protocol):
    """Moves cities between storages; `citychain.moving.served.ServedMoves` is the real one."""

    async def move(self, name: str, storage: str, *, volatile: bool, told: Told) -> MoveResult:
        """Move a city to the storage of a name.

        Raises:
            InvalidRequest: ``storage`` is none for it.
            MoveFailed: the message says why; it lives where it lived.
        """

    async def forget(self, name: str, storage: str) -> None:
        """Remove a city from a storage that it left.

        Raises:
            InvalidRequest: ``storage`` is none that it left.
            MoveFailed, NotSupported: the message says why; nothing is removed.
        """


class PluginRecord(Protocol):
    """What became of one plugin; `citychain.hooks.registry.PluginRecord` is the real one."""

    @property
    def name(self) -> str: ...
    @property
    def distribution(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def hooks(self) -> Sequence[str]: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...
