"""Cities go to servers that join, and stay nowhere when one leaves or dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.config import Settings
from citychain.containers import RunningServer, open_server
from citychain.crypto.signatures import SigningKey
from citychain.handler import Received
from citychain.testing.conformance._city_installed import install
from citychain.testing.shared import SharedMemory

CITIES = [f"city-{letter}" for letter in "abcdefg"]
KEY = SigningKey(bytes(32))


class Cluster:
    """Servers over one storage, and who of them leads what."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.running: list[tuple[RunningServer, AsyncExitStack]] = []

    async def join(self) -> RunningServer:
        stack = AsyncExitStack()
        server = await stack.enter_async_context(open_server(self._settings))
        self.running.append((server, stack))
        return server

    async def leave(self, number: int) -> None:
        _, stack = self.running.pop(number)
        await stack.aclose()

    def led(self) -> list[list[str]]:
        """Cities that each server leads."""
        return [
            sorted(
                slug
                for slug, handler in server.directory.open_cities().items()
                if getattr(handler, "leads", False)
            )
            for server, _ in self.running
        ]

    async def settled(self, holds: Callable[[list[list[str]]], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds(self.led()):
                await asyncio.sleep(0.02)

    async def balanced(self) -> None:
        """Wait until every city is led by one server, and no server leads more than one more."""

        def even(led: list[list[str]]) -> bool:
            counts = [len(cities) for cities in led]
            all_led = sorted(slug for cities in led for slug in cities) == CITIES
            return all_led and max(counts) - min(counts) <= 1

        await self.settled(even)


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    install(monkeypatch, tmp_path / "site", [], [SharedMemory().definition])
    key = tmp_path / "operator.key"
    create_key(key)
    settings = Settings(
        data_dir=tmp_path / "data",
        operator_key=key,
        server={"listen": "127.0.0.1:0", "drain_seconds": 5},
        pacer={"min_seconds": 0.01, "max_seconds": 0.05},
        cluster={"lease_seconds": 0.6},
        cities={slug: {"storage": "shared-memory", "num_hashes": 10} for slug in CITIES},
        plugins={"allow": ("city-under-test",)},
    )
    servers = Cluster(settings)
    yield servers
    while servers.running:
        await servers.leave(-1)


@asynccontextmanager
async def writing(address: str) -> Any:
    """Submits to all cities without pause; every call must be answered, and become final."""
    clients = [CityClient(slug, ChannelFactory([address])) for slug in CITIES]
    sent: dict[str, list[bytes]] = {slug: [] for slug in CITIES}
    stop = asyncio.Event()

    async def write(slug: str, client: CityClient) -> None:
        genesis = (await client.info()).genesis
        while not stop.is_set():
            item = sign_transaction(KEY, genesis=genesis, data=b"x", with_public_key=True)
            [result] = await client.submit([item])
            assert isinstance(result, Received), result
            sent[slug].append(item.tx_id)
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client)
        async with asyncio.TaskGroup() as group:
            for slug, client in zip(CITIES, clients, strict=True):
                group.create_task(write(slug, client))
            try:
                yield sent
            finally:
                stop.set()
        for slug, client in zip(CITIES, clients, strict=True):
            assert sent[slug]
            assert (await client.wait(sent[slug])).keys() == set(sent[slug])


async def test_cities_go_to_who_joins_while_all_accept(cluster: Cluster) -> None:
    first = await cluster.join()
    async with writing(first.address):
        await cluster.settled(lambda led: led == [CITIES])
        await cluster.join()
        await cluster.balanced()
        await cluster.join()
        await cluster.balanced()
        await cluster.leave(1)
        await cluster.balanced()
