"""A TCP proxy that fails on purpose, between clients and one server::

    async with FaultProxy(server.address) as proxy:
        channel = connect(proxy.address)
        proxy.hold()   # Partitioned: nothing passes, and nobody is told.
        proxy.heal()   # What was held arrives.
        proxy.refuse() # Connections break, and new ones with them.
        proxy.heal()

One for each client partitions that client alone. It knows nothing of what it passes on, so it
stands before a database as well as before a server of ours.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Final

__all__ = ["FaultProxy", "Link"]

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 65_536

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with which closing a socket resets its connection instead of ending it in order."""


class Link:
    """One client's connection through the proxy.

    Args:
        client: The side of whoever connected.
    """

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        """The side of the server; ``None`` until the proxy is connected to it."""

    def cut(self) -> None:
        """Break it: both sides see a reset, and what is under way is lost."""
        for side in filter(None, (self.client, self.server)):
            with suppress(OSError):
                connection = side.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.transport.abort()

    @property
    def is_cut(self) -> bool:
        """Whether it is broken, or ended by the client."""
        return self.client.is_closing()


class FaultProxy:
    """A proxy on a free port of the loopback; everything passes until it is told otherwise.

    Args:
        target: ``host:port`` of the server; it need not run yet.
    """

    delay: timedelta = timedelta()
    """How much later each piece of data is passed on, either way."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host.strip("[]"), int(port)
        self._links: dict[asyncio.Task[None], Link] = {}
        self._refuses = False
        self._requests, self._replies = asyncio.Event(), asyncio.Event()
        self.heal()

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        self.cut()
        tasks = [*self._links]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        """``host:port`` where it listens."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    @property
    def links(self) -> int:
        """Connections that it has now."""
        return len(self._links)

    def heal(self) -> None:
        """Let everything pass again; what was held comes first."""
        self._refuses = False
        self._requests.set()
        self._replies.set()

    def cut(self) -> None:
        """Break the connections that there are; new ones are taken."""
        for link in self._links.values():
            link.cut()

    def refuse(self) -> None:
        """Break all connections, and each new one at once, until `heal`."""
        self._refuses = True
        self.cut()

    def hold(self, *, requests: bool = True, replies: bool = True) -> None:
        """Pass nothing on until `heal`, and close nothing: as a network that is partitioned.

        Args:
            requests: Whether the server hears nothing.
            replies: Whether the clients hear nothing. Alone: what they ask for is done.
        """
        for way, held in ((self._requests, requests), (self._replies, replies)):
            if held:
                way.clear()
            else:
                way.set()

    # What a proxy that understands a protocol replaces.

    async def split(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """Pieces of a stream, each passed on as a whole."""
        while data := await reader.read(CHUNK_BYTES):
            yield data

    async def requested(self, link: Link, piece: bytes) -> None:
        """Called before a piece goes to the server; one that cuts the link loses it."""

    async def replied(self, link: Link, piece: bytes) -> None:
        """Called before a piece goes to the client; one that cuts the link loses it."""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = self._links[task] = Link(writer)
        # A task that ends by being cancelled would be told to the loop's handler of exceptions.
        with suppress(asyncio.CancelledError):
            try:
                await self._connect(link, reader)
            finally:
                del self._links[task]
                writer.close()

    async def _connect(self, link: Link, reader: asyncio.StreamReader) -> None:
        if self._refuses:
            link.cut()
            return
        # A client that connects while requests are held is in the server's queue, unheard.
        await self._requests.wait()
        try:
            server_reader, link.server = await asyncio.open_connection(*self._target)
        except OSError:
            link.cut()
            return
        try:
            if link.is_cut:
                link.cut()
                return
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(link, reader, link.server, to_server=True))
                group.create_task(self._pass_on(link, server_reader, link.client, to_server=False))
        except* OSError:
            link.cut()
        finally:
            link.server.close()

    async def _pass_on(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        to_server: bool,
    ) -> None:
        way, look = (self._requests, self.requested) if to_server else (self._replies, self.replied)
        async for piece in self.split(reader):
            if self.delay:
                await asyncio.sleep(self.delay.total_seconds())
            await way.wait()
            await look(link, piece)
            if link.is_cut:
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
        await way.wait()
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
