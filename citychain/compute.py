"""The bounded executor behind `citychain.ports.Compute`."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

__all__ = ["Executor"]

T = TypeVar("T")


class Executor:
    """A few threads for work that would block the event loop, a batch a call.

    Native work releases the GIL and spreads over its own pool, so these
    threads mostly wait.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or (os.cpu_count() or 1) + 4
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="citychain-compute")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Wait for the work under way; what has not begun is cancelled."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    async def __call__(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Run ``function`` in a thread and return its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(function, *args, **kwargs))
