"""The memory backend passes the suite; it has nothing else to show."""

from __future__ import annotations

import pytest

from citychain.hooks.definitions import StorageDefinition
from citychain.storage.builtin import citychain_storage_backends
from citychain.testing.conformance import StorageSuite


class TestMemoryStorage(StorageSuite):
    big_batch = 100_000

    @pytest.fixture
    def definition(self) -> StorageDefinition:
        [memory] = [d for d in citychain_storage_backends() if d.name == "memory"]
        return memory
