"""Moves of cities that a server has open."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from citychain.handler import CityHandler
from citychain.moving.mover import CityMover
from citychain.moving.moving import MoveResult, Told

__all__ = ["ServedMoves"]


class Directory(Protocol):
    """What is asked of `citychain.city.directory.CityDirectory`."""

    async def handler(self, name: str) -> CityHandler: ...

    def closed(self, name: str) -> AbstractAsyncContextManager[None]: ...

    def slowed(self, name: str) -> AbstractAsyncContextManager[None]: ...


class ServedMoves:
    """See `citychain.rpc.directory.CityMoves`."""

    def __init__(self, directory: Directory, mover: CityMover) -> None:
        self._directory = directory
        self._mover = mover

    async def move(self, name: str, storage: str, *, volatile: bool, told: Told) -> MoveResult:
        """See `citychain.rpc.directory.CityMoves.move`."""
        city = await self._directory.handler(name)
        return await self._mover.move(
            city.genesis,
            city.storage,
            storage,
            lambda: self._directory.closed(name),
            lambda: self._directory.slowed(name),
            volatile=volatile,
            told=told,
        )

    async def forget(self, name: str, storage: str) -> None:
        """See `citychain.rpc.directory.CityMoves.forget`."""
        city = await self._directory.handler(name)
        await self._mover.forget(city.genesis, city.storage, storage)
