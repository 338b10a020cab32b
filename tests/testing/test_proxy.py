"""The proxy passes everything on, until it is told to fail."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from citychain.client import ChannelFactory, CityClient
from citychain.testing.proxy import FaultProxy, Link
from citychain.testing.server import CityServerFactory, TransactionFactory
from citychain.types import State

SOON = timedelta(milliseconds=200)


class Echo:
    """A server that answers with what it hears."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.came = asyncio.Event()
        """Something was heard."""
        self.ended = 0
        """Connections that ended in order."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1_000):
                self.heard += data
                self.came.set()
                writer.write(data)
                await writer.drain()
            self.ended += 1
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def target(echo: Echo) -> AsyncIterator[str]:
    server = await asyncio.start_server(echo.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    server.close()


@pytest.fixture
async def proxy(target: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(target) as proxy:
        yield proxy


@asynccontextmanager
async def connected(
    proxy: FaultProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = proxy.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"hello"
) -> bytes:
    writer.write(data)
    await writer.drain()
    return await reader.readexactly(len(data))


async def is_broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection was reset, not ended."""
    try:
        await reader.read()
    except ConnectionResetError:
        return True
    return False


async def turns(count: int = 20) -> None:
    """Let everything else have its turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_everything_passes_both_ways_to_the_end(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        data = os.urandom(300_000)
        writing = asyncio.create_task(_write_all(writer, data))
        assert await reader.read() == data
        await writing
    assert echo.ended == 1
    while proxy.links:
        await asyncio.sleep(0)


async def _write_all(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.write_eof()


async def test_a_cut_breaks_what_there_is_and_takes_what_comes(proxy: FaultProxy) -> None:
    async with connected(proxy) as first:
        assert await ask(*first) == b"hello"
        proxy.cut()
        assert await is_broken(*first)
        async with connected(proxy) as second:
            assert await ask(*second) == b"hello"


async def test_who_is_refused_is_told_at_once(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as first:
        assert await ask(*first) == b"hello"
        proxy.refuse()
        assert await is_broken(*first)
        async with connected(proxy) as second:
            assert await is_broken(*second)
        proxy.heal()
        async with connected(proxy) as third:
            assert await ask(*third) == b"hello"
    assert bytes(echo.heard) == b"hellohello"


async def test_a_partition_tells_nobody_and_loses_nothing(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as first:
        assert await ask(*first) == b"hello"
        proxy.hold()
        asked = [asyncio.create_task(ask(*first, b"still there?"))]
        async with connected(proxy) as second:
            asked.append(asyncio.create_task(ask(*second, b"anybody?")))
            await turns()
            assert not any(task.done() for task in asked)
            assert bytes(echo.heard) == b"hello"
            proxy.heal()
            assert await asyncio.gather(*asked) == [b"still there?", b"anybody?"]


async def test_who_waits_behind_a_partition_can_be_cut_too(proxy: FaultProxy, echo: Echo) -> None:
    proxy.hold()
    async with connected(proxy) as first:
        while not proxy.links:
            await asyncio.sleep(0)
        proxy.cut()
        assert await is_broken(*first)
        proxy.heal()
    while proxy.links:
        await asyncio.sleep(0)
    assert not echo.heard


async def test_replies_alone_can_be_held(proxy: FaultProxy, echo: Echo) -> None:
    async with connected(proxy) as first:
        assert await ask(*first) == b"hello"
        echo.came.clear()
        proxy.hold(requests=False)
        asked = asyncio.create_task(ask(*first, b"done?"))
        await echo.came.wait()  # The server did it.
        await turns()
        assert not asked.done()
        proxy.cut()  # And its client will never know.
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asked


async def test_a_delay_keeps_the_order(proxy: FaultProxy) -> None:
    proxy.delay = timedelta(milliseconds=1)
    async with connected(proxy) as (reader, writer):
        for number in range(10):
            assert await ask(reader, writer, bytes([number])) == bytes([number])


async def test_without_a_server_clients_are_refused() -> None:
    async with FaultProxy("127.0.0.1:1") as proxy, connected(proxy) as first:
        assert await is_broken(*first)


class Deaf(FaultProxy):
    """Cuts a link before the server hears a word, or before the client hears the answer."""

    word = b"no"

    async def requested(self, link: Link, piece: bytes) -> None:
        if piece == self.word:
            link.cut()

    async def replied(self, link: Link, piece: bytes) -> None:
        if piece == b"lost":
            link.cut()


async def test_a_subclass_chooses_what_is_lost(target: str, echo: Echo) -> None:
    async with Deaf(target) as proxy:
        for word in (b"no", b"lost"):
            async with connected(proxy) as link:
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await ask(*link, word)
        async with connected(proxy) as link:
            assert await ask(*link, b"yes") == b"yes"
    assert bytes(echo.heard) == b"lostyes"


async def test_a_client_behind_a_partition_is_cut_off_alone(
    city_server: CityServerFactory, signed_transactions: TransactionFactory
) -> None:
    async with (
        city_server(["tokyo"]) as server,
        FaultProxy(server.address) as proxy,
        server.client("tokyo") as near,
        CityClient("tokyo", ChannelFactory([proxy.address])) as far,
    ):
        [sent] = await signed_transactions(near)
        assert await far.status([sent.tx_id]) == {}
        proxy.hold()
        await near.submit([sent])
        assert (await near.wait([sent.tx_id]))[sent.tx_id].state is State.APPROVED
        with pytest.raises(TimeoutError):
            await far.wait([sent.tx_id], timeout=SOON)
        proxy.heal()
        assert (await far.status([sent.tx_id]))[sent.tx_id].state is State.APPROVED
