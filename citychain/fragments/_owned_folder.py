"""One owner's folder in a storage server, and the room that all owners share. Used by threads.

A file takes a block of its disk however small it is, so a limit in bytes is one in files as well.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from citychain.errors import StoreFull
from citychain.fragments._folder import Folder

__all__ = ["Budget", "OwnersFolder"]

UNLIMITED: Final = 1 << 62
BLOCK: Final = 4096
FILES_LEAST: Final = 256
"""So many small ones are let in whatever the limit."""


def _files_max(limit: int | None) -> int:
    return UNLIMITED if limit is None else max(FILES_LEAST, limit // BLOCK)


class Budget:
    """Bytes and files of all owners together."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.used = 0
        self._files = 0
        self._files_max = _files_max(limit)
        self._lock = threading.Lock()

    def add(self, size: int, files: int) -> None:
        """Count what is there."""
        with self._lock:
            self.used += size
            self._files += files

    def take(self, size: int) -> None:
        """Count a fragment that is to be written.

        Raises:
            StoreFull: it does not fit.
        """
        with self._lock:
            if self.limit is not None and self.used + size > self.limit:
                raise StoreFull(
                    f"the storage server is full: a fragment needs {size} bytes, and {self.used} "
                    f"of {self.limit} are used"
                )
            if self._files >= self._files_max:
                raise StoreFull(f"the storage server is full: it has {self._files} fragments")
            self.used += size
            self._files += 1

    def give_back(self, size: int) -> None:
        """Do not count it any more."""
        with self._lock:
            self.used -= size
            self._files -= 1


class OwnersFolder(Folder):
    """The folder of one owner, which counts for all as well."""

    def __init__(self, path: Path, budget: Budget, limit: int | None) -> None:
        # With a limit it counts what is there.
        super().__init__(path, make=False, limit=UNLIMITED if limit is None else limit)
        self.files = 0
        """How many fragments there are, with those under way."""
        self.is_left = False
        """Whether it was found empty, and is to be removed: who still looks finds nothing there."""
        self._budget = budget
        self._files_max = _files_max(limit)
        self._counting = threading.Lock()

    def count(self) -> None:
        for shard in self._shards():
            for size in self._sizes(shard):
                self._used += size
                self.files += 1
        self._budget.add(self._used, self.files)

    def take(self, size: int) -> None:
        self._budget.take(size)
        full = f"the owner's share is full: a fragment needs {size} bytes, and {self._used} of "
        full += f"{self.limit} are used"
        try:
            with self._counting:
                if self.files >= self._files_max:
                    full = f"the owner's share is full: it has {self.files} fragments"
                    raise StoreFull(full)
                super().take(size)
                self.files += 1
        except StoreFull:
            self._budget.give_back(size)
            raise StoreFull(f"{full}; delete something") from None

    def give_back(self, size: int) -> None:
        super().give_back(size)
        with self._counting:
            self.files -= 1
        self._budget.give_back(size)

    def remove(self) -> None:
        """Remove it, where it holds nothing."""
        with suppress(OSError):
            for shard in self._shards():
                (self.path / shard).rmdir()
            self.new.rmdir()
            self.path.rmdir()

    def _be_there(self) -> None:
        if not self.is_left:
            super()._be_there()

    def _shards(self) -> list[str]:
        try:
            return super()._shards()
        except FileNotFoundError:
            if self.is_left:
                return []
            raise
