"""The disk below the data directory."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from citychain.cli.checkup.examined import Examined, nearest
from citychain.cli.checkup.results import Result, fault, ok, warning

__all__ = ["check_disk", "check_sync", "room_results"]

MIB: Final = 1 << 20
FULL_BYTES: Final = 64 * MIB
"""With less a busy city stops within minutes."""
LITTLE_BYTES: Final = 1024 * MIB
FULL_INODES: Final = 100
LITTLE_INODES: Final = 10_000
"""Fragments and segments are files of their own."""


def check_disk(examined: Examined) -> Iterator[Result]:
    """Room for the data directory: bytes, and files."""
    folder = examined.settings.data_dir
    yield from room_results("data_dir", nearest(folder))


def room_results(subject: str, folder: Path) -> Iterator[Result]:
    """How much more fits on the disk of a folder that is there."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    # A file system that makes them as they are wanted has none to count.
    inodes = disk.f_favail if disk.f_files else LITTLE_INODES
    room = f"{folder}: {free // MIB:,} MiB are free"
    if disk.f_files:
        room += f", and {inodes:,} files"
    fix = "make room, or let less be kept (`retention`, `citychain prune`)"
    if free < FULL_BYTES or inodes < FULL_INODES:
        yield fault(subject, room, fix)
    elif free < LITTLE_BYTES or inodes < LITTLE_INODES:
        yield warning(subject, room, fix)
    else:
        yield ok(subject, room)


def check_sync(examined: Examined) -> Iterator[Result]:
    """Whether the disk takes what is to be durable, by a file that has no name and leaves none."""
    folder = nearest(examined.settings.data_dir)
    nameless = getattr(os, "O_TMPFILE", None)
    try:
        if nameless is None:
            raise IsADirectoryError
        file = os.open(folder, os.O_WRONLY | os.O_CLOEXEC | nameless, 0o600)
    except (IsADirectoryError, NotImplementedError):
        yield ok("data_dir", "was not tried: this system has no files without names")
        return
    except OSError as error:
        if error.errno in _UNKNOWN:
            yield ok("data_dir", "was not tried: this disk has no files without names")
        else:
            yield _unsynced(folder, error)
        return
    try:
        begun = time.monotonic()
        os.write(file, bytes(4_096))
        os.fsync(file)
        took = time.monotonic() - begun
    except OSError as error:
        yield _unsynced(folder, error)
    else:
        yield ok("data_dir", f"{folder}: 4 KiB were durable after {took * 1_000:.1f} ms")
    finally:
        os.close(file)


_UNKNOWN: Final = {errno.EOPNOTSUPP, 524}  # And as the kernel says it inside, which NFS lets out.


def _unsynced(folder: Path, error: OSError) -> Result:
    fix = "let the server's user write there, or mend the disk"
    return fault("data_dir", f"{folder}: nothing can be made durable: {error.strerror}", fix)
