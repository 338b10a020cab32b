"""Requests that change something: whoever is cancelled meanwhile waits for their end.

Else a request that is still under way could be carried out after the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["settled"]

T = TypeVar("T")


async def settled(awaitable: Awaitable[T]) -> T:
    """The result of what then runs to its end; it must end by itself, such as by a timeout."""
    task = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()  # Nobody else asks for it.
        raise
