from collections.abc import AsyncIterator

import pytest
from rpc.fakes import FakeCity, FakeDirectory, serving

from citychain.client import ChannelFactory, CityClient
from citychain.rpc.server import CoreServer


@pytest.fixture
def fake() -> FakeCity:
    """The city behind the server."""
    return FakeCity()


@pytest.fixture
def directory(fake: FakeCity) -> FakeDirectory:
    return FakeDirectory(kanazawa=fake)


@pytest.fixture
async def server(directory: FakeDirectory) -> AsyncIterator[CoreServer]:
    async with serving(directory) as server:
        yield server


@pytest.fixture
async def city(server: CoreServer) -> AsyncIterator[CityClient]:
    async with CityClient("kanazawa", ChannelFactory([server.address])) as client:
        yield client
