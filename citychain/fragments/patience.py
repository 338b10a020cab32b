"""Asking a store for no longer than it may take: one that hangs must not hang those who ask.

Only what reads has a limit. Putting and deleting take as long as they take: a store that was left
in the middle of either could not say what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from citychain.errors import StoreUnavailable
from citychain.ports import FragmentKey

__all__ = ["ANSWER_SECONDS", "Patient", "Readable", "StoreHangs", "within"]

ANSWER_SECONDS: Final = 60.0
"""For a call that reads; at most 8 MiB are asked for at a time."""

T = TypeVar("T")


class Readable(Protocol):
    """What reads, of `citychain.ports.FragmentStore`."""

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""


class Patient:
    """A store as it is read. Once it did not answer in time it is not asked any more.

    Every method raises `StoreUnavailable` then.
    """

    def __init__(self, store: Readable, seconds: float | None = None) -> None:
        self._store = store
        self._seconds = ANSWER_SECONDS if seconds is None else seconds
        self._why: str | None = None

    @property
    def hangs(self) -> bool:
        """Whether it did not answer in time."""
        return self._why is not None

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        return await self._asked(lambda: self._store.read(key, offset, length))

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        return await self._asked(lambda: self._store.size(key))

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""
        return await self._asked(lambda: self._store.find(object_id))

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        return await self._asked(lambda: self._store.keys(after, limit))

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        if self._why is not None:
            raise StoreUnavailable(self._why)
        try:
            return await within(self._seconds, ask())
        except StoreHangs as error:
            self._why = str(error)
            raise


class StoreHangs(StoreUnavailable):
    """Raised when a store did not answer in time."""


async def within(seconds: float, answer: Awaitable[T]) -> T:
    """What a store answers.

    Raises:
        StoreHangs: it did not within so many seconds.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await answer
    except TimeoutError:
        if not limit.expired():
            raise
        raise StoreHangs(f"it did not answer within {seconds:g} s") from None
