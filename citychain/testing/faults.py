"""Parts that fail or stall at a chosen call, standing in front of the real ones.

Each is given as an override; the server hands it the real part when it opens
the city::

    async with city_server(overrides={"tokyo": {"storage": FailingStorage("commit", times=2)}}):
        ...

`calls` counts what the part was asked, by method, so that a test can also just look.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import Counter
from typing import Any, Self

from citychain.errors import ConsensusError, StorageError
from citychain.nearest import did_you_mean
from citychain.ports import CityStorage, ConsensusStep, DagHandler

__all__ = [
    "FailingConsensus",
    "FailingDag",
    "FailingStorage",
    "StallingConsensus",
    "StallingDag",
    "StallingStorage",
]


class _InFront:
    """Forwards everything to the real part, and gets in the way of one method."""

    _port: type

    def __init__(self, method: str) -> None:
        if not hasattr(self._port, method):
            known = [name for name in dir(self._port) if not name.startswith("_")]
            raise ValueError(
                f"{self._port.__name__} has no method {method!r}{did_you_mean(method, known)}"
            )
        self._method = method
        self._real: Any = None
        self.calls: Counter[str] = Counter()
        """Calls so far, by method."""

    def __call__(self, real: Any) -> Self:
        """Stand in front of ``real``."""
        self._real = real
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__dict__.get("_real") is None:
            raise AttributeError(name)
        attribute = getattr(self._real, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        @functools.wraps(attribute)
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            if name == self._method:
                await self._before(self.calls[name])
            return await attribute(*args, **kwargs)

        return call

    async def _before(self, call: int) -> None:
        raise NotImplementedError


class _Failing(_InFront):
    _error: type[Exception]

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
            first: The call, counted from 1, that fails first.
            times: How many calls fail from there on; ``None`` for all.
            error: What is raised, instead of the part's usual error.
        """
        super().__init__(method)
        self._first = first
        self._times = times
        self._raised = error or self._error(f"{method} fails on purpose")

    async def _before(self, call: int) -> None:
        if call >= self._first and (self._times is None or call < self._first + self._times):
            raise self._raised


class _Stalling(_InFront):
    def __init__(self, method: str, *, first: int = 1) -> None:
        """Hold a method's calls, from the ``first`` on, until `release`."""
        super().__init__(method)
        self._first = first
        self._released = asyncio.Event()
        self._reached = asyncio.Event()

    def release(self) -> None:
        """Let the held calls, and all later ones, go on."""
        self._released.set()

    async def reached(self) -> None:
        """Wait until a call is held."""
        await self._reached.wait()

    async def _before(self, call: int) -> None:
        if call >= self._first:
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
