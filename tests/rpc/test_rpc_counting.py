"""Calls are counted by how they ended for their caller, under names that are bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from rpc.fakes import FakeCity, FakeDirectory, channel_to, serving, until

from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc._generated.citychain.v1 import services_pb2_grpc
from citychain.rpc.counting import CallMetrics, CountingInterceptor


class Counted:
    """What was counted of a method."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.interceptor = CountingInterceptor(CallMetrics(self.registry))

    def __call__(self, name: str, method: str, kind: str = "unary", **labels: str) -> float:
        service = "unknown" if method == "unknown" else "citychain.v1.TransactionService"
        labels |= {"grpc_type": kind, "grpc_service": service, "grpc_method": method}
        return self.registry.get_sample_value(f"grpc_server_{name}", labels) or 0


@pytest.fixture
def counted() -> Counted:
    return Counted()


async def test_a_call_ends_with_its_status(counted: Counted, directory: FakeDirectory) -> None:
    async with (
        serving(directory, counting=[counted.interceptor]) as server,
        channel_to(server) as channel,
    ):
        stub = services_pb2_grpc.TransactionServiceStub(channel)
        await stub.SubmitBatch(pb.SubmitBatchRequest(city="kanazawa", transactions=[b"x"]))
        for city in ("nowhere", ""):
            with pytest.raises(grpc.RpcError):
                await stub.SubmitBatch(pb.SubmitBatchRequest(city=city, transactions=[b"x"]))
        broken: Any = channel.unary_unary("/citychain.v1.TransactionService/SubmitBatch")
        with pytest.raises(grpc.RpcError):
            await broken(b"\xff")
    for code, calls in (("OK", 1), ("NotFound", 1), ("InvalidArgument", 2)):
        assert counted("handled_total", "SubmitBatch", grpc_code=code) == calls, code
    assert counted("started_total", "SubmitBatch") == 4
    assert counted("msg_received_total", "SubmitBatch") == 4
    assert counted("msg_sent_total", "SubmitBatch") == 1
    assert counted("handling_seconds_count", "SubmitBatch") == 4


async def test_messages_of_a_stream_are_counted_each(
    counted: Counted, directory: FakeDirectory
) -> None:
    async with (
        serving(directory, counting=[counted.interceptor]) as server,
        channel_to(server) as channel,
    ):
        stub = services_pb2_grpc.TransactionServiceStub(channel)
        call = stub.SubmitStream(
            iter([pb.SubmitStreamRequest(city="kanazawa", transactions=[b"x"])] * 3)
        )
        answers = [answer async for answer in call]
    assert counted("msg_received_total", "SubmitStream", "bidi_stream") == 3
    assert counted("msg_sent_total", "SubmitStream", "bidi_stream") == len(answers) > 0
    assert counted("handled_total", "SubmitStream", "bidi_stream", grpc_code="OK") == 1


async def test_a_call_that_its_caller_leaves_is_canceled(
    counted: Counted, city: FakeCity, directory: FakeDirectory
) -> None:
    asked = asyncio.Semaphore(0)

    async def submit(envelopes: Any, **_: Any) -> Any:
        asked.release()
        await asyncio.Event().wait()

    city.submit = submit  # type: ignore[method-assign]
    request = pb.SubmitBatchRequest(city="kanazawa", transactions=[b"x"])
    async with (
        serving(directory, counting=[counted.interceptor]) as server,
        channel_to(server) as channel,
    ):
        stub = services_pb2_grpc.TransactionServiceStub(channel)
        left = stub.SubmitBatch(request)
        await asked.acquire()
        left.cancel()
        await until(lambda: counted("handled_total", "SubmitBatch", grpc_code="Canceled") == 1)


async def test_a_method_that_somebody_makes_up_becomes_no_label(
    counted: Counted, directory: FakeDirectory
) -> None:
    async with (
        serving(directory, counting=[counted.interceptor]) as server,
        channel_to(server) as channel,
    ):
        for number in range(3):
            made_up: Any = channel.unary_unary(f"/made.up/Method{number}")
            with pytest.raises(grpc.RpcError) as told:
                await made_up(b"")
            assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED
    handled = counted("handled_total", "unknown", "unknown", grpc_code="Unimplemented")
    assert handled == 3
