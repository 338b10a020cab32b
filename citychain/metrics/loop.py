"""Metrics of a server's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn

from prometheus_client import CollectorRegistry, Histogram

__all__ = ["LoopMetrics"]

EVERY_SECONDS: Final = 0.25
"""Four looks a second cost nothing, and are enough to see a loop that is late."""
BUCKETS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class LoopMetrics:
    """How late the loop wakes who sleeps: so late it does everything else too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Histogram(
            "citychain_event_loop_lag_seconds",
            "How late the event loop was, looked at four times a second.",
            buckets=BUCKETS,
            registry=registry,
        )

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at the running loop until this is left."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_SECONDS
            await asyncio.sleep(EVERY_SECONDS)
            self.lag.observe(max(0.0, loop.time() - due))
