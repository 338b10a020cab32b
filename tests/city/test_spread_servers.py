"""Cities go to servers that join, and stay nowhere when one leaves or dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import citychain.city.spreading as spreading
import citychain.testing.shared as shared
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.config import Settings
from citychain.containers import RunningServer, open_server
from citychain.crypto.signatures import SigningKey
from citychain.errors import StorageError
from citychain.handler import Received
from citychain.hooks.definitions import StorageDefinition
from citychain.testing.conformance._city_installed import install
from citychain.testing.shared import SharedMemory

CITIES = [f"city-{letter}" for letter in "abcdefg"]
KEY = SigningKey(bytes(32))


class Cluster:
    """Servers over one storage, and who of them leads what."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.running: list[tuple[RunningServer, AsyncExitStack]] = []
        self.connections = 0
        self.unable: set[int] = set()
        """Servers, in the order in which they joined, whose storage opens no city."""
        self.handed: list[bytes] = []
        """Cities, as they are handed over."""

    def storage(self) -> StorageDefinition:
        """What all servers share."""
        definition = SharedMemory().definition

        def connect(options: Any, context: Any) -> Any:
            backend: Any = definition.factory(options, context)
            number, self.connections = self.connections, self.connections + 1
            opens, hands_over = backend.city, backend.hand_over

            async def city(*args: Any) -> Any:
                if number in self.unable:
                    raise StorageError("the disk is full")
                return await opens(*args)

            async def hand_over(city: bytes, *args: Any) -> None:
                self.handed.append(city)
                await hands_over(city, *args)

            backend.city, backend.hand_over = city, hand_over
            return backend

        return replace(definition, factory=connect)

    async def join(self, **others: Any) -> RunningServer:
        stack = AsyncExitStack()
        settings = self.settings.model_copy(update=others)
        server = await stack.enter_async_context(open_server(settings))
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
        async with asyncio.timeout(300):
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
    install(monkeypatch, tmp_path / "site", [], [servers.storage()])
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
            await asyncio.sleep(0.05)

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


@pytest.mark.parametrize("what", ["network", "operator"])
async def test_nothing_is_handed_to_a_server_that_cannot_open_it(
    cluster: Cluster, tmp_path: Path, what: str
) -> None:
    first = await cluster.join()
    for slug in CITIES:
        await first.directory.handler(slug)
    await cluster.settled(lambda led: led == [CITIES])
    for file in (tmp_path / "data" / "genesis").iterdir():
        file.unlink()
    other: dict[str, Any] = {"network": "other"}
    if what == "operator":
        create_key(tmp_path / "other.key")
        other = {"operator_key": tmp_path / "other.key"}
    second = await cluster.join(**other)
    [(_, backend)] = _parts(second)
    # It was there for several turns of both, and nobody else leads what who led it did: on a busy
    # machine that one may lose a lease, and get it again.
    ttl = timedelta(seconds=5)
    await cluster.settled(lambda led: _turns(second) >= 3)
    assert len(await backend.servers(ttl)) == 2
    until = _turns(first) + 10
    while _turns(first) < until:
        assert cluster.led()[1] == []
        await asyncio.sleep(0.01)
    assert cluster.handed == []
    await cluster.settled(lambda led: led == [CITIES, []])


# --- who cannot open what it was handed


@pytest.fixture
def expired(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who was granted a lease that was meant for another server, which did not take it in time."""
    granted = []
    acquire = shared._City.acquire_lease

    async def watched(city: Any, holder: str, ttl: timedelta) -> int | None:
        meant_for = city._holder
        epoch = await acquire(city, holder, ttl)
        if epoch is not None and meant_for not in (None, holder):
            granted.append(holder)
        return epoch

    monkeypatch.setattr(shared._City, "acquire_lease", watched)
    return granted


@pytest.mark.parametrize("why", ["its storage fails", "it does not know them"])
async def test_what_a_server_cannot_open_is_led_again_before_a_lease_is_over(
    cluster: Cluster, expired: list[str], why: str
) -> None:
    # Long enough that nobody mistakes a slow machine for a lease that is over.
    cluster.settings = cluster.settings.model_copy(
        update={"cluster": cluster.settings.cluster.model_copy(update={"lease_seconds": 6})}
    )
    first = await cluster.join()
    async with writing(first.address):
        await cluster.settled(lambda led: led == [CITIES])
        if why == "its storage fails":
            cluster.unable = {1}
            await cluster.join()
        else:
            others = {"elsewhere": cluster.settings.cities[CITIES[0]]}
            await cluster.join(cities=others)
        await cluster.settled(lambda led: len(cluster.handed) >= 3 and led == [CITIES, []])
    assert expired == []
    assert len(cluster.handed) == 3, "each is handed over once, and not again soon"


async def test_who_can_open_cities_again_is_handed_them(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading, "SHUNNED", (3, 12))
    first = await cluster.join()
    async with writing(first.address):
        await cluster.settled(lambda led: led == [CITIES])
        cluster.unable = {1, 2}
        await cluster.join()
        await cluster.join()
        # Neither keeps what is handed to it, again and again.
        await cluster.settled(lambda led: len(cluster.handed) >= 8 and led == [CITIES, [], []])
        cluster.unable = {2}
        await cluster.settled(
            lambda led: bool(led[1]) and sorted(led[0] + led[1]) == CITIES and not led[2]
        )
        cluster.unable = set()
        await cluster.balanced()


def _parts(server: RunningServer) -> list[tuple[Any, Any]]:
    parts = server.core.spreading()._parts.values()
    return [(spreader, spreader._backend) for spreader, _ in parts]


def _turns(server: RunningServer) -> int:
    return sum(spreader._turns for spreader, _ in _parts(server))
