"""Several servers over one storage inside a test, and what can happen to them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from citychain.city.overrides import Overrides
from citychain.client.channels import Balancing, ChannelFactory
from citychain.client.city import CityClient
from citychain.containers import RunningServer
from citychain.crypto.signatures import SigningKey
from citychain.ports import Clock
from citychain.testing._wire import Wire, WiredEngines
from citychain.testing.proxy import FaultProxy
from citychain.testing.server import CityServer, Plan, make_plan
from citychain.testing.shared import SHARED_MEMORY, SharedMemory

__all__ = ["Cluster", "ServerFactory"]

LEASE_SECONDS: Final = 0.5
"""Tests do not wait for leases."""
KEEPALIVE: Final = timedelta(milliseconds=250)
"""Nor for a server that is silent."""
LOOK_SECONDS: Final = 0.01


@dataclass(slots=True)
class _Server:
    running: RunningServer
    seen: CityServer
    """As clients see it: through the proxy."""
    proxy: FaultProxy
    wire: Wire
    stack: AsyncExitStack
    stopped: bool = False


class Cluster:
    """Servers that share their cities; each is called by its number, from 0.

    Each is whole, with a connection of its own to the storage, but all are in this process: what
    kills one is that nothing passes any more between it and anybody else.
    """

    def __init__(self, plan: Plan, memory: SharedMemory) -> None:
        self._plan = plan
        self._memory = memory
        self._servers: list[_Server] = []

    def __len__(self) -> int:
        return len(self._servers)

    def __getitem__(self, number: int) -> CityServer:
        """One server, to ask it alone."""
        return self._servers[number].seen

    def client(
        self,
        city: str,
        policy: Balancing = "round_robin",
        *,
        timeout: timedelta = timedelta(seconds=120),
    ) -> CityClient:
        """A client of all servers that there are by now; enter it to use it."""
        addresses = [server.seen.address for server in self._servers]
        return CityClient(
            city, ChannelFactory(addresses, policy, keepalive=KEEPALIVE), timeout=timeout
        )

    async def start(self, overrides: Overrides | None = None) -> int:
        """Start one more server; its number.

        Args:
            overrides: For this one, instead of those for all.
        """
        wire = Wire()
        async with AsyncExitStack() as stack:
            opened = self._plan.open(overrides, [self._memory], partial(WiredEngines, wire))
            running = await stack.enter_async_context(opened)
            proxy = await stack.enter_async_context(FaultProxy(running.address))
            seen = self._plan.server(proxy.address)
            self._servers.append(_Server(running, seen, proxy, wire, stack.pop_all()))
        return len(self._servers) - 1

    async def stop(self, number: int) -> None:
        """Stop a server as its operator would: what it has is finished or left to others."""
        self._servers[number].stopped = True
        await self._servers[number].stack.aclose()

    async def kill(self, number: int) -> None:
        """End a server as a power cut would: nobody hears of it, or from it, again."""
        server = self._servers[number]
        server.proxy.refuse()
        server.wire.cut()
        await self.stop(number)

    def pause(self, number: int) -> None:
        """Let nothing pass between a server and anybody else, and close nothing, until `heal`.
        As a process that is stopped and goes on later, it wakes up with what it was about to do."""
        self._servers[number].proxy.hold()
        self.partition(number)

    def partition(self, number: int) -> None:
        """Let nothing pass between a server and the storage until `heal`; clients reach it."""
        self._servers[number].wire.hold()

    def heal(self, number: int) -> None:
        """Let everything pass again; what was held comes first."""
        self._servers[number].proxy.heal()
        self._servers[number].wire.heal()

    def leads(self, city: str) -> list[int]:
        """The servers that lead a city, of those that reach the storage: one, or none yet.

        Args:
            city: Its slug.
        """
        return [
            number
            for number, server in enumerate(self._servers)
            if not server.stopped
            and server.wire.is_open
            and getattr(server.running.directory.open_cities().get(city), "leads", False)
        ]

    async def leader(self, city: str) -> int:
        """The server that leads a city, once one does; some server must have opened it."""
        while True:
            if leading := self.leads(city):
                return leading[0]
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Stop all that run."""
        for number in range(len(self._servers)):
            self.heal(number)
        await asyncio.gather(*(self.stop(number) for number in range(len(self._servers))))


class ServerFactory:
    """What the fixture `server_factory` gives.

    Args:
        directory: For the data of the clusters that it starts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()

    def __call__(
        self,
        cities: Iterable[str] | Mapping[str, Mapping[str, Any]] = (),
        overrides: Overrides | None = None,
        *,
        servers: int = 2,
        clock: Clock | None = None,
        operator: SigningKey | None = None,
        **settings: Any,
    ) -> AbstractAsyncContextManager[Cluster]:
        """Start servers over one storage; leaving stops them.

        Args:
            cities: As for `CityServerFactory`. Where nothing else is said their storage is
                ``shared-memory``; one of your own must be a shared one as well.
            overrides: As for `CityServerFactory`, for each server. A function is called for
                each; an object would be in all of them at once.
            servers: How many.
            settings: As for `CityServerFactory`; leases hold for half a second.

        Raises:
            ConfigurationError: a setting is wrong, or a name is unknown.
        """
        settings = {"cluster": {"lease_seconds": LEASE_SECONDS}, **settings}
        plan = make_plan(
            self._directory / str(next(self._numbers)),
            cities,
            overrides or {},
            storage=SHARED_MEMORY,
            clock=clock,
            operator=operator,
            settings=settings,
        )
        return _running(Cluster(plan, SharedMemory()), servers)


@asynccontextmanager
async def _running(cluster: Cluster, servers: int) -> AsyncIterator[Cluster]:
    try:
        for _ in range(servers):
            await cluster.start()
        yield cluster
    finally:
        await cluster.close()
