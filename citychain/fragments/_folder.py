"""A folder of fragments on a disk. All of this blocks: it is called in threads.

::

    FOLDER/new/<32 digits>                 being written, and locked by who writes it
    FOLDER/<3>/<object>-<root>-<index>     a whole fragment, below the first digits of its name

All digits are lower-case hexadecimal: 64, 64 and 2 of a name, which so sorts as its key does. What
has another name is none of ours, and left alone.

Several processes may use one folder. A file in ``new`` that nobody has locked is of a process that
is gone; the next one that opens the folder removes it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from citychain.errors import FragmentMissing, StorageError, StoreFull, StoreUnavailable
from citychain.fragments._names import SHARD, SHARD_DIGITS, is_name, key_of, name_of
from citychain.ports import FragmentKey, Space

__all__ = ["Folder", "Writing", "make_folder", "sync_folder"]

NEW: Final = "new"
SYNC_BYTES: Final = 32 << 20
"""Written between two syncs: the last one has little to do, and who waits for it is not kept."""


class Folder:
    """The fragments below a folder.

    Args:
        make: The folder is made where it is not there. Else it must be: one that is gone, as
            with a disk that is not mounted, must not look like an empty one.
        limit: Bytes that fragments may take in all. What other processes put meanwhile is
            counted when the folder is opened again.
    """

    def __init__(self, path: Path, *, make: bool, limit: int | None) -> None:
        self.path = path
        self.new = path / NEW
        """Files that are being written. While the folder is open this one is there, so where it
        is not, the disk is gone."""
        self.limit = limit
        self._make = make
        self._lock = threading.Lock()
        self._used = 0
        """Bytes of fragments, and of those under way; counted where there is a limit."""
        self._durable: set[str] = set()
        """Folders of `FOLDER` whose names are known to be on the disk."""

    def open(self) -> None:
        """See that it is there; remove what others left half written.

        Raises:
            StoreUnavailable: the folder must be there, and is not.
        """
        if self._make:
            make_folder(self.path)
        elif not self.path.is_dir():
            raise StoreUnavailable(
                f"{self.path} is no folder: mount its disk, or make the folder if the store is new"
            )
        self.new.mkdir(exist_ok=True)
        for left in self.new.iterdir():
            with suppress(OSError):  # It is in use, or the disk is read-only.
                _remove_unlocked(left)

    def count(self) -> None:
        """Find how much is used, where there is a limit."""
        if self.limit is not None:
            self._used = self._counted()

    # Fragments

    def place(self, key: FragmentKey) -> Path:
        """The file of a fragment."""
        name = name_of(key)
        return self.path / name[:SHARD_DIGITS] / name

    def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        try:
            file = os.open(self.place(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._be_there()
            raise FragmentMissing(f"{self.path} has no fragment {name_of(key)}") from None
        try:
            parts = []
            end = offset + length
            if os.fstat(file).st_size < end:
                raise FragmentMissing(f"{self.place(key)} ends before byte {end}")
            while offset < end:
                part = os.pread(file, end - offset, offset)
                if not part:
                    raise FragmentMissing(f"{self.place(key)} ends at byte {offset}")
                parts.append(part)
                offset += len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            os.close(file)

    def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        try:
            return self.place(key).stat().st_size
        except FileNotFoundError:
            self._be_there()
            return None

    def find(
        self, object_id: bytes, after: FragmentKey | None = None, limit: int | None = None
    ) -> list[FragmentKey]:
        """See `FragmentStore.find`; a page of it, as `keys` has them, where there is a limit."""
        prefix = object_id.hex()
        last = "" if after is None else name_of(after)
        names = self._names(prefix[:SHARD_DIGITS], prefix)
        self._be_there()
        return [key_of(name) for name in [it for it in names if it > last][:limit]]

    def keys(self, after: FragmentKey | None, limit: int) -> list[FragmentKey]:
        """See `FragmentStore.keys`."""
        last = "" if after is None else name_of(after)
        found: list[str] = []
        for shard in self._shards():
            if shard >= last[:SHARD_DIGITS]:
                found += (name for name in self._names(shard) if name > last)
                if len(found) >= limit:
                    break
        self._be_there()
        return [key_of(name) for name in found[:limit]]

    def delete(self, key: FragmentKey, is_left: Callable[[], bool] = lambda: False) -> bool:
        """See `FragmentStore.delete`. A power cut may bring it back.

        Args:
            is_left: Whether nobody asks for it any more, as `adopt` has it.
        """
        place = self.place(key)
        try:
            with self._lock, _locked(place.parent):
                size = place.stat().st_size
                if is_left():
                    raise self.left()
                place.unlink()
        except FileNotFoundError:
            self._be_there()
            return False
        self.give_back(size)
        return True

    def space(self) -> Space:
        """See `FragmentStore.space`; without a limit everything is counted now."""
        used = self._used if self.limit is not None else self._counted()
        self._be_there()
        return Space(used, self.limit)

    def _be_there(self) -> None:
        """Raises `OSError` if the folder is gone: then nothing is known of what was in it."""
        self.new.stat()

    def _shards(self) -> list[str]:
        return sorted(name for name in os.listdir(self.path) if SHARD.fullmatch(name))

    def _names(self, shard: str, prefix: str = "") -> list[str]:
        try:
            names = os.listdir(self.path / shard)
        except FileNotFoundError:
            return []
        return sorted(it for it in names if it.startswith(prefix) and is_name(it, shard))

    def _counted(self) -> int:
        return sum(size for shard in self._shards() for size in self._sizes(shard))

    def _sizes(self, shard: str) -> Iterator[int]:
        with suppress(FileNotFoundError), os.scandir(self.path / shard) as entries:
            for entry in entries:
                if is_name(entry.name, shard):
                    with suppress(FileNotFoundError):  # It was deleted meanwhile.
                        yield entry.stat().st_size

    # For those who write

    def take(self, size: int) -> None:
        """Count what is to be written.

        Raises:
            StoreFull: it does not fit.
        """
        with self._lock:
            if self.limit is not None and self._used + size > self.limit:
                raise StoreFull(
                    f"{self.path} is full: a fragment needs {size} bytes, and {self._used} of "
                    f"{self.limit} are used; raise limit_mib, or delete something"
                )
            self._used += size

    def give_back(self, size: int) -> None:
        """Do not count it any more."""
        with self._lock:
            # What another process put, and this one deleted, was never counted here.
            self._used = max(0, self._used - size)

    def has(self, key: FragmentKey) -> bool:
        """Whether a fragment has its place, and nobody is just giving it or taking it away."""
        place = self.place(key)
        with self._lock, suppress(FileNotFoundError), _locked(place.parent):
            return place.exists()
        return False

    def left(self) -> StorageError:
        """Told to nobody: by a thread that was left, and only then got on."""
        return StoreUnavailable(f"{self.path}: nobody waits for this any more")

    def adopt(self, file: Path, key: FragmentKey, is_left: Callable[[], bool]) -> bool:
        """Give a file that is on the disk its place; whether there was none before.

        When this returns others see it; `make_durable` is still to be called.

        Args:
            is_left: Whether nobody asks for it any more; then nothing is done. It is looked at
                under the lock: whatever is called after it was left comes after it, or without it.
        """
        place = self.place(key)
        place.parent.mkdir(exist_ok=True)
        with self._lock, _locked(place.parent):
            if place.exists():
                return False
            if is_left():
                raise self.left()
            file.rename(place)
            return True

    def make_durable(self, shard: Path) -> None:
        """Let the names in a folder, and its own, survive a power cut."""
        sync_folder(shard)
        if shard.name not in self._durable:
            sync_folder(self.path)
            self._durable.add(shard.name)


class Writing:
    """A fragment on its way into a folder. `close` it, whatever happened; nothing is left then.

    A step that hangs may be left to itself: once it gets on, the fragment gets no name any more,
    and what there is of it is removed.
    """

    def __init__(self, folder: Folder, key: FragmentKey, size: int) -> None:
        self._folder = folder
        self._key = key
        self._left = self._size = size
        self._unsynced = 0
        self._taken = False
        self._path: Path | None = None
        self._file: int | None = None
        self._guard = threading.Lock()
        """Held for a moment only, never while the disk is waited for."""
        self._is_at_work = self._is_left = False

    @property
    def is_left(self) -> bool:
        """Whether nobody asks for it any more."""
        return self._is_left

    def leave(self) -> None:
        """From now on nobody asks for it. It does not block."""
        self._is_left = True

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """A step: nobody closes the file meanwhile, as its number may soon be another file's. If it
        was to be closed, it is now."""
        with self._guard:
            if self._is_left:
                raise self._folder.left()
            self._is_at_work = True
        try:
            yield
        finally:
            with self._guard:
                self._is_at_work = False
                is_left = self._is_left
            if is_left:
                self._remove()

    def begin(self) -> bool:
        """Whether there is something to write: the fragment is not there yet.

        Raises:
            StoreFull: it does not fit.
        """
        with self._at_work():
            if self._folder.has(self._key):
                # Who put it may be about to make it durable, and this call may return earlier.
                self._folder.make_durable(self._folder.place(self._key).parent)
                return False
            if self._is_left:
                raise self._folder.left()
            self._folder.take(self._size)
            self._taken = True
            self._create()
            return True

    def _create(self) -> None:
        while True:
            path = self._folder.new / secrets.token_hex(16)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._path, self._file = path, file
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():
                return
            # Somebody who opened the folder took it for one that was left.
            self._path = self._file = None
            os.close(file)

    def write(self, part: bytes) -> None:
        """Add a part.

        Raises:
            StorageError: it is more than was said.
        """
        with self._at_work():
            assert self._file is not None
            self._left -= len(part)
            if self._left < 0:
                raise self._of_another_size()
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._unsynced += len(part)
            if self._unsynced >= SYNC_BYTES:
                os.fsync(self._file)
                self._unsynced = 0

    def finish(self) -> None:
        """Let everybody see it: when this returns it survives a power cut.

        Raises:
            StorageError: it is less than was said.
        """
        with self._at_work():
            assert self._file is not None
            assert self._path is not None
            if self._left:
                raise self._of_another_size()
            os.fsync(self._file)
            if self._folder.adopt(self._path, self._key, lambda: self._is_left):
                # From here on it is there and counted, even if it cannot be made durable now.
                self._taken = False
                self._path = None
            self._folder.make_durable(self._folder.place(self._key).parent)
        self.close()

    def _of_another_size(self) -> StorageError:
        came = self._size - self._left
        more = " or more" if self._left < 0 else ""
        return StorageError(
            f"{self._folder.path}: a fragment of {self._size} bytes came with {came}{more}"
        )

    def close(self) -> None:
        """Remove what is not finished. Raises nothing: what a disk that fails does not let go is
        removed when the folder is opened again. Where a step has not ended, that does it then."""
        with self._guard:
            self._is_left = True
            if self._is_at_work:
                return
        self._remove()

    def _remove(self) -> None:
        with self._guard:
            file, path, taken = self._file, self._path, self._taken
            self._file, self._path, self._taken = None, None, False
        if taken:
            self._folder.give_back(self._size)
        if file is not None:
            with suppress(OSError):
                os.close(file)
        if path is not None:
            with suppress(OSError):
                path.unlink()


def _remove_unlocked(path: Path) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(file)


def make_folder(folder: Path) -> None:
    """Make the folder, and its name and those of its new parents durable, one after the other."""
    known = next(path for path in (folder, *folder.parents) if path.exists())
    # A process may have made it and ended before its name was durable. Where it is older its parent
    # is none of ours, and may refuse.
    with suppress(OSError):
        sync_folder(known.parent)
    new = [path for path in (folder, *folder.parents) if path.is_relative_to(known)]
    for path in reversed(new[: new.index(known)]):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """No other process gives a fragment its place in a folder meanwhile, or takes it away."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A file system without locks is used by one process, or counts a fragment twice at worst.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
