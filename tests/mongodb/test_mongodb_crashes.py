"""A server dies between any two of its writes to MongoDB, and another one goes on.

The writes are counted on the wire, not in our code, so that none can be forgotten. A process goes
through a city's life (`mongodb.scenario`) behind a proxy. At the nth write the network ends for it:
that write is lost, or done without an answer. Then it is killed. A second backend must find all
that was acknowledged, and what was under way whole or not at all; it goes on to the end, and leaves
in the database what an undisturbed run leaves.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from mongodb.mongo_proxy import Loss, MongoProxy, through
from mongodb.scenario import TTL, left_behind, life, opened
from mongodb.victim import Victim, split_bodies
from pymongo import MongoClient

from citychain.compute import Executor
from citychain.ports import CityStorage, StorageBackend, StorageContext
from citychain.storage.mongodb import MongodbBackend, MongodbOptions
from citychain.testing import FakeClock

WRITES_MIN: Final = 40
"""Fewer are not the whole of a life."""


async def acquire(city: CityStorage, holder: str, clock: FakeClock | None = None) -> int:
    """The lease, by waiting for as long as its holder may be silent."""
    epoch = await city.acquire_lease(holder, TTL)
    if epoch is None and clock is not None:
        await clock.advance(TTL.total_seconds())
        epoch = await city.acquire_lease(holder, TTL)
    assert epoch is not None
    return epoch


class Town:
    """Opens backends on databases of one server."""

    def __init__(self, uri: str, client: MongoClient[dict[str, Any]], place: Path) -> None:
        self.uri = uri
        self.client = client
        self.place = place

    @asynccontextmanager
    async def backend(self, database: str, clock: FakeClock) -> AsyncIterator[StorageBackend]:
        async with (
            Executor(1) as compute,
            MongodbBackend(
                MongodbOptions(uri=self.uri, database=database),
                StorageContext(self.place, compute, clock),
            ) as backend,
        ):
            yield backend

    async def crash(self, proxy: MongoProxy, database: str, nth: int, loss: Loss) -> int | None:
        """Kill a process at its nth write.

        Returns:
            How many steps were acknowledged; ``None`` if there were fewer writes, and it has
            come to its end.
        """
        proxy.writes.clear()
        proxy.crash(nth, loss)
        victim = Victim(through(self.uri, proxy.address), database, self.place)
        try:
            ends = [asyncio.create_task(it) for it in (victim.ended(), proxy.reached())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            if not proxy.is_reached:
                assert victim.has_come_through
                return None
            steps = victim.kill()
        finally:
            victim.close()
        while proxy.links:
            await asyncio.sleep(0.001)
        proxy.heal()
        return steps

    async def go_on(self, database: str, steps: int) -> None:
        """Look whether all that was acknowledged is there, and finish the life."""
        clock = FakeClock()
        async with self.backend(database, clock) as backend:
            city = await opened(backend)
            made = life()
            model = made.model
            # A round that the first one committed is of its epoch.
            for step in made.steps[:steps]:
                step.note(1)
            rest = made.steps[steps:]
            if rest and await rest[0].is_done(city):
                rest[0].note(1)
                rest = rest[1:]
            await model.check(city, sample=1)
            epoch = await acquire(city, "second", clock)
            for step in rest:
                await step.do(city, epoch)
                step.note(epoch)
            await model.check(city, sample=1)
            ids = [transaction.tx_id for transaction in model.pending]
            assert list(await city.pending_ids()) == ids
            await city.release_lease(epoch)


@pytest.fixture
def town(mongodb_uri: str, mongodb_client: MongoClient[dict[str, Any]], tmp_path: Path) -> Town:
    return Town(mongodb_uri, mongodb_client, tmp_path)


@pytest.mark.parametrize("loss", Loss)
async def test_another_server_goes_on_after_a_crash_at_any_write(
    town: Town,
    mongodb_proxy: MongoProxy,
    mongodb_database: str,
    loss: Loss,
) -> None:
    with split_bodies():
        await town.go_on(mongodb_database, 0)
        expected = left_behind(town.client, mongodb_database)
        assert len(expected["round_parts"]) == 2
        for nth in itertools.count(1):
            database = f"{mongodb_database}-{nth}"
            try:
                steps = await town.crash(mongodb_proxy, database, nth, loss)
                if steps is None:
                    assert nth > WRITES_MIN
                    assert left_behind(town.client, database) == expected
                    return
                at = f"died at write {nth}, {mongodb_proxy.writes[-1]}; lost: {loss.value}"
                print(f"{at}; steps before: {steps}")
                await town.go_on(database, steps)
                found = left_behind(town.client, database)
                for name in expected.keys() | found.keys():
                    assert found.get(name) == expected.get(name), f"{name}, {at}"
            finally:
                town.client.drop_database(database)
