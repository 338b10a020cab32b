"""The memory backend passes the suite, also as what a context manager gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from citychain.hooks.definitions import StorageDefinition
from citychain.ports import StorageBackend, StorageContext
from citychain.storage.builtin import citychain_storage_backends
from citychain.testing.conformance import StorageSuite


class TestMemoryStorage(StorageSuite):
    big_batch = 100_000

    @pytest.fixture
    def definition(self) -> StorageDefinition:
        [memory] = [d for d in citychain_storage_backends() if d.name == "memory"]
        return memory


class TestMemoryStorageInAContextManager(StorageSuite):
    @pytest.fixture
    def definition(self) -> Iterator[StorageDefinition]:
        [memory] = [d for d in citychain_storage_backends() if d.name == "memory"]
        entered: list[str] = []

        @asynccontextmanager
        async def factory(options: Any, context: StorageContext) -> AsyncIterator[StorageBackend]:
            async with memory.factory(options, context) as backend:
                entered.append("in")
                yield backend
                entered.append("out")

        yield replace(memory, factory=factory)
        assert entered.count("in") == entered.count("out")
