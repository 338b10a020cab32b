"""Commands that run until they are told to stop."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from citychain.cli.exits import Exit, failure
from citychain.cli.reaching import Servers

__all__ = ["answer", "until_told"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def until_told(work: Coroutine[None, None, None]) -> None:
    """Run this until it ends, or a signal ends it, which is no failure."""
    import asyncio
    import signal

    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def answer(ask: Callable[[], Awaitable[T]], servers: Servers) -> T:
    """What a server says, which may be away for now: these commands start before it, too."""
    import asyncio

    from citychain.city.retry import pause_seconds
    from citychain.errors import CitychainError

    failures = 0
    while True:
        try:
            return await ask()
        except (CitychainError, TimeoutError) as error:
            code, message = failure(error)
            if code is not Exit.UNAVAILABLE:
                raise
            logger.warning("waiting for %s: %s", servers, message)
        failures += 1
        await asyncio.sleep(pause_seconds(failures))
