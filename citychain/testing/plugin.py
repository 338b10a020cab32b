"""The pytest plugin: fixtures for whoever tests a city, a part or an application.

Loaded by every run of pytest where citychain is installed, so it imports
nothing until a fixture is asked for. The fixtures are plain functions that give
async context managers: they work under pytest-asyncio and anyio alike.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final, TypedDict

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from citychain.testing.cluster import ServerFactory
    from citychain.testing.server import CityClientFactory, CityServerFactory, TransactionFactory

__all__ = [
    "ELSEWHERE",
    "STARTED",
    "Started",
    "city_client",
    "city_server",
    "server_factory",
    "signed_transactions",
    "started",
]

ELSEWHERE: Final = "--citychain-elsewhere"
"""By this option a conformance suite tells its run in another process where the result goes."""

STARTED: Final = "citychain-started"
"""Under this name a worker of xdist is told how the first pytest was `started`."""
ALONE: Final = ("--", "--pdb", "--trace")
"""What only somebody at the keyboard can use, or what stands before names of tests."""


class Started(TypedDict):
    """How pytest was started."""

    folder: str
    """Where."""
    options: list[str]
    """With which arguments, other than names of tests."""


def started(config: pytest.Config) -> Started:
    """How this pytest was started; not for a worker of xdist, which gets other arguments."""
    options = [it for it in config.invocation_params.args if it not in ALONE]
    # From the end: there names of tests are rather than values of options.
    for name in config.getoption("file_or_dir") or ():
        if name in options:
            del options[len(options) - 1 - options[::-1].index(name)]
    return {"folder": str(config.invocation_params.dir), "options": options}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist, which `conformance` has start this pytest again."""
    node.workerinput[STARTED] = started(node.config)


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
def server_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFactory]:
    """Starts several real servers over one storage in this process::

        async def test_my_city_survives(server_factory):
            async with server_factory(["tokyo"], servers=3) as cluster:
                await cluster.kill(await cluster.leader("tokyo"))

    See `citychain.testing.cluster` for what it takes, and what can happen to a server.
    """
    from citychain.testing.cluster import ServerFactory

    directory = tmp_path_factory.mktemp("servers")
    yield ServerFactory(directory)
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
