"""Ends open streams when the server stops.

A watcher's stream has no end of its own, so a server that only waited for its
calls would never stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from citychain.errors import ServerUnavailable

__all__ = ["Drain", "closing"]


class Drain:
    """Knows the open streams. Used on one event loop."""

    def __init__(self) -> None:
        self._streams: set[asyncio.Timeout] = set()
        self._begun = asyncio.Event()

    @property
    def begun(self) -> asyncio.Event:
        """Set once the server stops."""
        return self._begun

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[None]:
        """Interrupt the block when the server stops.

        Raises:
            ServerUnavailable: the server stops, or did before.
        """
        if self._begun.is_set():
            raise ServerUnavailable("the server is stopping")
        try:
            async with asyncio.timeout(None) as scope:
                self._streams.add(scope)
                try:
                    yield
                finally:
                    self._streams.discard(scope)
        except TimeoutError:
            if not scope.expired():
                raise
            raise ServerUnavailable("the server is stopping") from None

    async def begun_within(self, seconds: float) -> None:
        """Return when the server stops, at the latest after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._begun.wait()

    def begin(self) -> None:
        """Interrupt every open stream and refuse new ones."""
        self._begun.set()
        now = asyncio.get_running_loop().time()
        for scope in list(self._streams):
            scope.reschedule(now)


@asynccontextmanager
async def closing(iterator: AsyncIterator[object]) -> AsyncIterator[None]:
    """Close an iterator that can be closed, whatever ends the block.

    A generator that nobody closes goes on holding its subscription until it is collected.
    """
    try:
        yield
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
