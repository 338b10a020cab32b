"""Parts that fail or stall at a chosen call, standing in front of the real ones.

Each is given as an override; the server hands it the real part when it opens
the city::

    async with city_server(overrides={"tokyo": {"storage": FailingStorage("commit", times=2)}}):
        ...

They are recordings: `calls` tells what the part was asked, ``calls["commit"]`` how often.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import suppress
from typing import Any, ClassVar, Final

from citychain.errors import ConsensusError, StorageError
from citychain.ports import CityStorage, ConsensusStep, DagHandler
from citychain.testing.recording import Call, Recording

__all__ = [
    "EVERY",
    "FailingConsensus",
    "FailingDag",
    "FailingStorage",
    "StallingConsensus",
    "StallingDag",
    "StallingStorage",
]

EVERY: Final = "*"
"""Instead of a method's name: all of them."""


class _InTheWay(Recording):
    """Gets in the way of one method, or of every one."""

    def __init__(self, method: str, first: int) -> None:
        super().__init__()
        if method != EVERY:
            self._check(method)
        self._method = method
        self._first = first
        self._reached = asyncio.Event()

    async def reached(self) -> None:
        """Wait until it has got in the way of a call."""
        await self._reached.wait()

    def _place(self, call: Call) -> int:
        """Which of the calls that it is about this one is, from 1; 0 for none of them."""
        if self._method == EVERY:
            return call.number
        return call.nth if call.name == self._method else 0

    @property
    def _so_far(self) -> int:
        return self._counts.total() if self._method == EVERY else self._counts[self._method]


class _Failing(_InTheWay):
    _error: ClassVar[type[Exception]]

    def __init__(
        self,
        method: str,
        *,
        first: int = 1,
        times: int | None = None,
        error: Exception | None = None,
    ) -> None:
        """Fail a method.

        Args:
            method: Its name, or `EVERY`.
            first: The call, counted from 1, that fails first.
            times: How many calls fail from there on; ``None`` for all until `mend`.
            error: What is raised, instead of the part's usual error; a copy each time.
        """
        super().__init__(method, first)
        self._times = times
        self._raised = error or self._error(
            f"{'it' if method == EVERY else method} fails on purpose"
        )

    def fail(self, times: int | None = None) -> None:
        """Fail from the next call on, so many times or until `mend`; `reached` waits for it."""
        self._first, self._times = self._so_far + 1, times
        self._reached.clear()

    def mend(self) -> None:
        """Fail no more."""
        self._times = 0

    async def _before(self, call: Call) -> None:
        failed = self._place(call) - self._first
        if failed >= 0 and (self._times is None or failed < self._times):
            self._reached.set()
            raise _again(self._raised)


def _again(error: Exception) -> Exception:
    """Another like it, since one that is raised again and again gets an ever longer traceback.

    A constructor that does not take what it was made of is left out; if that does not help, it
    is the same one.
    """
    for make in (copy.copy, _not_constructed):
        with suppress(Exception):
            made = make(error)
            if (type(made), str(made), made.args) == (type(error), str(error), error.args):
                made.__cause__, made.__context__ = error.__cause__, error.__context__
                made.__suppress_context__ = error.__suppress_context__
                return made.with_traceback(None)
    return error.with_traceback(None)


def _not_constructed(error: Exception) -> Exception:
    made = type(error).__new__(type(error), *error.args)
    made.__dict__.update(error.__dict__)
    return made


class _Stalling(_InTheWay):
    def __init__(self, method: str, *, first: int = 1) -> None:
        """Hold a method's calls, from the ``first`` on, until `release`."""
        super().__init__(method, first)
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let the held calls, and all later ones, go on."""
        self._released.set()

    async def _before(self, call: Call) -> None:
        if self._place(call) >= self._first:
            self._reached.set()
            await self._released.wait()


class FailingStorage(_Failing):
    """A storage that raises `StorageError`, from ``append`` if nothing else is said."""

    _port = CityStorage

    _error = StorageError

    def __init__(self, method: str = "append", **options: Any) -> None:
        super().__init__(method, **options)


class FailingDag(_Failing):
    """A DAG handler that raises `ConsensusError` from ``decide``."""

    _port = DagHandler

    _error = ConsensusError

    def __init__(self, method: str = "decide", **options: Any) -> None:
        super().__init__(method, **options)


class FailingConsensus(_Failing):
    """A consensus step that raises `ConsensusError`, from ``approve`` if nothing else is said."""

    _port = ConsensusStep

    _error = ConsensusError

    def __init__(self, method: str = "approve", **options: Any) -> None:
        super().__init__(method, **options)


class StallingStorage(_Stalling):
    """A storage that holds ``append`` if nothing else is said."""

    _port = CityStorage

    def __init__(self, method: str = "append", **options: Any) -> None:
        super().__init__(method, **options)


class StallingDag(_Stalling):
    """A DAG handler that holds ``decide``."""

    _port = DagHandler

    def __init__(self, method: str = "decide", **options: Any) -> None:
        super().__init__(method, **options)


class StallingConsensus(_Stalling):
    """A consensus step that holds ``approve`` if nothing else is said."""

    _port = ConsensusStep

    def __init__(self, method: str = "approve", **options: Any) -> None:
        super().__init__(method, **options)
