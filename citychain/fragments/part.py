"""The file that an object is restored into, until it is whole and right.

It is ``FILE.ROOT.part``, where ROOT is the first 16 digits of the manifest's root: what one
manifest gives is not mixed with what another does, and neither is lost by trying both.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from citychain.errors import StorageError

__all__ = ["PartFile"]

ROOT_DIGITS: Final = 16


class PartFile:
    """Opened for one process alone, with what is there already. Every call blocks.

    Calls may overlap: one that was cancelled may still be at work when the file is closed, or
    begin later; it does nothing then. Every method raises `StorageError` where the file cannot be
    read or written.
    """

    def __init__(self, target: Path, root: bytes) -> None:
        self.path = target.with_name(f"{target.name}.{root.hex()[:ROOT_DIGITS]}.part")
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

    def room(self) -> int:
        """Bytes that there is room for, with what was left of it; opened or not."""
        try:
            disk = os.statvfs(self._target.parent)
            there = self.path.stat().st_size if self.path.exists() else 0
        except OSError:
            return 0
        return there + disk.f_bavail * disk.f_frsize

    def discard(self) -> bool:
        """Remove what was left of it, unless somebody is at work on it; whether there was any."""
        return _discard(self.path)

    def publish(self) -> None:
        """Give the file its name, durably, and close it; one of this name is replaced.

        What was left of other manifests is of no use any more, and goes.
        """
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
            name = re.compile(rf"{re.escape(self._target.name)}\.[0-9a-f]{{{ROOT_DIGITS}}}\.part")
            for entry in os.listdir(self._target.parent):
                if name.fullmatch(entry):
                    _discard(self._target.with_name(entry))

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


def _discard(path: Path) -> bool:
    with suppress(OSError):  # It is not there, or somebody is at work on it.
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return os.fstat(file).st_size > 0
        finally:
            os.close(file)
    return False
