"""The way of a fragment to its store, for whoever has its chunks a stretch at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from citychain.errors import CitychainError, NotOwned, StorageError, StoreUnavailable
from citychain.fragments.manifest import Manifest, tail
from citychain.fragments.patience import Patient
from citychain.ports import FragmentKey, FragmentStore

__all__ = ["Feed"]

PARTS_WAITING: Final = 1
"""Parts of a fragment that wait for its store, until the others wait for it."""


class Feed:
    """An iterator over the parts of one fragment, which its store takes while others are given.

    Args:
        size: Bytes of the whole fragment.
    """

    def __init__(self, key: FragmentKey, store: FragmentStore, size: int) -> None:
        self.key = key
        self.error: CitychainError | None = None
        """Why its store has not taken it: `StoreFull`, `StoreUnavailable`."""
        self.present = False
        """It was there before."""
        self.replaced = False
        """It was there, and was wrong."""
        self.odd = False
        """It was there with a wrong size; who looked has the error of it."""
        self.over = False
        """Nothing is taken any more."""
        self.store = store
        self._size = size
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(PARTS_WAITING)

    async def look(self) -> None:
        """Whether it is there."""
        try:
            size = await Patient(self.store).size(self.key)
        except Exception as error:
            self.error = _of_store(error)
            return
        self.present = size is not None
        self.odd = size not in (None, self._size)
        if self.odd:
            # A put would leave it as it is.
            self.error = StorageError(
                f"fragment {self.key.index} is there with {size} bytes where {self._size} are "
                "right: delete it, and store the object again"
            )

    async def replace(self) -> None:
        """Delete what is there, so that it can be put anew."""
        try:
            # Where it is another owner's, what is put is kept beside it, and comes first for us.
            with suppress(NotOwned):
                await self.store.delete(self.key)
        except Exception as error:
            self.error = _of_store(error)
        else:
            self.error = None
            self.present, self.replaced = False, True

    async def put(self) -> None:
        """Have the store take it."""
        try:
            await self.store.put(self.key, self._size, self)
        except Exception as error:
            self.error = _of_store(error)
        finally:
            # Whoever waits to give another part must not wait for ever.
            self.over = True
            while not self._parts.empty():
                self._parts.get_nowait()

    async def give(self, part: bytes | None) -> None:
        """Hand on the next part; ``None`` after the last."""
        if not self.over:
            await self._parts.put(part)

    async def end(self, manifest: Manifest, leaf_hashes: bytes) -> None:
        """Hand on what comes after the chunks."""
        if leaf_hashes:
            await self.give(leaf_hashes)
        await self.give(tail(manifest, self.key.index))
        await self.give(None)

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> bytes:
        part = await self._parts.get()
        if part is None:
            raise StopAsyncIteration
        return part


def _of_store(error: Exception) -> CitychainError:
    """A store may be anybody's, and raise anything."""
    if isinstance(error, CitychainError):
        return error
    return StoreUnavailable(f"{type(error).__name__}: {error}")
