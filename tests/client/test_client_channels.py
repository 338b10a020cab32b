from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from rpc.fakes import FakeCity, FakeDirectory, digest, serving

from citychain.client import ChannelFactory, CityClient
from citychain.errors import ConfigurationError, Overloaded
from citychain.handler import Received
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.server import CoreServer
from citychain.types import Head, State


@pytest.mark.parametrize(
    ("endpoints", "target"),
    [
        (["127.0.0.1:1"], "ipv4:127.0.0.1:1"),
        (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2"),
        (["city.example:443"], "dns:///city.example:443"),
        (["localhost:50051"], "dns:///localhost:50051"),
    ],
)
def test_endpoints_become_one_target(endpoints: list[str], target: str) -> None:
    assert ChannelFactory(endpoints).target == target


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ([], "at least one"),
        ("127.0.0.1:1", "give a list"),
        (["127.0.0.1"], "'127.0.0.1' is not host:port"),
        (["127.0.0.1:0"], "is not host:port"),
        (["127.0.0.1:65536"], "is not host:port"),
        ([":1"], "is not host:port"),
        (["a.example:1", "b.example:1"], "one name that resolves to all of them"),
        (["127.0.0.1:1", "[::1]:1"], "of one family"),
    ],
)
def test_wrong_endpoints_are_refused_with_the_fix(endpoints: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ChannelFactory(endpoints)


async def test_round_robin_goes_on_over_the_servers_that_are_left() -> None:
    """Two servers; one stops and comes back in the middle of calls: no call fails."""
    served: dict[str, int] = {"a": 0, "b": 0}

    def city(name: str) -> FakeCity:
        fake = FakeCity()

        async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
            served[name] += 1
            await asyncio.sleep(0.001)
            return [Received(digest(item), State.RECEIVED, False) for item in envelopes]

        fake.submit = submit
        return fake

    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(serving(FakeDirectory(kanazawa=city("a"))))
        b = CoreServer(FakeDirectory(kanazawa=city("b")), options=a._options)
        await b.__aenter__()
        channels = ChannelFactory([a.address, b.address], "round_robin")
        stub: Any = services_pb2_grpc.TransactionServiceStub(
            await stack.enter_async_context(channels.channel())
        )
        request = services_pb2.SubmitBatchRequest(city="kanazawa", transactions=[b"x"])
        stopping = None
        while min(served.values()) < 20:
            await stub.SubmitBatch(request)
        for number in range(300):
            if number == 100:
                stopping = asyncio.create_task(b.__aexit__())
            # A plain stub: what repeats a call here is the channel alone.
            results = await asyncio.gather(*(stub.SubmitBatch(request) for _ in range(4)))
            assert all(response.results[0].state == 1 for response in results)
        assert stopping is not None
        await stopping
    assert served["a"] > 800


async def test_a_channel_waits_as_the_server_says(directory: FakeDirectory, fake: FakeCity) -> None:
    wait = timedelta(milliseconds=300)
    asked: list[float] = []

    async def head() -> Head:
        asked.append(asyncio.get_running_loop().time())
        if len(asked) == 1:
            raise Overloaded("full", wait)
        return Head()

    fake.head = head
    async with serving(directory) as server, ChannelFactory([server.address]).channel() as channel:
        stub: Any = services_pb2_grpc.CityServiceStub(channel)
        await stub.GetCity(services_pb2.GetCityRequest(city="kanazawa"))
    assert len(asked) == 2
    # The channel's own first wait would be at most 0.12 s.
    assert asked[1] - asked[0] >= 0.29


async def test_several_clients_of_one_factory_are_apart(server: CoreServer) -> None:
    channels = ChannelFactory([server.address])
    async with CityClient("kanazawa", channels) as first:
        async with CityClient("kanazawa", channels) as second:
            await second.info()
        await first.info()
