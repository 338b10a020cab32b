"""Parts of an earlier api_version, made to serve as parts of the present one.

Each version differs from the one before by what stands here, and nowhere else: the rest of
citychain knows the present version only.

====== ===============================================================================
2      added `CityStorage.round_of_size` and `CityStorage.pending_ids`, and ``known`` to
       `CityStorage.notes`; a lease's epoch is newer than those of all committed rounds; a
       storage has one city of a name, which one of version 1 does not see to
====== ===============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

from citychain.hooks.definitions import (
    API_VERSION,
    ConsensusDefinition,
    DagDefinition,
    FragmentStoreDefinition,
    StorageDefinition,
)
from citychain.notes import not_known
from citychain.ports import CityStorage, StorageBackend, StorageContext, StoredRound
from citychain.types import ObjectWrite

__all__ = ["OLDEST_VERSION", "adapted"]

OLDEST_VERSION: Final = 1
"""The oldest api_version that still works."""
PAGE: Final = 1_000
"""Pending transactions read at a time."""

Definition = TypeVar(
    "Definition", StorageDefinition, DagDefinition, ConsensusDefinition, FragmentStoreDefinition
)


def adapted(definition: Definition) -> Definition:
    """The definition of the same part for the present api_version.

    Args:
        definition: Of `OLDEST_VERSION` or newer, and not newer than the present one.
    """
    if definition.api_version < 2 and isinstance(definition, StorageDefinition):
        definition = replace(definition, factory=_Version1(definition.factory))
    return replace(definition, api_version=API_VERSION)


class _Version1:
    """The factory of a backend of version 1."""

    def __init__(self, factory: Callable[[Any, StorageContext], StorageBackend]) -> None:
        self._factory = factory

    def __call__(self, options: Any, context: StorageContext) -> StorageBackend:
        return _Backend(self._factory(options, context))


class _Backend:
    def __init__(self, manager: StorageBackend) -> None:
        self._manager = manager

    async def __aenter__(self) -> _Backend:
        # What is entered need not be what that gives, such as of an `asynccontextmanager`.
        self._backend = await self._manager.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._manager.__aexit__(*exc_info)

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> CityStorage:
        """The city as of version 1, and what version 2 asks besides."""
        city = await self._backend.city(genesis, genesis_file, initial)
        return cast("CityStorage", _City(city))


class _City:
    def __init__(self, city: CityStorage) -> None:
        self._city = city

    def __getattr__(self, name: str) -> Any:
        return getattr(self._city, name)

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        """Acquired until its epoch is newer than those of rounds that came from elsewhere."""
        newest = (await self._city.head()).epoch
        while True:
            epoch = await self._city.acquire_lease(holder, ttl)
            if epoch is None or epoch > newest:
                return epoch

    async def pending_ids(self, limit: int | None = None) -> Sequence[bytes]:
        """Read with the transactions, page by page."""
        ids: list[bytes] = []
        cursor: bytes | None = None
        while True:
            page = await self._city.pending(cursor, PAGE)
            ids += [transaction.tx_id for transaction in page.transactions]
            if (cursor := page.cursor) is None or (limit is not None and len(ids) >= limit):
                return ids[:limit]

    async def notes(
        self, prefix: str, known: Mapping[str, bytes] | None = None
    ) -> Mapping[str, bytes]:
        """Read whole, and left out afterwards."""
        return not_known(await self._city.notes(prefix), known)

    async def round_of_size(self, size: int) -> StoredRound | None:
        """Found by bisection over whole rounds, since sizes grow with rounds."""
        low, high = 1, (await self._city.head()).round
        found = None
        while low <= high:
            middle = (low + high) // 2
            [stored] = await self._city.rounds(middle, 1)
            if stored.size >= size:
                found, high = stored, middle - 1
            else:
                low = middle + 1
        return found if found is not None and found.size == size else None
