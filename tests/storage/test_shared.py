"""A backend that several servers share, in the memory of one process, passes the suite.

None of those that citychain has is shared, so this one shows that the tests for them can be passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from citychain.hooks.definitions import API_VERSION, StorageDefinition
from citychain.ports import StorageContext
from citychain.storage.memory import MemoryBackend, MemoryCity
from citychain.testing.conformance import StorageSuite
from citychain.types import ObjectWrite

CITIES: dict[Path, dict[bytes, SharedCity]] = {}
"""What the servers share, by directory."""


class SharedCity(MemoryCity):
    """With a lease that another server waits for."""

    _holder: str | None = None
    _until = 0.0

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        if self._holder not in (None, holder) and self._clock.monotonic() < self._until:
            return None
        self._holder = holder
        self._until = self._clock.monotonic() + ttl.total_seconds()
        return await super().acquire_lease(holder, ttl)

    async def renew_lease(self, epoch: int, ttl: timedelta) -> None:
        await super().renew_lease(epoch, ttl)
        self._until = self._clock.monotonic() + ttl.total_seconds()

    async def release_lease(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._holder = None


class SharedBackend(MemoryBackend):
    def __init__(self, context: StorageContext) -> None:
        super().__init__(context)
        self._shared = CITIES.setdefault(context.directory, {})

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> SharedCity:
        if genesis not in self._shared:
            self._shared[genesis] = SharedCity(self._clock, genesis_file, initial)
        return self._shared[genesis]


SHARED = StorageDefinition(
    "shared-memory",
    lambda options, context: SharedBackend(context),
    shared=True,
    durable=False,
    api_version=API_VERSION,
)


class TestSharedStorage(StorageSuite):
    @pytest.fixture
    def definition(self) -> StorageDefinition:
        return SHARED
