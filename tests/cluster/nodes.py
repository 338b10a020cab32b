"""The servers of a cluster: each a process, with a clock and a way to the database of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

from free_ports import free_address

from citychain.cli.bench.process import Usage
from citychain.cli.server_process import ServerProcess
from citychain.client.keys import create_key
from citychain.testing.proxy import FaultProxy

WEIGH_SECONDS = 1.0
CONFIGURATION = """\
network = "cluster"
operator_key = "operator.key"

[server]
drain_seconds = 5

[cluster]
lease_seconds = {lease}

[plugins]
allow = []

[pacer]
min_seconds = 0.05
max_seconds = 0.2

[limits]
author_pending = 100000

[storage.shared]
backend = "mongodb"
uri_file = "uri"
database = "{database}"
"""
CITY = """
[cities.{slug}]
storage = "shared"
num_hashes = 1000
"""


@dataclass(slots=True)
class Node:
    """One server."""

    name: str
    directory: Path
    process: ServerProcess
    skew_seconds: int
    proxy: FaultProxy | None
    """Between it and the database; ``None`` where that has several addresses."""
    paused: bool = False
    resident_max: int = 0
    """Bytes of memory, the most that `weigh` saw."""

    @property
    def pid(self) -> int | None:
        return self.process.pid

    async def start(self) -> None:
        await self.process.start()

    async def kill(self) -> None:
        await self.process.kill()

    def pause(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGCONT)
        self.paused = False


@asynccontextmanager
async def cluster(
    directory: Path,
    uri: str,
    database: str,
    cities: Sequence[str],
    *,
    skews: Sequence[int],
    lease: float,
    more: str = "",
) -> AsyncIterator[list[Node]]:
    """As many servers as there are skews of their clocks, in seconds; all run.

    All have the same key: a city's genesis names its operator. ``more`` are lines for the end of
    their configuration.
    """
    create_key(directory / "operator.key")
    text = CONFIGURATION.format(lease=lease, database=database)
    text += "".join(CITY.format(slug=slug) for slug in cities) + more
    async with AsyncExitStack() as stack:
        nodes = []
        for number, skew in enumerate(skews, 1):
            place = directory / f"server-{number}"
            place.mkdir()
            shutil.copy(directory / "operator.key", place)
            (place / "citychain.toml").write_text(text)
            proxy, own_uri = await _proxied(uri, stack)
            (place / "uri").write_text(own_uri)
            command = ("-m", "cluster.skewed", str(skew)) if skew else ()
            process = ServerProcess(place, command)
            process.address = free_address()
            (place / "address.known").write_text(process.address)
            node = Node(f"server-{number}", place, process, skew, proxy)
            stack.push_async_callback(_end, node)
            nodes.append(node)
        # One after the other: two that found a city at once are a matter for another test.
        for node in nodes:
            await node.start()
        yield nodes


async def weigh(nodes: Sequence[Node]) -> NoReturn:
    """Note how much memory each takes, until cancelled."""
    while True:
        for node in nodes:
            if node.pid is not None:
                with suppress(OSError):  # It has just been killed.
                    node.resident_max = max(node.resident_max, Usage.of(node.pid).resident_bytes)
        await asyncio.sleep(WEIGH_SECONDS)


async def _end(node: Node) -> None:
    if node.paused and node.pid is not None:
        node.resume()
    try:
        async with asyncio.timeout(20):
            await node.process.stop()
    except TimeoutError:
        if node.pid is not None:
            os.kill(node.pid, signal.SIGKILL)


async def _proxied(uri: str, stack: AsyncExitStack) -> tuple[FaultProxy | None, str]:
    """A proxy of the server's own, and the URI through it.

    A replica set's members name themselves, so that its driver goes past a proxy.
    """
    parts = urlsplit(uri)
    if "," in parts.netloc or "directConnection=true" not in parts.query:
        return None, uri
    proxy = await stack.enter_async_context(FaultProxy(f"{parts.hostname}:{parts.port}"))
    user = parts.netloc.rpartition("@")[0]
    netloc = f"{user}@{proxy.address}" if user else proxy.address
    return proxy, urlunsplit(parts._replace(netloc=netloc))
