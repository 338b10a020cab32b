"""Ways to cut a storage backend short: at an await, at the framework's executor, by a full disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import coroutine
from typing import Any, Final, TypeVar

import pytest

from citychain.ports import Compute

__all__ = ["FailingCompute", "cancelled_at", "full_disk"]

T = TypeVar("T")

AWAITS_MAX: Final = 200
"""Suspensions of one call; a call with more waits in a loop."""
SECONDS: Final = 60
"""For one call; a machine may be busy."""


async def cancelled_at(number: int, call: Coroutine[Any, Any, object]) -> bool:
    """Make the call, and cancel it when it suspends for the ``number``-th time.

    Returns:
        Whether it came that far. If not, it has returned.
    """
    came = False

    @coroutine
    def watched() -> Generator[Any, Any, None]:
        nonlocal came
        steps = call.__await__()
        error: BaseException | None = None
        suspended = 0
        while True:
            try:
                waiting = steps.send(None) if error is None else steps.throw(error)
            except StopIteration:
                return
            error = None
            suspended += 1
            if suspended == number:
                came = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waiting
            except BaseException as raised:
                error = raised

    async def made() -> None:
        await watched()

    task = asyncio.create_task(made())
    await asyncio.wait([task], timeout=SECONDS)
    assert task.done(), f"a call that was cancelled at its await {number} does not end"
    assert number < AWAITS_MAX, f"one call suspends {number} times and does not end"
    assert task.cancelled() or task.exception() or not came, (
        f"a call that was cancelled at its await {number} went on as if it was not: it must let "
        "CancelledError pass, or whoever waits for it with a time limit waits for ever"
    )
    if not task.cancelled():
        task.result()
    return came


class FailingCompute:
    """The framework's executor, one call of which fails when a test says so."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._until = 0
        self.failed = False

    async def __call__(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """See `Compute`."""
        if self._until:
            self._until -= 1
            if not self._until:
                self.failed = True
                raise OSError(errno.EIO, "this call into the executor fails on purpose")
        return await self._compute(function, *args, **kwargs)

    @contextmanager
    def failing(self, number: int) -> Iterator[None]:
        """Let the ``number``-th call from now on fail; `failed` then says whether it did."""
        self._until, self.failed = number, False
        try:
            yield
        finally:
            self._until = 0


@contextmanager
def full_disk(directory: Path, room: int) -> Iterator[None]:
    """Let no file of this process grow beyond the largest in the directory, but for ``room``
    bytes."""
    resource = pytest.importorskip("resource", reason="files cannot be limited on this system")
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes, default=0) + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
