"""Using stores at a pace: at most so many bytes a second go to and from them, and are counted."""

from __future__ import annotations

from collections.abc import Sequence

from citychain.fragments.patience import Readable
from citychain.ports import Clock, FragmentKey

__all__ = ["Pace", "PaceShare", "PacedReads"]


class Pace:
    """A pace that several stores share. Whoever writes asks it itself.

    Args:
        bytes_per_second: Of all that is read and written together; ``None`` for any number.
    """

    def __init__(self, clock: Clock, bytes_per_second: float | None = None) -> None:
        self.read = 0
        """Bytes that stores gave."""
        self.written = 0
        """Bytes that stores were given."""
        self._clock = clock
        self._rate = bytes_per_second
        self._free_at = clock.monotonic()
        """When all that was taken so far has had its time."""

    async def take(self, count: int) -> None:
        """Wait until what was taken before has had its time; then so many bytes may go."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        wait = self._free_at - now
        self._free_at = max(self._free_at, now) + count / self._rate
        if wait > 0:
            await self._clock.sleep(wait)

    def share(self) -> PaceShare:
        """The same pace for one of several who go at it together."""
        return PaceShare(self, self._clock)


class PaceShare(Pace):
    """What one of several has of a pace; knows how long that one had to wait for it."""

    def __init__(self, pace: Pace, clock: Clock) -> None:
        super().__init__(clock)
        self._pace = pace
        self.waited = 0.0
        """Seconds."""

    async def take(self, count: int) -> None:
        """See `Pace.take`."""
        began = self._clock.monotonic()
        await self._pace.take(count)
        self.waited += self._clock.monotonic() - began


class PacedReads:
    """A store as it is read, at a pace; over what has a time limit, so that it is not counted."""

    def __init__(self, store: Readable, pace: Pace) -> None:
        self._store = store
        self._pace = pace

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        await self._pace.take(length)
        data = await self._store.read(key, offset, length)
        self._pace.read += len(data)
        return data

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        return await self._store.size(key)

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""
        return await self._store.find(object_id)

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        return await self._store.keys(after, limit)
