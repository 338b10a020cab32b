"""Storage backends by configuration: one engine for all cities that are configured alike."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Self

from citychain.config import Settings
from citychain.hooks.registry import Registry
from citychain.ports import Clock, Compute, StorageBackend, StorageContext

__all__ = ["StorageEngines"]


class StorageEngines:
    """Opens each configured backend when the first city asks for it; closes them on leaving."""

    def __init__(
        self, *, registry: Registry, settings: Settings, compute: Compute, clock: Clock
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._compute = compute
        self._clock = clock
        self._stack = AsyncExitStack()
        self._open: dict[str, StorageBackend] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def backend(self, name: str) -> StorageBackend:
        """The open backend of this configured name.

        Raises:
            ConfigurationError: nothing is configured under this name.
            StorageError: it cannot be opened.
        """
        async with self._opening:
            if name not in self._open:
                definition, options = self._settings.storage_backend(name, self._registry)
                context = StorageContext(
                    directory=self._settings.data_dir / name,
                    compute=self._compute,
                    clock=self._clock,
                )
                self._open[name] = await self._stack.enter_async_context(
                    definition.factory(options, context)
                )
            return self._open[name]
