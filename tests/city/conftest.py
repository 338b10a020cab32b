"""Real cities in one process: the composition root on memory storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from city.sharing import Servers

from citychain.city import following
from citychain.city.directory import CityDirectory
from citychain.client.keys import create_key
from citychain.config import Settings
from citychain.containers import CoreContainer, Overrides, open_directory
from citychain.ports import Clock
from citychain.testing.conformance._city_installed import install
from citychain.testing.shared import SharedMemory


@pytest.fixture
async def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    """Servers of one city over one storage."""
    install(monkeypatch, tmp_path / "site", [], [SharedMemory().definition])
    # A lease that was given up is somebody else's soon, however long leases hold.
    monkeypatch.setattr(following, "ASK_SECONDS", 0.05)
    servers = Servers(tmp_path)
    yield servers
    await servers.close()


OpenCities = Callable[..., AbstractAsyncContextManager[CityDirectory]]


@pytest.fixture
def open_cities(tmp_path: Path) -> OpenCities:
    """Opens a directory of cities; again on the same data when called again.

    Keyword arguments are settings; rounds close fast unless ``pacer`` is given.
    """
    key = tmp_path / "operator.key"
    create_key(key)

    @asynccontextmanager
    async def opened(
        overrides: Overrides | None = None, clock: Clock | None = None, **settings: Any
    ) -> AsyncIterator[CityDirectory]:
        settings = {
            "data_dir": tmp_path / "data",
            "operator_key": key,
            "pacer": {"min_seconds": 0.01, "max_seconds": 0.05},
            "cities": {"tokyo": {"storage": "memory", "num_hashes": 10}},
            "plugins": {"allow": ()},
        } | settings
        core = CoreContainer(settings=Settings(**settings))
        if clock is not None:
            core.clock.override(clock)
        async with open_directory(core, overrides) as directory:
            yield directory

    return opened
