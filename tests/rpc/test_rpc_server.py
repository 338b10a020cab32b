"""The server's own behaviour: health, reflection, binding, limits, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
import pytest
from free_ports import free_address
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rpc.fakes import FakeCity, FakeDirectory, channel_to, digest, make_round, serving, until

from citychain.errors import CityUnavailable, ConfigurationError
from citychain.handler import Received
from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc._generated.citychain.v1 import services_pb2_grpc
from citychain.rpc.access import AccessInterceptor
from citychain.rpc.open_calls import OpenCalls
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.types import State

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


# --- health


@pytest.fixture
def health(channel: Any) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def about(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize(
    "service", ["", "citychain.v1.TransactionService", "city/kanazawa", "city/金沢"]
)
async def test_what_works_is_serving(health: Any, directory: FakeDirectory, service: str) -> None:
    assert (await health.Check(about(service))).status == SERVING
    assert directory.opened == set(), "asking opens nothing"


async def test_a_failed_city_is_not_serving_and_the_server_is(
    health: Any, directory: FakeDirectory
) -> None:
    directory.failed["kanazawa"] = CityUnavailable("kanazawa", "x", timedelta(seconds=1))
    assert (await health.Check(about("city/kanazawa"))).status == NOT_SERVING
    assert (await health.Check(about("city/kaga"))).status == SERVING
    assert (await health.Check(about(""))).status == SERVING


@pytest.mark.parametrize("service", ["nothing", "city/nowhere"])
async def test_an_unknown_service_is_not_found(health: Any, service: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(about(service))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = health.Watch(about(service))
    assert (await watch.read()).status == SERVICE_UNKNOWN
    watch.cancel()


async def test_a_watcher_hears_of_a_city_that_fails(health: Any, directory: FakeDirectory) -> None:
    watch = health.Watch(about("city/kanazawa"))
    assert (await watch.read()).status == SERVING
    directory.failed["kanazawa"] = CityUnavailable("kanazawa", "x", timedelta(seconds=1))
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()


# --- reflection


async def test_reflection_tells_the_services_and_their_files(channel: Any) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest
    call = stub.ServerReflectionInfo()
    await call.write(request(list_services=""))
    services = {item.name for item in (await call.read()).list_services_response.service}
    assert services == {
        "citychain.v1.AdminService",
        "citychain.v1.CityService",
        "citychain.v1.DagService",
        "citychain.v1.ExchangeService",
        "citychain.v1.PluginService",
        "citychain.v1.TransactionService",
        "citychain.v1.VoteService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    await call.write(request(file_by_filename="citychain/v1/transaction.proto"))
    assert len((await call.read()).file_descriptor_response.file_descriptor_proto) == 1
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


# --- binding and limits


async def test_port_zero_takes_a_free_port(server: CoreServer) -> None:
    assert server.port > 0
    assert server.address == f"127.0.0.1:{server.port}"


async def test_a_port_in_use_is_a_configuration_error_that_names_it(
    server: CoreServer, directory: FakeDirectory
) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot listen on {server.address}"):
        await CoreServer(directory, options=ServerOptions(listen=server.address)).__aenter__()


async def test_no_address_of_this_machine_is_a_configuration_error(
    directory: FakeDirectory,
) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:1"):
        await CoreServer(directory, options=ServerOptions(listen="192.0.2.1:1")).__aenter__()


async def test_a_larger_request_than_the_limit_is_refused(directory: FakeDirectory) -> None:
    options = ServerOptions(listen="127.0.0.1:0", max_message_bytes=100_000)
    async with serving(directory, options) as server, channel_to(server) as channel:
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        request = pb.SubmitBatchRequest(city="kanazawa", transactions=[bytes(99_000)])
        await stub.SubmitBatch(request)
        request.transactions.append(bytes(2_000))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SubmitBatch(request)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_service_of_a_plugin_that_is_not_async_is_told_by_its_name(
    directory: FakeDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    class Sync(grpc.aio.ServerInterceptor):
        """Answers as a service does that was written for threads."""

        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    before = AccessInterceptor(None, None, OpenCalls(each=9, together=9), directory)
    async with (
        serving(directory, interceptors=[before, Sync()]) as server,
        channel_to(server) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/parking.Places/Find")(b"")
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "PluginError: /parking.Places/Find: the service's method is not async" in caplog.text


async def test_more_calls_at_once_than_the_limit_are_refused(
    directory: FakeDirectory, city: FakeCity
) -> None:
    before = AccessInterceptor(None, None, OpenCalls(each=9, together=2), directory)
    async with (
        serving(directory, interceptors=[before]) as server,
        channel_to(server) as channel,
    ):
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        request = pb.WatchRequest(city="kanazawa", everything=True)
        calls = [stub.Watch(request) for _ in range(2)]
        await until(lambda: len(city.watched) == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(request).read()
        assert caught.value.details() == "2 calls are open already"
        calls.pop().cancel()
        await until(lambda: before._open_calls._all == 1)
        calls.append(stub.Watch(request))
        await until(lambda: len(city.watched) == 3)
        for call in calls:
            call.cancel()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


# --- the end


async def test_stopping_ends_every_open_stream_and_says_why(
    directory: FakeDirectory, city: FakeCity
) -> None:
    city.storage.stored = [make_round(1)]
    options = ServerOptions(listen="127.0.0.1:0", drain=timedelta(seconds=30))
    async with CoreServer(directory, options=options) as server:
        channel = grpc.aio.insecure_channel(server.address)
        transactions: Any = services_pb2_grpc.TransactionServiceStub(channel)
        dag: Any = services_pb2_grpc.DagServiceStub(channel)
        watch = transactions.Watch(pb.WatchRequest(city="kanazawa", everything=True))
        rounds = dag.StreamRounds(pb.StreamRoundsRequest(city="kanazawa", from_round=1))
        assert (await rounds.read()).round.round == 1
        submissions = transactions.SubmitStream()
        await submissions.write(pb.SubmitStreamRequest(city="kanazawa", transactions=[b"1"]))
        await submissions.read()
        health = health_pb2_grpc.HealthStub(channel).Watch(about(""))
        assert (await health.read()).status == SERVING
        await until(lambda: bool(city.watched))
        began = time.monotonic()
    # Far less than the drain time: nothing waited for a stream to end by itself.
    assert time.monotonic() - began < 15
    for call in (watch, rounds, submissions):
        with pytest.raises(grpc.aio.AioRpcError, match="the server is stopping") as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert (await health.read()).status == NOT_SERVING
    assert await health.read() is grpc.aio.EOF
    assert city.closed_streams == 2
    await channel.close()


async def test_stopping_lets_calls_under_way_finish(
    directory: FakeDirectory, city: FakeCity
) -> None:
    started: list[bytes] = []
    gate = asyncio.Event()

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        started.extend(envelopes)
        await gate.wait()
        return [Received(digest(item), State.RECEIVED, False) for item in envelopes]

    city.submit = submit
    server = await CoreServer(directory, options=ServerOptions(listen="127.0.0.1:0")).__aenter__()
    async with channel_to(server) as channel:
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        batch = stub.SubmitBatch(pb.SubmitBatchRequest(city="kanazawa", transactions=[b"1"]))
        stream = stub.SubmitStream()
        await stream.write(pb.SubmitStreamRequest(city="kanazawa", transactions=[b"2"]))
        await until(lambda: len(started) == 2)
        stopping = asyncio.create_task(server.__aexit__())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        gate.set()
        assert (await batch).results[0].tx_id == digest(b"1")
        assert (await stream.read()).results[0].tx_id == digest(b"2")
        with pytest.raises(grpc.aio.AioRpcError, match="the server is stopping"):
            await stream.read()
        await stopping


async def test_stopping_does_not_wait_longer_than_the_drain_time(
    directory: FakeDirectory, city: FakeCity
) -> None:
    started = asyncio.Event()

    async def submit(envelopes: Sequence[bytes]) -> Sequence[Any]:
        started.set()
        await asyncio.Event().wait()
        return []

    city.submit = submit
    options = ServerOptions(listen="127.0.0.1:0", drain=timedelta(milliseconds=100))
    async with CoreServer(directory, options=options) as server:
        channel = grpc.aio.insecure_channel(server.address)
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        batch = stub.SubmitBatch(pb.SubmitBatchRequest(city="kanazawa", transactions=[b"1"]))
        await asyncio.wait_for(started.wait(), 120)
    with pytest.raises(grpc.aio.AioRpcError):
        await batch
    await channel.close()


async def test_the_port_is_free_again_afterwards(directory: FakeDirectory) -> None:
    options = ServerOptions(listen=free_address())
    async with serving(directory, options):
        pass
    async with serving(directory, options) as again:
        assert again.address == options.listen
