"""What stands between one server of a test and its storage, and can be held or cut there."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any, cast

from citychain.city.engines import StorageEngines
from citychain.city.plan import Part
from citychain.errors import StorageError
from citychain.hooks.definitions import StorageDefinition
from citychain.ports import StorageBackend

__all__ = ["Wire", "WiredEngines"]


class Wire:
    """All calls of one server to its storage pass here."""

    def __init__(self) -> None:
        self._cut = False
        self._passing = asyncio.Event()
        self._passing.set()

    @property
    def is_open(self) -> bool:
        """Whether calls pass now."""
        return self._passing.is_set() and not self._cut

    def hold(self) -> None:
        """Let nothing pass until `heal`: neither what is asked nor what was answered."""
        self._passing.clear()

    def heal(self) -> None:
        """Let everything pass again; what was held comes first."""
        self._passing.set()

    def cut(self) -> None:
        """End it for good: whoever calls, or waits for an answer, gets `StorageError`."""
        self._cut = True
        self._passing.set()

    async def passed(self) -> None:
        """Wait for the way to be open.

        Raises:
            StorageError: it never will be again.
        """
        await self._passing.wait()
        if self._cut:
            raise StorageError("the connection to the storage is broken")


class _Wired:
    """A backend, or a city's storage, at the far end of a wire."""

    def __init__(self, part: Any, wire: Wire) -> None:
        self._part = part
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if not inspect.iscoroutinefunction(method):
            return method

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._wire.passed()
            result = await method(*args, **kwargs)
            await self._wire.passed()
            return _Wired(result, self._wire) if name == "city" else result

        return call


class WiredEngines(StorageEngines):
    """The storage backends of one server, each behind the server's wire."""

    def __init__(self, wire: Wire, **parts: Any) -> None:
        super().__init__(**parts)
        self._wire = wire

    async def backend(self, part: Part[StorageDefinition]) -> StorageBackend:
        """See `StorageEngines.backend`."""
        return cast("StorageBackend", _Wired(await super().backend(part), self._wire))
