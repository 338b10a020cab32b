"""A storage that dies at a chosen write, as it would with its process.

Given as an override; the server hands it the city's storage when it opens the city::

    crash = CrashingStorage(3)
    async with city_server({"tokyo": {"storage": "sqlite"}}, {"tokyo": {"storage": crash}},
                           directory=place):
        ...                     # work that somebody else does, in a task
        await crash.crashed()
        crash.abandon()
    async with city_server({"tokyo": {"storage": "sqlite"}}, directory=place):
        ...                     # whatever was acknowledged is still there

What is between two writes of a city is either before the second or after the first: a test
that goes through all numbers, and both ways, has crashed it everywhere.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any, Final, Self

from citychain.errors import StorageError

__all__ = ["CrashingStorage"]

WRITES: Final = frozenset(
    {"append", "commit", "certify", "keep", "acquire_lease", "renew_lease", "release_lease"}
)
"""The methods of `citychain.ports.CityStorage` that change something."""


class CrashingStorage:
    """Stands in front of a city's storage until the crash.

    From then on no call returns, as in a dead process: nobody learns of it, and no answer
    goes out. What the server then has under way can only be cancelled.

    Args:
        write: The call, counted from 1 over all methods that write, at which it dies.
        before: Die before that call has its effect, instead of after it.
    """

    def __init__(self, write: int, *, before: bool = False) -> None:
        self._at = write
        self._before = before
        self._real: Any = None
        self._dead = asyncio.Event()
        self._abandoned = asyncio.Event()
        self.writes: list[str] = []
        """The methods that wrote so far, the one that died last."""

    def __call__(self, real: Any) -> Self:
        """Stand in front of ``real``."""
        self._real = real
        return self

    async def crashed(self) -> None:
        """Wait until it is dead."""
        await self._dead.wait()

    def abandon(self) -> None:
        """Let the calls of a dead storage fail instead of waiting, so that its server can be
        closed; a living one does not crash any more."""
        self._at = 0
        self._abandoned.set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__dict__.get("_real") is None:
            raise AttributeError(name)
        attribute = getattr(self._real, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        @functools.wraps(attribute)
        async def call(*args: Any, **kwargs: Any) -> Any:
            dies = False
            if name in WRITES and not self._dead.is_set():
                self.writes.append(name)
                dies = len(self.writes) == self._at
            if dies and self._before:
                self._dead.set()
            if self._dead.is_set():
                await self._silence()
            try:
                result = await attribute(*args, **kwargs)
            except Exception:
                # Also of calls that were under way when another one died.
                if self._dead.is_set():
                    await self._silence()
                raise
            if dies:
                self._dead.set()
            if self._dead.is_set():
                await self._silence()
            return result

        return call

    async def _silence(self) -> None:
        await self._abandoned.wait()
        raise StorageError("the storage died on purpose")
