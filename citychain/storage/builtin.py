"""The built-in storage backends, offered by the same hook as anybody else's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from citychain.errors import StorageError
from citychain.hooks.definitions import API_VERSION, StorageDefinition
from citychain.hooks.specs import hookimpl
from citychain.storage._mongodb_options import MongodbOptions
from citychain.storage.memory import MemoryBackend
from citychain.storage.sqlite import SqliteBackend, SqliteOptions

if TYPE_CHECKING:
    from citychain.ports import StorageBackend, StorageContext

__all__ = ["citychain_storage_backends"]


@hookimpl
def citychain_storage_backends() -> Iterable[StorageDefinition]:
    """``sqlite``, ``mongodb`` and ``memory``."""
    yield StorageDefinition("sqlite", SqliteBackend, SqliteOptions, api_version=API_VERSION)
    yield StorageDefinition(
        "mongodb",
        _mongodb,
        MongodbOptions,
        api_version=API_VERSION,
        shared=True,
        whole_appends=False,
    )
    yield StorageDefinition(
        "memory",
        lambda options, context: MemoryBackend(context),
        api_version=API_VERSION,
        durable=False,
    )


def _mongodb(options: MongodbOptions, context: StorageContext) -> StorageBackend:
    """Its driver is an extra, and takes time to import."""
    try:
        from citychain.storage.mongodb import MongodbBackend
    except ModuleNotFoundError as error:
        raise StorageError(
            f"the storage backend mongodb needs the module {error.name}: "
            "pip install 'citychain[mongodb]'"
        ) from None
    return MongodbBackend(options, context)
