"""Fragments of several owners in one folder: what a storage server keeps.

::

    FOLDER/lock                 locked by the one process that uses the folder
    FOLDER/owners/<64 digits>/  fragments of one owner, as `citychain.fragments._folder` has them

The digits are the owner's id, lower-case hexadecimal. Everybody's fragments are read as those of
one store. Two owners may have put the same key: the server knows nothing of what the bytes mean, so
neither may stand in for the other, and each has a copy of its own.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from citychain.errors import (
    DirectoryInUse,
    FragmentMissing,
    NotOwned,
    StorageError,
    StoreFull,
    StoreUnavailable,
    VerificationError,
)
from citychain.fragments._folder import sync_folder
from citychain.fragments._owned_folder import Budget, OwnersFolder
from citychain.fragments._settled import settled
from citychain.fragments._threads import Threads
from citychain.fragments.directory import FULL, DirectoryStore
from citychain.fragments.proving import ChunkProof, prove
from citychain.ports import Compute, FragmentKey, Space

__all__ = ["OWNER_ID_BYTES", "OwnedFragments"]

logger = logging.getLogger(__name__)

OWNER_ID_BYTES: Final = 32
OWNERS_MAX: Final = 1_000
"""Each is asked for what is read."""
READS_AT_ONCE: Final = 8
"""Of all owners."""
WRITES_AT_ONCE: Final = 8
"""Of all owners."""
_OWNER: Final = re.compile(r"[0-9a-f]{64}")


class OwnedFragments:
    """What all owners have stored below a folder, which must be there.

    Enter it before use. Messages of what it raises are for those who ask from elsewhere: they tell
    nothing of the folder; the log does.

    Args:
        limit: Bytes that the fragments of all owners may take in all.
        owner_limit: Bytes that those of each owner may take.
    """

    def __init__(
        self,
        folder: Path,
        compute: Compute,
        *,
        limit: int | None = None,
        owner_limit: int | None = None,
    ) -> None:
        self._folder = folder
        self._owners = folder / "owners"
        self._compute = compute
        self._threads = Threads("citychain-owned", READS_AT_ONCE)
        self._writers = Threads("citychain-owned-put", WRITES_AT_ONCE)
        self._owner_limit = owner_limit
        self._budget = Budget(limit)
        self._shelves: dict[bytes, _Shelf] = {}
        self._making = threading.Lock()
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        """Find what is there; remove what was left half written.

        Raises:
            StoreUnavailable: the folder is not there.
            DirectoryInUse: another process has it open.
            OSError: it cannot be used otherwise.
        """
        await self._compute(self._open)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Let another process open the folder."""
        self._threads.close()
        self._writers.close()
        self._close()

    def _open(self) -> None:
        if not self._folder.is_dir():
            raise StoreUnavailable(
                f"{self._folder} is no folder: mount its disk, or make the folder if it is new"
            )
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DirectoryInUse(str(self._folder), "unknown", "stop it first") from None
            self._owners.mkdir(exist_ok=True)
            sync_folder(self._folder)
            for path in sorted(self._owners.iterdir()):
                if _OWNER.fullmatch(path.name) and not (shelf := self._add(path)).folder.files:
                    del self._shelves[shelf.owner]
                    shelf.folder.remove()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _add(self, path: Path) -> _Shelf:
        folder = OwnersFolder(path, self._budget, self._owner_limit)
        folder.open()
        folder.count()
        shelf = _Shelf(bytes.fromhex(path.name), folder, self._threads, self._writers)
        self._shelves[shelf.owner] = shelf
        return shelf

    # One owner's

    async def put(
        self, owner: bytes, key: FragmentKey, size: int, parts: AsyncIterator[bytes]
    ) -> None:
        """Keep an owner's fragment; see `FragmentStore.put`.

        Raises:
            StoreFull: there is no room for it, or for no more owners.
            StoreUnavailable: the disk cannot be used.
        """
        try:
            while (shelf := await self._shelf(owner, size)).folder.is_left:
                pass  # Another put has just left it empty.
            shelf.puts += 1
            try:
                await shelf.put(key, size, parts)
            finally:
                shelf.puts -= 1
        finally:
            await self._leave(owner)

    async def _shelf(self, owner: bytes, size: int) -> _Shelf:
        if (shelf := self._shelves.get(owner)) is None:
            self._budget.take(size)  # Who gets nothing in makes no folder either.
            self._budget.give_back(size)
            try:
                shelf = await settled(self._compute(self._made, owner))
            except OSError as error:
                raise _told(self._owners, error) from error
        return shelf

    def _made(self, owner: bytes) -> _Shelf:
        with self._making:
            if (shelf := self._shelves.get(owner)) is not None:
                return shelf
            if len(self._shelves) >= OWNERS_MAX:
                raise StoreFull(f"the storage server has {OWNERS_MAX} owners, and takes no more")
            path = self._path(owner)
            # Where the disk is gone there is no such parent, and it is not made.
            path.mkdir(exist_ok=True)
            sync_folder(self._owners)
            return self._add(path)

    def _path(self, owner: bytes) -> Path:
        return self._owners / owner.hex()

    async def _leave(self, owner: bytes) -> None:
        """Forget an owner who has nothing here: owners are not without end, and each is asked."""
        shelf = self._shelves.get(owner)
        if shelf is not None and not (shelf.puts or shelf.folder.files):
            shelf.folder.is_left = True
            del self._shelves[owner]
            await settled(self._compute(self._removed, shelf))

    def _removed(self, shelf: _Shelf) -> None:
        with self._making:
            if shelf.owner not in self._shelves:  # It has not come back meanwhile.
                shelf.folder.remove()

    async def delete(self, owner: bytes, key: FragmentKey) -> bool:
        """Remove an owner's fragment; whether it was there.

        Raises:
            NotOwned: others have it, and this owner has not.
            StoreUnavailable: the disk cannot be used.
        """
        shelf = self._shelves.get(owner)
        if shelf is not None and await shelf.delete(key):
            await self._leave(owner)
            return True
        if await self.size(key) is not None:
            raise NotOwned("another owner stored the fragment: only its owner may delete it")
        return False

    # Everybody's; see `FragmentStore`. An owner's own come first.

    async def read(
        self,
        key: FragmentKey,
        offset: int,
        length: int,
        owner: bytes | None = None,
        *,
        most: int | None = None,
    ) -> AsyncGenerator[bytes]:
        """Bytes of a fragment, of one copy that has all of them; see `FragmentStore.read`.

        Args:
            most: Bytes of each part; ``None`` for all in one.
        """
        await self._be_there()
        end = offset + length
        try:
            for shelf in self._asked(owner):
                size = await shelf.size(key)
                if size is not None and size >= end:
                    break
            else:
                raise FragmentMissing("")
            while True:
                part = await shelf.read(key, offset, min(end - offset, most or length))
                yield part
                offset += len(part)
                if offset >= end:
                    return
        except FragmentMissing:  # It may have been deleted meanwhile.
            raise _missing(key, f" with {length} bytes at {end - length}") from None

    async def size(self, key: FragmentKey, owner: bytes | None = None) -> int | None:
        """See `FragmentStore.size`."""
        await self._be_there()
        for shelf in self._asked(owner):
            if (size := await shelf.size(key)) is not None:
                return size
        return None

    async def prove(self, key: FragmentKey, chunk: int, owner: bytes | None = None) -> ChunkProof:
        """See `citychain.fragments.proving.prove`: of a copy that is whole, if there is one."""
        await self._be_there()
        wrong: VerificationError | None = None
        for shelf in self._asked(owner):
            try:
                return await prove(shelf, key, chunk, self._compute)
            except FragmentMissing:
                continue
            except VerificationError as error:
                wrong = error
        raise wrong or _missing(key)

    async def find(
        self, object_id: bytes, after: FragmentKey | None, limit: int
    ) -> Sequence[FragmentKey]:
        """Fragments of an object, a page at a time as those of `keys`."""
        await self._be_there()
        found = [await shelf.page(object_id, after, limit) for shelf in self._asked(None)]
        return await self._compute(_merged, found, limit)

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        await self._be_there()
        found = [await shelf.keys(after, limit) for shelf in self._asked(None)]
        return await self._compute(_merged, found, limit)

    async def space(self, owner: bytes | None = None) -> Space:
        """How much all owners use, and how much that may be as far as one of them is concerned."""
        await self._be_there()
        used, limits = self._budget.used, [self._budget.limit]
        if owner is not None and self._owner_limit is not None:
            shelf = self._shelves.get(owner)
            own = 0 if shelf is None else (await shelf.space()).used
            limits.append(used + max(0, self._owner_limit - own))
        return Space(used, min((limit for limit in limits if limit is not None), default=None))

    def _asked(self, owner: bytes | None) -> Iterator[_Shelf]:
        first = None if owner is None else self._shelves.get(owner)
        if first is not None:
            yield first
        yield from (shelf for shelf in list(self._shelves.values()) if shelf is not first)

    async def _be_there(self) -> None:
        """Where nobody has a shelf yet, a disk that is gone looks like an empty one."""
        if not self._shelves:
            try:
                await self._compute(os.stat, self._owners)
            except OSError as error:
                raise _told(self._owners, error) from error


