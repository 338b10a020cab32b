"""Repeating what may succeed later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any, Final

import grpc

from citychain.client.errors import translated

__all__ = ["Retries", "call", "follow"]

STREAM_HOLDS_SECONDS: Final = 5.0
"""Longer than opening a stream takes to fail."""

BACKOFF_SECONDS: Final = (0.1, 5.0)
"""First and longest wait where the server names none; doubled from one to the next."""


class Retries:
    """When to try again, and when to give up.

    Args:
        timeout: How long to go on without progress.
    """

    def __init__(self, timeout: timedelta) -> None:
        self._timeout = timeout.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._last: Exception | None = None
        self.progress()

    def progress(self) -> None:
        """Something succeeded: begin to count anew."""
        self._last = None
        self._backoff = BACKOFF_SECONDS[0]
        self._deadline = self._loop.time() + self._timeout

    @property
    def remaining(self) -> float:
        """Seconds until it is too late."""
        return max(self._deadline - self._loop.time(), 0.0)

    async def pause(self, error: grpc.aio.AioRpcError) -> None:
        """Wait after a failed call.

        Raises:
            Exception: ours, if repeating is pointless or would be too late.
        """
        ours, retry_after = translated(error)
        if isinstance(ours, TimeoutError) and self._last is not None:
            # What went wrong before tells more than that there was no time for another attempt.
            raise self._last from error
        self._last = ours
        if retry_after is None or not await self.wait(retry_after):
            raise ours from error

    async def wait(self, least: timedelta) -> bool:
        """Wait at least so long; ``False``, at once, if that would be too late.

        Many who were told the same wait must not come back at the same moment, so up to
        half of it is added.
        """
        seconds = max(least.total_seconds(), self._backoff) * random.uniform(1.0, 1.5)
        self._backoff = min(self._backoff * 2, BACKOFF_SECONDS[1])
        if seconds >= self.remaining:
            return False
        await asyncio.sleep(seconds)
        return True


async def call(method: Any, request: Any, timeout: timedelta) -> Any:
    """Call a unary method until it succeeds.

    Raises:
        Exception: ours, once repeating is pointless; `TimeoutError` without an answer.
    """
    retries = Retries(timeout)
    while True:
        try:
            return await method(request, timeout=retries.remaining)
        except grpc.aio.AioRpcError as error:
            await retries.pause(error)


async def follow(open_call: Callable[[], Any], timeout: timedelta) -> AsyncGenerator[Any, None]:
    """Messages of a stream; a broken one is opened again.

    Args:
        open_call: Opens the stream where it broke off.
        timeout: How long to try to open it again before giving up.
    """
    loop = asyncio.get_running_loop()
    retries = Retries(timeout)
    while True:
        stream = open_call()
        opened = loop.time()
        try:
            async for message in stream:
                yield message
                retries.progress()
            return
        except grpc.aio.AioRpcError as error:
            # A stream that has nothing to tell and holds is progress, too.
            if loop.time() - opened > STREAM_HOLDS_SECONDS:
                retries.progress()
            await retries.pause(error)
        finally:
            stream.cancel()
