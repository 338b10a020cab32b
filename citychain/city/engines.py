"""Storage backends by configuration: one engine for all cities that are configured alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from citychain.city.plan import Part
from citychain.hooks.definitions import StorageDefinition
from citychain.ports import Clock, Compute, StorageBackend, StorageContext, StorageMeter

__all__ = ["StorageEngines"]


class StorageEngines:
    """Opens each configured backend when the first city asks for it; closes them on leaving.

    Args:
        directory: Each backend gets a directory of its name below it.
        meter: Makes what counts for a backend of a name.
    """

    def __init__(
        self,
        *,
        directory: Path,
        compute: Compute,
        clock: Clock,
        meter: Callable[[str], StorageMeter] | None = None,
    ) -> None:
        self._directory = directory
        self._compute = compute
        self._clock = clock
        self._meter = meter
        self._stack = AsyncExitStack()
        self._open: dict[str, StorageBackend] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def backend(self, part: Part[StorageDefinition]) -> StorageBackend:
        """The open backend of this name.

        Raises:
            StorageError: it cannot be opened.
        """
        async with self._opening:
            if part.name not in self._open:
                context = StorageContext(
                    self._directory / part.name,
                    self._compute,
                    self._clock,
                    None if self._meter is None else self._meter(part.name),
                )
                self._open[part.name] = await self._stack.enter_async_context(
                    part.definition.factory(part.options, context)
                )
            return self._open[part.name]
