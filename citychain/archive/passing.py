"""Folders that are there for a moment, for a segment that is restored."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

__all__ = ["passing_folder"]

PREFIX: Final = "segment-"
LEFT_SECONDS: Final = 86_400
"""What is older was left by a process that was killed: nothing is restored for so long."""


def passing_folder(parent: Path) -> TemporaryDirectory[str]:
    """A new folder in this one; what killed processes left there is removed."""
    parent.mkdir(parents=True, exist_ok=True)
    oldest = time.time() - LEFT_SECONDS
    for left in parent.glob(f"{PREFIX}*"):
        try:
            if left.stat().st_mtime < oldest:
                shutil.rmtree(left)
        except OSError:  # Somebody else removes it, or nobody can.
            continue
    return TemporaryDirectory(prefix=PREFIX, dir=parent)
