"""What the MongoDB backend offers besides its cities: how much it holds, and forgetting one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from citychain.clock import ahead_ms
from citychain.notes import HOME
from citychain.storage._mongodb_client import Connection
from citychain.storage._mongodb_schema import INDEXES, SCHEMA_VERSION, schema_version
from citychain.upkeep import StorageLook, StorageStats

if TYPE_CHECKING:
    from pymongo.asynchronous.collection import AsyncCollection

    from citychain.ports import Clock

__all__ = ["forget", "look", "make_indexes", "stats"]

DOCUMENTS_A_STEP: Final = 1_000
"""Documents that are removed by one command."""

COUNTED: Final = (
    "cities",
    "transactions_raw",
    "rounds",
    "round_parts",
    "certificates",
    "dag_nodes",
    "objects",
    "subtrees",
    "keys",
    "notes",
)

_BY_ID: Final = {
    "objects": range(1, 256),
    "subtrees": (10,),
    "certificates": (8,),
    "round_parts": (42,),
    "rounds": (8,),
    "keys": (32,),
}
"""Their ``_id`` begins with the city's genesis id, and has so many bytes after it: what differs in
length stands apart."""
_BY_CITY: Final = ("dag_nodes", "transactions_raw")
"""They have an index that begins with the city."""


async def stats(connection: Connection) -> StorageStats:
    """See `SupportsUpkeep.stats`; the counts are the server's estimates."""
    database = connection.database
    with connection.errors():
        size = await database.command("dbStats")
        return StorageStats(
            schema_version=await schema_version(database),
            schema_version_known=SCHEMA_VERSION,
            bytes=int(size.get("storageSize", 0)) + int(size.get("indexSize", 0)),
            counts={name: await database[name].estimated_document_count() for name in COUNTED},
        )


async def look(connection: Connection, clock: Clock) -> StorageLook:
    """See `SupportsLooking.look`; a database of a newer release is looked at as it is."""
    database = connection.database
    with connection.errors():
        version = await schema_version(database)
        before = clock.time_ms()
        hello = await connection.client.admin.command("hello")
        after = clock.time_ms()
        there = {
            (index.collection, name)
            for index in INDEXES
            for name in await database[index.collection].index_information()
        }
        return StorageLook(
            schema_version=version,
            schema_version_known=SCHEMA_VERSION,
            cities=await database["cities"].estimated_document_count(),
            lacks=[
                f"{index.collection}.{index.name}"
                for index in INDEXES
                if version and (index.collection, index.name) not in there
            ],
            clock_ahead_ms=_ahead(hello.get("localTime"), before, after),
        )


def _ahead(told: datetime | None, before: int, after: int) -> int | None:
    """By a time as the driver has it, which is UTC without saying so."""
    if told is None:
        return None
    return ahead_ms(round(told.replace(tzinfo=UTC).timestamp() * 1_000), before, after)


async def make_indexes(connection: Connection) -> dict[str, list[str]]:
    """See `SupportsUpkeep.indexes`. Making one that is there changes nothing."""
    database = connection.database
    found: dict[str, list[str]] = {}
    with connection.errors():
        for name in sorted({index.collection for index in INDEXES}):
            models = [index.model for index in INDEXES if index.collection == name]
            await database[name].create_indexes(models)
        for name in COUNTED:
            found[name] = sorted(await database[name].index_information())
    return found


async def forget(connection: Connection, city: bytes, initial: Sequence[dict[str, Any]]) -> None:
    """See `SupportsForgetting.forget`.

    Args:
        initial: Documents of ``objects``, as when the city was founded.
    """
    database = connection.database
    with connection.errors():
        for name in _BY_CITY:
            await _remove(database[name], {"city": city})
        for name, lengths in _BY_ID.items():
            for length in lengths:
                ids = {"$gte": city + bytes(length), "$lte": city + b"\xff" * length}
                await _remove(database[name], {"_id": ids})
        others = {"city": city, "notes.0.name": {"$ne": HOME}}
        await database["notes"].delete_many(others)
        await database["leases"].delete_one({"_id": city})
        await database["cities"].update_one(
            {"_id": city},
            {
                "$set": {"applied": 0, "cleared": 0, "certified": 0, "linked_round": 0},
                "$unset": {"head": 1, "network": 1, "slug": 1},
            },
        )
        if initial:
            await database["objects"].insert_many(initial)


async def _remove(collection: AsyncCollection[dict[str, Any]], query: dict[str, Any]) -> None:
    while found := await collection.find(query, {"_id": 1}).limit(DOCUMENTS_A_STEP).to_list():
        await collection.delete_many({"_id": {"$in": [document["_id"] for document in found]}})
