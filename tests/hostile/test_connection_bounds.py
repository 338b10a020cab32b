"""Connections that say nothing end by themselves, and there are not more than there may be."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import timedelta

import grpc
import pytest
from hostile.raw import Raw, connect, frame, wait_for_end
from rpc.fakes import FakeCity, FakeDirectory, channel_to, serving

from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc._generated.citychain.v1 import services_pb2_grpc
from citychain.rpc.listening import ConnectionBounds
from citychain.rpc.server import CoreServer, ServerOptions

SOON = timedelta(milliseconds=100)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


async def serves(server: CoreServer) -> bool:
    async with channel_to(server) as channel:
        try:
            await services_pb2_grpc.CityServiceStub(channel).ListCities(pb.ListCitiesRequest())
        except grpc.aio.AioRpcError:
            return False
    return True


def closed(address: str, said: bytes) -> bool:
    """Say it, and wait until the server closes the connection."""
    with connect(address) as connection:
        connection.sendall(said)
        wait_for_end(connection)
    return True


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (ConnectionBounds(handshake=SOON), b""),
        (ConnectionBounds(handshake=SOON), PREFACE[:10]),
        (ConnectionBounds(idle=SOON), PREFACE + frame(4, 0, 0, b"")),
    ],
    ids=["nothing", "half a word", "idle"],
)
async def test_a_connection_that_says_nothing_is_closed(
    bounds: ConnectionBounds, said: bytes
) -> None:
    options = ServerOptions(listen="127.0.0.1:0", connections=bounds)
    async with serving(FakeDirectory(kanazawa=FakeCity()), options) as server:
        assert await asyncio.to_thread(closed, server.address, said)


async def test_what_comes_beyond_the_most_connections_is_closed_and_others_come_when_one_goes() -> (
    None
):
    options = ServerOptions(listen="127.0.0.1:0", connections=ConnectionBounds(count=2))
    async with serving(FakeDirectory(kanazawa=FakeCity()), options) as server:
        with ExitStack() as stack:
            for _ in range(2):
                first = stack.enter_context(await asyncio.to_thread(Raw, server.address))
                stream = first.call("/citychain.v1.CityService/ListCities", bytes(5))
                assert (await asyncio.to_thread(first.status, stream))[0] == 0
            assert await asyncio.to_thread(closed, server.address, PREFACE)
        async with asyncio.timeout(120):
            while not await serves(server):  # It hears of their end a little later.
                await asyncio.sleep(0.02)
