"""Asking ahead: what comes next is under way while one looks at what came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


async def ahead(
    calls: AsyncIterator[Coroutine[Any, Any, T]], number: int
) -> AsyncGenerator[T, None]:
    """What the calls give, in order; ``number`` more are under way than the one waited for.

    Close it (`contextlib.aclosing`) if it is left early: none is under way then.
    """
    tasks: deque[asyncio.Task[T]] = deque()
    try:
        async for call in calls:
            tasks.append(asyncio.create_task(call))
            if len(tasks) > number:
                yield await tasks.popleft()
        while tasks:
            yield await tasks.popleft()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
