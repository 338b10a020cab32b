"""A storage that dies at a chosen write, as it would with its process.

Given as an override; the server hands it the city's storage when it opens the city::

    crash = CrashingStorage(3)
    sqlite = {"tokyo": {"storage": "sqlite"}}
    async with city_server(sqlite, {"tokyo": {"storage": crash}}, directory=place) as server:
        ...                     # somebody submits, in a task of their own
        await crash.crashed()
        crash.abandon()
    async with city_server(sqlite, directory=place) as server:
        ...                     # whatever was acknowledged is there

What lies between two writes of a city comes before the second one or after the first: a test
that goes through all numbers, both ways, has let it crash everywhere.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any, Final

from citychain.errors import StorageError
from citychain.ports import CityStorage
from citychain.testing.recording import Recording

__all__ = ["CrashingStorage"]

WRITES: Final = frozenset(
    {"append", "commit", "certify", "keep", "acquire_lease", "renew_lease", "release_lease"}
)
"""The methods of `citychain.ports.CityStorage` that change something."""


class CrashingStorage(Recording):
    """Stands in front of a city's storage until the crash.

    From then on no call returns, as in a dead process: nobody learns of it, and no answer goes
    out. What the server then has under way can only be cancelled.

    Args:
        write: The call, counted from 1 over all methods that write, at which it dies.
        before: Die before that call has its effect, instead of after it.
    """

    _port = CityStorage

    def __init__(self, write: int, *, before: bool = False) -> None:
        super().__init__()
        self._at = write
        self._early = before
        self._dead = asyncio.Event()
        self._abandoned = asyncio.Event()
        self.writes: list[str] = []
        """The methods that wrote so far; once it is dead, the last one is where it died."""

    def __call__(self, real: Any) -> Any:
        """What stands in front of ``real``."""
        return super().__call__(_Mortal(self, real))

    async def crashed(self) -> None:
        """Wait until it is dead."""
        await self._dead.wait()

    def die(self) -> None:
        """Die now, between two writes."""
        self._dead.set()

    def abandon(self) -> None:
        """Let the calls of a dead storage fail instead of wait, so that its server can be
        closed; a living one does not crash any more."""
        self._at = 0
        self._abandoned.set()

    async def _call(self, name: str, method: Any, args: Any, kwargs: Any) -> Any:
        dies = False
        if name in WRITES and not self._dead.is_set():
            self.writes.append(name)
            dies = len(self.writes) == self._at
        if dies and self._early:
            self._dead.set()
        await self._silence()
        try:
            result = await method(*args, **kwargs)
        except Exception:
            await self._silence()
            raise
        if dies:
            self._dead.set()
        # Also of calls that were under way when another one died.
        await self._silence()
        return result

    async def _silence(self) -> None:
        if self._dead.is_set():
            await self._abandoned.wait()
            raise StorageError("the storage died on purpose")


class _Mortal:
    """The real storage, as long as it lives."""

    def __init__(self, crash: CrashingStorage, real: Any) -> None:
        self._crash = crash
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self._real, name)
        promised = getattr(CityStorage, name, None)
        if not (inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(promised)):
            return method

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._crash._call(name, method, args, kwargs)

        return call
