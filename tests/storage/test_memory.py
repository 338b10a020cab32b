"""The memory backend passes the suite; it has nothing else to show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from citychain.ports import StorageContext
from citychain.storage.memory import MemoryBackend
from citychain.testing.conformance.storage import StorageSuite


class TestMemoryStorage(StorageSuite):
    durable = False

    @pytest.fixture
    def storage_backend_factory(
        self, storage_context: StorageContext
    ) -> Callable[[], MemoryBackend]:
        return lambda: MemoryBackend(storage_context)