class _Shelf(DirectoryStore):
    """The store of one owner."""

    def __init__(
        self, owner: bytes, folder: OwnersFolder, threads: Threads, writers: Threads
    ) -> None:
        self.owner = owner
        self.folder = self._folder = folder
        self.puts = 0
        """Under way."""
        self._threads = threads
        self._writers = writers

    async def page(
        self, object_id: bytes, after: FragmentKey | None, limit: int
    ) -> Sequence[FragmentKey]:
        """Some of what `find` gives."""
        return await self._call(self._folder.find, object_id, after, limit)

    def _told(self, error: OSError) -> StorageError:
        return _told(self._folder.path, error)


def _merged(pages: Sequence[Sequence[FragmentKey]], limit: int) -> list[FragmentKey]:
    """The first keys of pages of as many."""
    return sorted({key for page in pages for key in page})[:limit]


def _missing(key: FragmentKey, what: str = "") -> FragmentMissing:
    return FragmentMissing(f"there is no fragment {key.index} of {key.object_id.hex()}{what}")


def _told(path: Path, error: OSError) -> StorageError:
    if error.errno in FULL:
        logger.warning("%s: the disk is full", path)
        return StoreFull("the disk of the storage server is full")
    logger.error("%s cannot be used: %s", path, error)
    return StoreUnavailable(
        "the storage server cannot use its disk: its operator finds the reason in its log"
    )
