"""Several servers share a city: each accepts and tells of everything, one leads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from storage.shared_memory import SHARED

from citychain import record
from citychain.city.directory import CityDirectory
from citychain.city.pipeline import City
from citychain.client.keys import create_key
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.config import Settings
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.signatures import SigningKey
from citychain.errors import CityUnavailable
from citychain.handler import CityHandler, Received
from citychain.testing.conformance._city_installed import install
from citychain.types import State

LEASE_SECONDS = 0.5
KEY = SigningKey(bytes(32))


class Server:
    """One server: a directory of cities, as a process has it."""

    def __init__(self, directory: CityDirectory, stack: AsyncExitStack) -> None:
        self.directory = directory
        self._stack = stack

    async def city(self) -> City:
        handler = await self.directory.handler("tokyo")
        assert isinstance(handler, City)
        return handler

    async def close(self) -> None:
        await self._stack.aclose()


StartServer = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StartServer]:
    """Starts a server beside the others."""
    install(monkeypatch, tmp_path / "site", [], [SHARED])
    key = tmp_path / "operator.key"
    create_key(key)
    settings = Settings(
        data_dir=tmp_path / "data",
        operator_key=key,
        pacer={"min_seconds": 0.01, "max_seconds": 0.05},
        cluster={"lease_seconds": LEASE_SECONDS},
        cities={"tokyo": {"storage": "shared-memory", "num_hashes": 10}},
        plugins={"allow": ("city-under-test",)},
    )
    servers = []

    async def started(**parts: Any) -> Server:
        stack = AsyncExitStack()
        directory = await stack.enter_async_context(
            open_directory(CoreContainer(settings=settings), {"tokyo": parts} if parts else None)
        )
        servers.append(Server(directory, stack))
        return servers[-1]

    yield started
    for server in reversed(servers):
        await server.close()


def sign(city: CityHandler, count: int = 1) -> list[SignedTransaction]:
    return [
        sign_transaction(KEY, genesis=city.genesis.id, with_public_key=True, data=b"%d" % number)
        for number in range(count)
    ]


async def submit(city: CityHandler, batch: list[SignedTransaction]) -> None:
    results = await city.submit([signed.envelope for signed in batch])
    assert all(isinstance(result, Received) for result in results), results


async def final(city: CityHandler, batch: list[SignedTransaction]) -> None:
    """Wait on one server until all are approved."""
    states: dict[bytes, list[State]] = {signed.tx_id: [] for signed in batch}
    async with asyncio.timeout(20):
        async for told in city.watch_transactions(list(states), State.RECEIVED):
            for event in told.events:
                states[event.tx_id].append(event.state)
    for seen in states.values():
        assert seen == sorted(set(seen)), "a state was told twice, or after a later one"
        assert seen[-1] is State.APPROVED


async def leader(*cities: City) -> City:
    """The one that leads, once one does."""
    async with asyncio.timeout(10):
        while not any(city.leads for city in cities):
            await asyncio.sleep(0.01)
    [one] = [city for city in cities if city.leads]
    return one


async def check_ledger(city: CityHandler, batches: list[SignedTransaction]) -> None:
    """Each is in the ledger once, and rounds follow on each other."""
    rounds = await city.storage.rounds(1, 10_000)
    assert [stored.round for stored in rounds] == list(range(1, len(rounds) + 1))
    sealed = Counter(tx_id for stored in rounds for tx_id in record.decode(stored.record).tx_ids)
    assert sealed == Counter(signed.tx_id for signed in batches)
    assert not await city.storage.pending_ids()


async def test_every_server_accepts_and_every_server_tells(start: StartServer) -> None:
    cities = [await (await start()).city() for _ in range(3)]
    sent = []
    for _ in range(4):
        for city in cities:
            batch = sign(city, 3)
            await submit(city, batch)
            sent += batch
    await asyncio.gather(*(final(city, sent) for city in cities))
    assert sum(city.leads for city in cities) == 1
    await check_ledger(cities[0], sent)
    for city in cities:
        assert city.pending == 0
        assert (await city.receipts([signed.tx_id for signed in sent])).keys() == {
            signed.tx_id for signed in sent
        }


async def test_a_city_is_open_while_another_server_has_the_lease(start: StartServer) -> None:
    first = await (await start()).city()
    await leader(first)
    async with asyncio.timeout(LEASE_SECONDS / 2):
        second = await (await start()).city()
        await submit(second, batch := sign(second))
    await final(second, batch)
    assert first.leads
    assert not second.leads


async def test_a_server_that_closes_lets_another_lead_at_once(start: StartServer) -> None:
    one = await start()
    first = await one.city()
    await leader(first)
    second = await (await start()).city()
    await submit(first, batch := sign(first, 5))
    await one.directory.drain()
    await final(second, batch)
    await leader(second)
    with pytest.raises(CityUnavailable):
        await submit(first, sign(first))
    await submit(second, after := sign(second))
    await final(second, after)
    await final(first, after)
    await check_ledger(second, batch + after)
