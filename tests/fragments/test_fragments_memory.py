"""The store in memory passes the suite, also as what a context manager gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from citychain.fragments.memory import MemoryStore
from citychain.hooks.definitions import API_VERSION, FragmentStoreDefinition
from citychain.ports import FragmentStore
from citychain.testing.conformance import FragmentStoreSuite


class Options(BaseModel):
    limit: int | None = None


MEMORY = FragmentStoreDefinition(
    "memory",
    lambda options, context: MemoryStore(options.limit),
    Options,
    durable=False,
    api_version=API_VERSION,
)


class TestMemoryStore(FragmentStoreSuite):
    @pytest.fixture
    def definition(self) -> FragmentStoreDefinition:
        return MEMORY

    @pytest.fixture
    def limited_options(self) -> Mapping[str, Any]:
        return {"limit": 300_000}


class TestMemoryStoreInAContextManager(FragmentStoreSuite):
    @pytest.fixture
    def definition(self) -> FragmentStoreDefinition:
        @asynccontextmanager
        async def factory(options: Any, context: Any) -> AsyncIterator[FragmentStore]:
            async with MemoryStore(options.limit) as store:
                yield store

        return replace(MEMORY, factory=factory)
