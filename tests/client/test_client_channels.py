from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from free_ports import free_address
from rpc.fakes import FakeCity, FakeDirectory, digest, make_event, serving, until

from citychain.client import ChannelFactory, CityClient, tokens
from citychain.client.tokens import TokenFile
from citychain.errors import ConfigurationError, Overloaded
from citychain.handler import EventBatch, Received
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.types import Head, State


@pytest.mark.parametrize(
    ("endpoints", "targets"),
    [
        (["127.0.0.1:1"], ["ipv4:127.0.0.1:1"]),
        (["10.0.0.1:1", "10.0.0.2:2"], ["ipv4:10.0.0.1:1,10.0.0.2:2"]),
        (["10.0.0.1:1", "10.0.0.1:1"], ["ipv4:10.0.0.1:1"]),
        (["[::1]:1", "[::2]:2"], ["ipv6:[::1]:1,[::2]:2"]),
        (["10.0.0.1:1", "[::2]:2"], ["ipv6:[::ffff:10.0.0.1]:1,[::2]:2"]),
        (["city.example:443"], ["dns:///city.example:443"]),
        (["localhost:50051"], ["dns:///localhost:50051"]),
        (["a.example:1", "東京.example:2"], ["dns:///a.example:1", "dns:///東京.example:2"]),
        (
            ["10.0.0.1:1", "server_a:2", "[::1]:3"],
            ["ipv4:10.0.0.1:1", "dns:///server_a:2", "ipv6:[::1]:3"],
        ),
    ],
)
def test_endpoints_become_targets(endpoints: list[str], targets: list[str]) -> None:
    assert [*ChannelFactory(endpoints).targets()] == targets


def test_a_city_has_its_own_route_by_the_name_that_is_used() -> None:
    factory = ChannelFactory({"Kanazawa": ["10.0.0.1:1"], "金沢": ["10.0.0.2:2"], "*": ["a:3"]})
    for city, target in (
        ("kanazawa", "ipv4:10.0.0.1:1"),
        (" KANAZAWA ", "ipv4:10.0.0.1:1"),
        ("金沢", "ipv4:10.0.0.2:2"),
        ("tokyo", "dns:///a:3"),
        ("", "dns:///a:3"),
        ("*", "dns:///a:3"),
    ):
        assert [*factory.targets(city)] == [target]


