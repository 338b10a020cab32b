"""A fragment store in a plain dict: nothing outlives it.

It is the shortest complete answer to `citychain.ports.FragmentStore`: read it to learn what a store
does, then write your own. Nothing is awaited between the last look and the write, and that alone
makes every `put` atomic.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from citychain.errors import FragmentMissing, StorageError, StoreFull
from citychain.ports import FragmentKey, Space

__all__ = ["MemoryStore"]


class MemoryStore:
    """A `FragmentStore` that forgets everything when it goes.

    Args:
        limit: Bytes that fragments may take in all.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._fragments: dict[FragmentKey, bytes] = {}

    async def __aenter__(self) -> MemoryStore:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        """See `FragmentStore.put`."""
        if key in self._fragments:
            return
        self._find_room(size)
        content = bytearray()
        async for part in parts:
            content += part
            if len(content) > size:
                break
        if len(content) != size:
            raise StorageError(f"a fragment of {size} bytes came with {len(content)}")
        if key not in self._fragments:
            self._find_room(size)
            self._fragments[key] = bytes(content)

    def _find_room(self, size: int) -> None:
        if self._limit is not None and self._used + size > self._limit:
            raise StoreFull(f"{self._used} of {self._limit} bytes are used, and {size} are needed")

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        content = self._fragments.get(key)
        if content is None or offset + length > len(content):
            raise FragmentMissing(
                f"fragment {key.index} of {key.object_id.hex()} has no {length} bytes at {offset}"
            )
        return content[offset : offset + length]

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        return len(self._fragments[key]) if key in self._fragments else None

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""
        return sorted(key for key in self._fragments if key.object_id == object_id)

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        return sorted(key for key in self._fragments if after is None or key > after)[:limit]

    async def delete(self, key: FragmentKey) -> bool:
        """See `FragmentStore.delete`."""
        return self._fragments.pop(key, None) is not None

    async def space(self) -> Space:
        """See `FragmentStore.space`."""
        return Space(self._used, self._limit)

    @property
    def _used(self) -> int:
        return sum(map(len, self._fragments.values()))
