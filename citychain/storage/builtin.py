"""The built-in storage backends, offered by the same hook as anybody else's."""

from __future__ import annotations

from collections.abc import Iterable

from citychain.hooks.definitions import API_VERSION, StorageDefinition
from citychain.hooks.specs import hookimpl
from citychain.storage.memory import MemoryBackend
from citychain.storage.sqlite import SqliteBackend, SqliteOptions

__all__ = ["citychain_storage_backends"]


@hookimpl
def citychain_storage_backends() -> Iterable[StorageDefinition]:
    """``sqlite`` and ``memory``."""
    yield StorageDefinition("sqlite", SqliteBackend, SqliteOptions, api_version=API_VERSION)
    yield StorageDefinition(
        "memory",
        lambda options, context: MemoryBackend(context),
        api_version=API_VERSION,
        durable=False,
    )
