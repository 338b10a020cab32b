"""The SQLite backend passes the suite, and keeps what its own page promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from citychain.ports import StorageContext
from citychain.storage.sqlite import SqliteBackend, SqliteOptions
from citychain.testing.conformance.storage import StorageSuite


class TestSqliteStorage(StorageSuite):
    @pytest.fixture
    def storage_backend_factory(
        self, storage_context: StorageContext
    ) -> Callable[[], SqliteBackend]:
        return lambda: SqliteBackend(SqliteOptions(), storage_context)
