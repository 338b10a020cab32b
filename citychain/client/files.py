"""Files that an application keeps: receipts, acknowledgements, claims, genesis files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from citychain.errors import ConfigurationError

__all__ = ["read_bounded", "write_whole"]


def write_whole(path: Path | str, text: str) -> None:
    """Write a file, whole or not at all; an older one is replaced."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read_bounded(path: Path | str, maximum: int) -> bytes:
    """A file's content, or one byte more than the maximum of it.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(maximum + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
