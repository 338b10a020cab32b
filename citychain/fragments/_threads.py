"""Threads of a store's own, for calls that block as long as a disk likes.

A disk that hangs, such as one of a network, holds a thread for ever. So these are nobody else's,
and nobody waits for them when a process ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar, TypeVarTuple

__all__ = ["Threads"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Work = Callable[[], None]


class Threads:
    """At most ``most`` of them, which begin when they are needed."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._running = self._calls = 0

    async def __call__(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """What the function returns or raises. Who is cancelled does not wait for its end; one
        that has not begun by then does not."""
        return await self.submit(function, *args)

    def submit(self, function: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """The same, to be awaited or left: it is done all the same unless it is cancelled.

        Raises:
            RuntimeError: the system gives no thread, and none runs.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def end(result: T | None, error: BaseException | None) -> None:
            self._calls -= 1
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            if not future.cancelled():
                try:
                    result = function(*args)
                except BaseException as raised:  # The one who called is told.
                    error = raised
            with suppress(RuntimeError):  # The loop was closed meanwhile.
                loop.call_soon_threadsafe(end, result, error)

        self._calls += 1
        if self._calls > self._running < self._most:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # No more can be had now: those that run do it.
                if not self._running:
                    self._calls -= 1
                    raise
            else:
                self._running += 1
        self._queue.put(work)
        return future

    def close(self) -> None:
        """Let them end once nothing is to be done."""
        for _ in range(self._running):
            self._queue.put(None)
        self._running = 0

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # Nor what it returned, until the next one comes.
