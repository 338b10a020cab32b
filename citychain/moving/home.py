"""Where a city lives that was moved: a file in the data directory, until the configuration agrees.

``homes/SLUG.json`` below the data directory holds ``{"storage": NAME}``, the name of a
``[storage.NAME]`` table or of a backend. It only spares a server from asking the old storage, whose
note says the same (`citychain.moving.mark`).
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from citychain.errors import ConfigurationError

__all__ = ["forget_home", "home_file", "read_home", "write_home"]


def home_file(data_dir: Path, slug: str) -> Path:
    """The file that says where a city lives."""
    return data_dir / "homes" / f"{slug}.json"


def read_home(data_dir: Path, slug: str) -> str | None:
    """Name of the storage that a city was moved to; ``None`` where the configuration counts.

    Raises:
        ConfigurationError: there is a file, and it says nothing of use.
    """
    path = home_file(data_dir, slug)
    try:
        storage = json.loads(path.read_bytes())["storage"]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        storage = None
    if not isinstance(storage, str) or not storage:
        raise ConfigurationError(
            f'{path}: must be {{"storage": "NAME"}}, the storage that city {slug} was moved to; '
            "remove the file if the configuration says where it lives"
        )
    return storage


def write_home(data_dir: Path, slug: str, storage: str) -> None:
    """Say where a city lives, durably."""
    path = home_file(data_dir, slug)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(json.dumps({"storage": storage}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    _sync(path.parent)
    _sync(data_dir)


def forget_home(data_dir: Path, slug: str) -> None:
    """Let the configuration say where a city lives."""
    home_file(data_dir, slug).unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
