"""Requests that change something: whoever is cancelled meanwhile waits for their end.

Else a request that is still under way could be carried out after the next call. What may hang for
ever is waited for so long only, and must then be told that nobody asks for it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["settled", "waited"]

T = TypeVar("T")


async def settled(
    awaitable: Awaitable[T],
    seconds: float | None = None,
    leave: Callable[[], object] | None = None,
) -> T:
    """The result of what then runs to its end; without ``seconds`` it must end by itself, such as
    by a timeout.

    Args:
        seconds: Whoever is cancelled waits no longer for the end.
        leave: Called if there was none by then, before anybody else can act.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await waited(task, seconds)
        if not task.done():
            if leave is not None:
                leave()
            task.cancel()
        elif not task.cancelled():
            task.exception()  # Nobody else asks for it.
        raise


async def waited(future: asyncio.Future[T], seconds: float | None) -> None:
    """Wait for its end, or so long, also when cancelled meanwhile; what came is not told."""
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    while not future.done():
        left = None if until is None else until - loop.time()
        if left is not None and left <= 0:
            return
        try:
            await asyncio.wait([future], timeout=left)
        except asyncio.CancelledError:
            continue
