"""The pytest plugin: fixtures for whoever tests a city, a part or an application.

Loaded by every run of pytest where citychain is installed, so it imports
nothing until a fixture is asked for. The fixtures are plain functions that give
async context managers: they work under pytest-asyncio and anyio alike.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from citychain.testing.server import CityClientFactory, CityServerFactory, TransactionFactory

__all__ = ["ELSEWHERE", "city_client", "city_server", "signed_transactions"]

ELSEWHERE: Final = "--citychain-elsewhere"
"""By this option a conformance suite tells its run in another process where the result goes."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption(ELSEWHERE, metavar="FILE", help="used by citychain's suites themselves")


@pytest.fixture
def city_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CityServerFactory]:
    """Starts a real server in this process, on a free port of the loopback::

        async def test_a_full_disk_is_told(city_server):
            async with city_server(overrides={"tokyo": {"storage": FailingStorage()}}) as server:
                ...

    See `citychain.testing.server.CityServerFactory` for what it takes. Its data are removed
    after the test, unless they are in a ``directory`` of the test's own.
    """
    from citychain.testing.server import CityServerFactory

    directory = tmp_path_factory.mktemp("city-server")
    yield CityServerFactory(directory)
    shutil.rmtree(directory)


@pytest.fixture
def city_client(city_server: CityServerFactory) -> CityClientFactory:
    """Starts a server with one city and connects to that::

        async def test_my_city(city_client):
            async with city_client("kanazawa") as city:
                ...

    See `citychain.testing.server.CityClientFactory` for what it takes.
    """
    from citychain.testing.server import CityClientFactory

    return CityClientFactory(city_server)


@pytest.fixture
def signed_transactions() -> TransactionFactory:
    """Signs transactions with keys that are the same in every run::

        [first, second] = await signed_transactions(city, 2)

    See `citychain.testing.server.TransactionFactory` for what it takes.
    """
    from citychain.testing.server import TransactionFactory

    return TransactionFactory()
