"""Tells plugins about rounds, without ever holding a round up."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final, Self

from citychain.hooks.registry import Registry
from citychain.ports import StoredRound
from citychain.types import SealedRound

__all__ = ["RoundEvents"]

logger = logging.getLogger(__name__)

BACKLOG_MAX: Final = 1_000
"""Events that wait for slow listeners; further ones are dropped, and that is logged."""


class RoundEvents:
    """Calls the event hooks in one thread of its own, made at the first event."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._backlog: queue.Queue[Callable[[], None] | None] = queue.Queue(BACKLOG_MAX)
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Let the thread go. What still waits for a slow listener is dropped with it."""
        if self._thread is not None:
            self._thread = None
            try:
                self._backlog.put_nowait(None)
            except queue.Full:
                logger.warning("%d round events were not told any more", BACKLOG_MAX)

    def sealed(self, city: str, sealed: SealedRound) -> None:
        """A round was committed."""
        if self._registry.has_listeners("citychain_round_sealed"):
            self._tell(lambda: self._registry.round_sealed(city, sealed))

    def approved(self, city: str, approved: StoredRound) -> None:
        """A round has its certificate."""
        if self._registry.has_listeners("citychain_round_approved"):
            self._tell(lambda: self._registry.round_approved(city, approved))

    def _tell(self, event: Callable[[], None]) -> None:
        if self._thread is None:
            # A daemon: a listener that hangs must not keep the server from ending.
            self._thread = threading.Thread(
                target=self._run, name="citychain-round-events", daemon=True
            )
            self._thread.start()
        try:
            self._backlog.put_nowait(event)
        except queue.Full:
            logger.warning("a round event was dropped: %d wait for listeners", BACKLOG_MAX)

    def _run(self) -> None:
        while (event := self._backlog.get()) is not None:
            event()
