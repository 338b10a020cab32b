"""`citychain doctor` looks at a database without opening it."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.ports import StorageContext
from citychain.storage.mongodb import MongodbBackend, MongodbOptions
from citychain.upkeep import StorageLook


async def test_a_look_makes_nothing_and_names_the_index_that_is_missing(
    mongodb_uri: str,
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    tmp_path: Any,
) -> None:
    options = MongodbOptions(uri=mongodb_uri, database=mongodb_database)
    async with Executor() as compute:
        context = StorageContext(tmp_path, compute, SystemClock())

        async def look() -> StorageLook:
            return await MongodbBackend(options, context).look()

        new = await look()
        assert (new.schema_version, new.cities, new.lacks) == (0, 0, [])
        assert mongodb_client[mongodb_database].list_collection_names() == []
        async with MongodbBackend(options, context):
            whole = await look()
        assert (whole.schema_version, whole.lacks) == (whole.schema_version_known, [])
        mongodb_client[mongodb_database]["rounds"].drop_index("size")
        assert (await look()).lacks == ["rounds.size"]
    # The stand-in is on this machine; elsewhere clocks are nearly the same.
    assert whole.clock_ahead_ms is not None
    assert abs(whole.clock_ahead_ms) < 600_000
