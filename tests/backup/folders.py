"""What is in a folder, so that it is seen whether anything there changed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["files"]


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of the last change and content of each file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
