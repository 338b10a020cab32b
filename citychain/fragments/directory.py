"""A fragment store in a folder: of a disk, or of whatever else is mounted.

A fragment is written under a temporary name, synced, and renamed; then its folder is synced. So
there is no half of one, whenever the power goes. `citychain.fragments._folder` has the layout.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

from pydantic import BaseModel, ConfigDict, Field

from citychain.errors import StorageError, StoreFull, StoreUnavailable
from citychain.fragments._folder import Folder, Writing
from citychain.fragments._settled import settled, waited
from citychain.fragments._threads import Threads
from citychain.fragments.patience import ANSWER_SECONDS, within
from citychain.hooks.definitions import ConfigPath

if TYPE_CHECKING:
    from citychain.ports import FragmentKey, Space, StorageContext

__all__ = ["DirectoryOptions", "DirectoryStore"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
READS_AT_ONCE: Final = 4
WRITES_AT_ONCE: Final = 4
LEAVE_SECONDS: Final = 3.0
"""For a call that writes, when its caller is cancelled, and for removing what was begun. A disk
that is well ends each of them sooner: at most 32 MiB are to be synced. With one that hangs whoever
stops a server, or has lost a city, is not to wait for it."""


class DirectoryOptions(BaseModel):
    """Options of the ``directory`` fragment store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ConfigPath | None = None
    """Folder of the fragments, which must be there: best one within a disk that is mounted, since
    without the disk it is gone. Absent for ``fragments/NAME`` in the data directory, which is
    made."""
    limit_mib: int | None = Field(default=None, ge=1)
    """Most that the fragments may take; absent for as much as fits on the disk."""


class DirectoryStore:
    """A `FragmentStore` in a folder, which several processes may use."""

    def __init__(self, options: DirectoryOptions, context: StorageContext) -> None:
        self._threads = Threads("citychain-fragments", READS_AT_ONCE)
        self._writers = Threads("citychain-fragments-put", WRITES_AT_ONCE)
        self._folder = Folder(
            options.path or context.directory,
            make=options.path is None,
            limit=None if options.limit_mib is None else options.limit_mib << 20,
        )

    async def __aenter__(self) -> DirectoryStore:
        try:
            await within(ANSWER_SECONDS, self._call(self._folder.open))
            await self._call(self._folder.count)  # It takes as long as there are fragments.
        except BaseException:
            self._threads.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._threads.close()
        self._writers.close()

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        """See `FragmentStore.put`."""
        writing = Writing(self._folder, key, size)
        try:
            if await self._settled(writing.leave, writing.begin):
                async for part in parts:
                    await self._settled(writing.leave, writing.write, part)
                await self._settled(writing.leave, writing.finish)
        except BaseException:
            await self._closed(writing)
            raise

    async def _closed(self, writing: Writing) -> None:
        """Close what was not finished. A disk that hangs is not waited for, or not once more: it is
        closed when that is possible, or when the process ends, and removed as after a kill."""
        seconds = 0 if writing.is_left else LEAVE_SECONDS
        try:
            closing = self._writers.submit(writing.close)
        except RuntimeError:  # No thread could be had.
            writing.close()
        else:
            await waited(closing, seconds)

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        return await self._call(self._folder.read, key, offset, length)

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        return await self._call(self._folder.size, key)

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""
        return await self._call(self._folder.find, object_id)

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        return await self._call(self._folder.keys, after, limit)

    async def delete(self, key: FragmentKey) -> bool:
        """See `FragmentStore.delete`."""
        left = threading.Event()
        return await self._settled(left.set, self._folder.delete, key, left.is_set)

    async def space(self) -> Space:
        """See `FragmentStore.space`."""
        return await self._call(self._folder.space)

    async def _call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function that only reads, in a thread of the store's own; whoever is cancelled
        does not wait for its end, which a disk that hangs puts off for ever.

        Raises:
            StoreUnavailable: the operating system refuses.
        """
        try:
            return await self._threads(function, *args)
        except OSError as error:
            raise self._told(error) from error

    async def _settled(
        self, leave: Callable[[], None], function: Callable[[*Ts], T], *args: *Ts
    ) -> T:
        """Call a function in a thread of the store's own; whoever is cancelled waits for its end,
        so that it is known what was done. One that hangs is left after a while: ``leave`` lets it
        change nothing any more, beyond what the disk is just at.

        Raises:
            StoreFull: the disk is.
            StoreUnavailable: the operating system refuses otherwise.
        """
        try:
            return await settled(self._writers.submit(function, *args), LEAVE_SECONDS, leave)
        except OSError as error:
            raise self._told(error) from error

    def _told(self, error: OSError) -> StorageError:
        what = f"fragment store in {self._folder.path}: {error.strerror or error}"
        if error.errno in FULL:
            return StoreFull(f"{what}; make room, or lower limit_mib to what there is")
        return StoreUnavailable(f"{what}; see that the disk is mounted and can be written to")
