"""A storage that dies at a chosen write."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import StorageError
from citychain.ports import CityStorage, StorageContext
from citychain.storage.memory import MemoryBackend
from citychain.testing import CrashingStorage
from citychain.testing.crashes import WRITES
from citychain.types import RawTransaction, State

SQLITE = {"tokyo": {"storage": "sqlite"}}


@pytest.fixture
async def storage(tmp_path: Path) -> CityStorage:
    backend = MemoryBackend(StorageContext(tmp_path, Executor(1), SystemClock()))
    return await backend.city(bytes(32), b"", ())


def transaction(number: int) -> RawTransaction:
    return RawTransaction(number.to_bytes(32, "big"), bytes(32), b"envelope")


@pytest.mark.parametrize("before", [True, False])
async def test_no_call_returns_after_the_crash(storage: CityStorage, before: bool) -> None:
    crash = CrashingStorage(2, before=before)
    dying: Any = crash(storage)
    await dying.append([transaction(1)], {})
    assert await dying.raw([transaction(1).tx_id])  # Reads are not counted.
    calls = [
        asyncio.create_task(dying.append([transaction(2)], {})),
        asyncio.create_task(dying.append([transaction(3)], {})),
        asyncio.create_task(dying.raw([transaction(1).tx_id])),
    ]
    await crash.crashed()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(call.done() for call in calls)
    assert crash.writes == ["append", "append"]
    assert str(crash).endswith("...")
    # What had an effect before is there; what came after it has none.
    assert bool(await storage.raw([transaction(2).tx_id])) is not before
    assert not await storage.raw([transaction(3).tx_id])
    crash.abandon()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, StorageError)
    with pytest.raises(StorageError):
        await dying.head()


async def test_a_call_of_the_dead_can_be_cancelled(storage: CityStorage) -> None:
    crash = CrashingStorage(1)
    call = asyncio.create_task(crash(storage).append([transaction(1)], {}))
    await crash.crashed()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_living_one_that_is_abandoned_goes_on(storage: CityStorage) -> None:
    crash = CrashingStorage(1)
    crash.abandon()
    await crash(storage).append([transaction(1)], {})
    assert await storage.raw([transaction(1).tx_id])


def test_it_counts_all_that_a_city_writes() -> None:
    """The rest of the port reads, or waits."""
    asked = {name for name in dir(CityStorage) if not name.startswith("_")}
    reads = {
        *("keys", "raw", "pending", "pending_ids", "changed", "head", "notes", "rounds"),
        "round_of_size",
        *("nodes", "children", "leaf_hashes", "subtree_hashes"),
        *("objects", "find", "latest", "tips", "round_nodes", "checkpoint_hashes"),
    }
    assert asked == WRITES | reads


async def test_what_was_acknowledged_outlives_it(
    city_server: Any, signed_transactions: Any, tmp_path: Path
) -> None:
    crash = CrashingStorage(3, before=True)  # The lease, the transaction, and no round.
    place = tmp_path / "server"
    overrides = {"tokyo": {"storage": crash}}
    async with (
        city_server(SQLITE, overrides, directory=place) as server,
        server.client("tokyo") as city,
    ):
        [sent] = await signed_transactions(city)
        await city.submit([sent])
        await crash.crashed()
        assert crash.writes == ["acquire_lease", "append", "commit"]
        crash.abandon()
    async with city_server(SQLITE, directory=place) as server, server.client("tokyo") as city:
        assert (await city.wait([sent.tx_id]))[sent.tx_id].state is State.APPROVED
