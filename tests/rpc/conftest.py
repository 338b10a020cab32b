from collections.abc import AsyncIterator
from typing import Any

import pytest
from rpc.fakes import FakeCity, FakeDirectory, channel_to, serving

from citychain.rpc._generated.citychain.v1 import services_pb2_grpc
from citychain.rpc.server import CoreServer


@pytest.fixture
def city() -> FakeCity:
    return FakeCity()


@pytest.fixture
def directory(city: FakeCity) -> FakeDirectory:
    return FakeDirectory(kanazawa=city, kaga=FakeCity(), wajima=FakeCity())


@pytest.fixture
async def server(directory: FakeDirectory) -> AsyncIterator[CoreServer]:
    async with serving(directory) as server:
        yield server


@pytest.fixture
async def channel(server: CoreServer) -> AsyncIterator[Any]:
    async with channel_to(server) as channel:
        yield channel


@pytest.fixture
def cities(channel: Any) -> Any:
    return services_pb2_grpc.CityServiceStub(channel)


@pytest.fixture
def transactions(channel: Any) -> Any:
    return services_pb2_grpc.TransactionServiceStub(channel)


@pytest.fixture
def dag(channel: Any) -> Any:
    return services_pb2_grpc.DagServiceStub(channel)


@pytest.fixture
def plugins(channel: Any) -> Any:
    return services_pb2_grpc.PluginServiceStub(channel)
