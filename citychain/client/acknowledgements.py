"""Signed acknowledgements on disk: a JSON file for each transaction."""

from __future__ import annotations

from pathlib import Path

from citychain.acknowledgement import FILE_BYTES_MAX, Promise, from_json, to_json
from citychain.client.files import read_bounded, write_whole
from citychain.errors import InvalidAcknowledgement

__all__ = ["load_acknowledgement", "save_acknowledgement"]


def save_acknowledgement(path: Path | str, promise: Promise) -> None:
    """Write an acknowledgement's file, whole or not at all; an older one is replaced."""
    write_whole(path, to_json(promise))


def load_acknowledgement(path: Path | str) -> Promise:
    """Read an acknowledgement's file. `citychain.acknowledgement.verify` checks what it claims.

    Raises:
        ConfigurationError: the file cannot be read.
        InvalidAcknowledgement: with the check ``form``; it is none.
    """
    try:
        return from_json(read_bounded(path, FILE_BYTES_MAX))
    except InvalidAcknowledgement as error:
        raise InvalidAcknowledgement(error.check, f"{path}: {error.detail}") from None
