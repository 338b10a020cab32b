"""When files are looked at that a server uses anew as soon as they change, and how that is seen."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["LOOK", "FileStamp", "file_stamp"]

LOOK: Final = timedelta(seconds=10)
"""Between two looks."""

FileStamp: TypeAlias = tuple[int, int, int]
"""What changes with a file, or with who may read it: its place, its size, its time."""


def file_stamp(file: Path) -> FileStamp:
    """What to compare with that of an earlier look.

    Raises:
        OSError: there is none, or it cannot be reached.
    """
    status = file.stat()
    return status.st_ino, status.st_size, status.st_ctime_ns