def test_a_city_without_a_route_is_told() -> None:
    factory = ChannelFactory({"kanazawa": ["10.0.0.1:1"]})
    for use in (factory.targets, factory.channel):
        with pytest.raises(ConfigurationError, match=r"no route to 'tokyo', and none for '\*'"):
            use("tokyo")


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ([], "at least one"),
        ({}, "at least one"),
        ({"tokyo": []}, "at least one"),
        ({"tokyo": "127.0.0.1:1"}, "give a list"),
        ("127.0.0.1:1", "give a list"),
        (["127.0.0.1"], "'127.0.0.1' is not host:port"),
        (["127.0.0.1:0"], "is not host:port"),
        (["127.0.0.1:65536"], "is not host:port"),
        ([":1"], "is not host:port"),
        (["::1:1"], r"write '::1:1' as \[::1\]:1"),
        (["http://a.example:1"], "neither an address nor a name"),
        (["a.example,b.example:1"], "neither an address nor a name"),
    ],
)
def test_wrong_endpoints_are_refused_with_the_fix(endpoints: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ChannelFactory(endpoints)


@pytest.mark.parametrize("endpoint", ["10.0.0.1:1", "city.example:1", "[2001:db8::1]:1"])
def test_a_token_does_not_leave_the_machine_unencrypted(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a token would be sent to .* unencrypted"):
        ChannelFactory({"*": ["127.0.0.1:1"], "nara": [endpoint]}, token=lambda: "secret")
    ChannelFactory(["127.0.0.1:1", "localhost:1", "[::1]:1"], token=lambda: "secret")


async def test_no_proxy_is_told_a_token_that_is_not_encrypted(
    server: CoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{port}")
        for name in ("no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for endpoint in (server.address, f"localhost:{server.port}"):
            channels = ChannelFactory([endpoint], token=lambda: "secret")
            async with CityClient("kanazawa", channels, timeout=timedelta(seconds=120)) as city:
                await city.info()
    assert met == []


async def test_a_token_that_is_renewed_in_its_file_is_sent_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    token = TokenFile(file)
    assert token() == "first"
    monkeypatch.setattr(tokens, "READ_AGAIN_SECONDS", 0.0)
    file.write_text("two words")
    for _ in range(3):
        # What is none is passed over: it may be being written.
        assert token() == "first"
    file.write_text("second\n")
    await until(lambda: token() == "second")


def test_a_policy_that_there_is_not_is_refused() -> None:
    policy: Any = "random"
    with pytest.raises(ConfigurationError, match="'random' is not pick_first or round_robin"):
        ChannelFactory(["127.0.0.1:1"], policy)


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


# --- several servers, however they are given


def counting(served: list[int]) -> FakeDirectory:
    """A city that counts the calls of its server."""
    fake = FakeCity()

    async def head() -> Head:
        served[0] += 1
        return Head()

    fake.head = head
    return FakeDirectory(kanazawa=fake)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[CoreServer, CoreServer, list[list[int]]]]:
    """Two servers, and how many calls each got."""
    served = [[0], [0]]
    options = ServerOptions(listen=free_address())  # Where it starts again.
    async with (
        serving(counting(served[0]), options) as first,
        serving(counting(served[1])) as second,
    ):
        yield first, second, served


def given(way: str, *ports: int) -> list[str]:
    first, *others = ports
    hosts = {"addresses": "127.0.0.1", "names": "localhost", "families": "[::ffff:127.0.0.1]"}
    return [f"127.0.0.1:{first}", *(f"{hosts[way]}:{port}" for port in others)]


WAYS = pytest.mark.parametrize("way", ["addresses", "names", "families"])


@WAYS
async def test_round_robin_uses_all_and_pick_first_one(way: str, pair: Any) -> None:
    first, second, served = pair
    endpoints = given(way, first.port, second.port)
    async with CityClient("kanazawa", ChannelFactory(endpoints)) as client:
        for _ in range(20):
            await client.info()
    assert served == [[20], [0]]
    async with CityClient("kanazawa", ChannelFactory(endpoints, "round_robin")) as client:
        while min(served[0][0] - 20, served[1][0]) < 20:
            await client.info()


@WAYS
@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
async def test_no_call_fails_while_one_of_two_is_gone(policy: Any, way: str, pair: Any) -> None:
    first, second, served = pair
    channels = ChannelFactory(given(way, first.port, second.port), policy)
    async with CityClient("kanazawa", channels) as client:
        for _ in range(20):
            await client.info()
        await first._server.stop(0)
        for _ in range(20):
            await client.info()
        assert served[1][0] >= 20
        # The first is back, and then the second goes.
        async with CoreServer(first._directory, options=first._options):
            await second._server.stop(0)
            before = served[0][0]
            for _ in range(20):
                await client.info()
        assert served[0][0] - before == 20


@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
async def test_a_name_that_nobody_knows_is_passed_over(policy: Any, pair: Any) -> None:
    first, second, _ = pair
    channels = ChannelFactory(
        ["nowhere.invalid:1", f"localhost:{first.port}", f"localhost:{second.port}"], policy
    )
    async with CityClient("kanazawa", channels) as client:
        for _ in range(20):
            await client.info()


@WAYS
async def test_a_watcher_goes_on_over_another_server(way: str) -> None:
    fake = FakeCity()
    directory = FakeDirectory(kanazawa=fake)
    told: list[int] = []
    async with serving(directory) as first, serving(directory) as second:
        channels = ChannelFactory(given(way, first.port, second.port))
        async with (
            CityClient("kanazawa", channels) as client,
            aclosing(client.watch(after=0)) as batches,
        ):
            for number in range(1, 41):
                fake.tell(EventBatch([make_event(number)], number))
                told += [event.round for event in (await anext(batches)).events]
                if number == 20:
                    await first._server.stop(0)
    assert told == [*range(1, 41)]
    assert len(fake.watched) == 2


async def test_a_channel_over_names_is_as_ready_as_its_best(pair: Any) -> None:
    first, _, _ = pair
    channels = ChannelFactory(["nowhere.invalid:1", f"localhost:{first.port}"])
    async with channels.channel() as channel:
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        await asyncio.wait_for(channel.channel_ready(), 120)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await first._server.stop(0)
        await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 120)
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_cities_go_over_their_own_routes(pair: Any) -> None:
    first, second, served = pair
    channels = ChannelFactory(
        {"金沢": [f"127.0.0.1:{second.port}"], "*": [f"127.0.0.1:{first.port}"]}
    )
    for city in ("kanazawa", "金沢", "金沢"):
        async with CityClient(city, channels) as client:
            await client.info()
    assert served == [[1], [2]]
