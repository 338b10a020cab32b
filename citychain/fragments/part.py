"""The file that an object is restored into: ``FILE.part`` until it is whole and right."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citychain.errors import StorageError

__all__ = ["PartFile"]


class PartFile:
    """Opened for one process alone, with what is there already. Every call blocks.

    Every method raises `StorageError` where the file cannot be read or written.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._target = target
        with self._explained():
            self._file = self._open()

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of what is there."""
        with self._explained():
            return os.pread(self._file, length, offset)

    def truncate(self, size: int) -> None:
        """Forget what is there from ``size`` bytes on."""
        with self._explained():
            os.ftruncate(self._file, size)

    def write(self, offset: int, data: bytes) -> None:
        """Write a stretch."""
        left = memoryview(data)
        with self._explained():
            while left:
                written = os.pwrite(self._file, left, offset)
                offset, left = offset + written, left[written:]

    def publish(self) -> None:
        """Give the file its name, durably; one of this name is replaced."""
        with self._explained():
            os.fsync(self._file)
            os.replace(self.path, self._target)
            directory = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def remove(self) -> None:
        """Leave nothing behind."""
        with self._explained():
            self.path.unlink()

    def close(self) -> None:
        """Let other processes have it."""
        os.close(self._file)

    def _open(self) -> int:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(self.path, flags, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have published or removed it since it was opened.
                if self.path.exists() and os.path.samestat(os.fstat(file), self.path.stat()):
                    return file
            except BlockingIOError:
                os.close(file)
                raise StorageError(
                    f"{self.path}: another process restores into it; wait for it, or stop it"
                ) from None
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}") from error
