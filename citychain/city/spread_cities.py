"""What the spreading of cities opens and gives away: the cities of a server's directory."""

from __future__ import annotations

import inspect
from collections.abc import Collection

from citychain.city.directory import CityDirectory
from citychain.errors import CitychainError
from citychain.genesis import Genesis
from citychain.handler import CityHandler
from citychain.ports import Compute

__all__ = ["SpreadCities"]


class SpreadCities:
    """The `citychain.city.spreading.OpenCities` of a directory, of one network."""

    def __init__(self, directory: CityDirectory, network: str, compute: Compute) -> None:
        self._directory = directory
        self._network = network
        self._compute = compute

    def opened(self) -> Collection[bytes]:
        """See `OpenCities.opened`."""
        return self._handlers().keys()

    async def open(self, genesis_file: bytes) -> bool:
        """See `OpenCities.open`."""
        try:
            genesis = await self._compute(Genesis.from_bytes, genesis_file)
            if genesis.network != self._network:
                return False  # A city of ours may have the same name.
            handler = await self._directory.handler(genesis.city)
        except CitychainError:
            # One that this server does not know, others do; one that cannot be opened is logged.
            return False
        return handler.genesis.id == genesis.id

    async def step_down(self, city: bytes) -> int | None:
        """See `OpenCities.step_down`."""
        handler = self._handlers().get(city)
        step_down = getattr(handler, "step_down", None)
        return await step_down() if inspect.iscoroutinefunction(step_down) else None

    def handed_over(self, city: bytes) -> None:
        """See `OpenCities.handed_over`."""
        if (handed_over := getattr(self._handlers().get(city), "handed_over", None)) is not None:
            handed_over()

    def _handlers(self) -> dict[bytes, CityHandler]:
        return {handler.genesis.id: handler for handler in self._directory.open_cities().values()}
