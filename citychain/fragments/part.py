"""The file that an object is restored into: ``FILE.part`` until it is whole and right."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citychain.errors import StorageError

__all__ = ["PartFile"]


class PartFile:
    """Opened for one process alone, with what is there already. Every call blocks.

    Calls may overlap: one that was cancelled may still be at work when the file is closed, or
    begin later; it does nothing then. Every method raises `StorageError` where the file cannot be
    read or written.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._target = target
        self._lock = threading.Lock()
        self._is_open = self._is_over = False
        self._file = -1

    def open(self) -> None:
        """Take it; nobody else can until it is closed."""
        with self._held():
            if self._is_over or self._is_open:
                return
            if self._target.is_dir():
                raise IsADirectoryError(None, f"{self._target} is a directory")
            self._file = self._open()
            self._is_open = True

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of what is there."""
        with self._held():
            return os.pread(self._file, length, offset) if self._is_open else b""

    def truncate(self, size: int) -> None:
        """Forget what is there from ``size`` bytes on."""
        with self._held():
            if self._is_open:
                os.ftruncate(self._file, size)

    def write(self, offset: int, data: bytes) -> None:
        """Write a stretch."""
        left = memoryview(data)
        with self._held():
            while left and self._is_open:
                written = os.pwrite(self._file, left, offset)
                offset, left = offset + written, left[written:]

    def publish(self) -> None:
        """Give the file its name, durably, and close it; one of this name is replaced."""
        with self._held():
            if not self._is_open:
                return
            os.fsync(self._file)
            os.replace(self.path, self._target)
            self._is_open, self._is_over = False, True
            os.close(self._file)
            directory = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def close(self) -> None:
        """Let other processes have it; nothing is left of an empty one."""
        with self._held():
            self._is_over = True
            if self._is_open:
                self._is_open = False
                if os.fstat(self._file).st_size == 0:
                    self.path.unlink(missing_ok=True)
                os.close(self._file)

    def _open(self) -> int:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(self.path, flags, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._has_name(file):
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

    def _has_name(self, file: int) -> bool:
        """Another process may have published or removed it since it was opened."""
        try:
            return os.path.samestat(os.fstat(file), self.path.stat())
        except FileNotFoundError:
            return False

    @contextmanager
    def _held(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}") from error
