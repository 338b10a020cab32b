"""How a city comes into the database, and under which name.

Its document in ``cities`` is the commit: genesis file and first objects are written before it.
``network`` and ``slug`` in it are its name. Both are in a unique index, which decides where servers
found different cities of one name at once. What the others wrote until then stays behind: nothing
names it, and it is what founding the same city later writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from citychain.errors import NameTaken
from citychain.storage._mongodb_client import Connection, Document, chunks, insert_new
from citychain.storage._mongodb_layout import of_city

if TYPE_CHECKING:
    from citychain.types import ObjectWrite

__all__ = ["first_objects", "found", "genesis_files"]

FILE_PART_BYTES: Final = 8 << 20
"""Of a genesis file, in one document."""
TRIES: Final = 8
"""Where others found the same city, or forget the one that had the name, at the same time."""


async def found(
    connection: Connection,
    genesis: bytes,
    genesis_file: bytes,
    name: str | None,
    initial: Sequence[ObjectWrite],
) -> None:
    """Make a new city; one that is there gets its name back, if it has lost it.

    Raises:
        NameTaken: another city has it.
    """
    cities = connection.database["cities"]
    named = _named(name)
    with connection.errors():
        if await cities.find_one({"_id": genesis, **named}, {"_id": 1}) is not None:
            return
        await _see_that_it_is_free(connection, genesis, name)
        parts = [
            genesis_file[at : at + FILE_PART_BYTES]
            for at in range(0, max(len(genesis_file), 1), FILE_PART_BYTES)
        ]
        for number, part in enumerate(parts):
            document = {"_id": _file_key(genesis, number), "city": genesis, "data": part}
            await insert_new(connection.database["genesis_files"], [document])
        await insert_new(connection.database["objects"], first_objects(genesis, initial))
        new = {
            "file_parts": len(parts),
            "applied": 0,
            "cleared": 0,
            "certified": 0,
            "linked_round": 0,
        }
        change = {"$setOnInsert": new, **({"$set": named} if named else {})}
        for left in reversed(range(TRIES)):
            try:
                await cities.update_one({"_id": genesis}, change, upsert=True)
                return
            except DuplicateKeyError:
                await _see_that_it_is_free(connection, genesis, name)
                if not left:
                    raise


async def _see_that_it_is_free(connection: Connection, genesis: bytes, name: str | None) -> None:
    """See that no other city has the name."""
    if name is None:
        return
    # What a majority has may lack the one that the index has refused us for.
    cities = connection.database["cities"].with_options(read_concern=ReadConcern("local"))
    there = await cities.find_one(_named(name), {"_id": 1})
    if there is not None and there["_id"] != genesis:
        files = await genesis_files(connection, [there["_id"]], ReadConcern("local"))
        raise NameTaken(name, files[there["_id"]])


def _named(name: str | None) -> dict[str, str]:
    """A name as fields of the city's document."""
    if name is None:
        return {}
    network, _, slug = name.partition("/")
    return {"network": network, "slug": slug}


async def genesis_files(
    connection: Connection, cities: Sequence[bytes], concern: ReadConcern | None = None
) -> dict[bytes, bytes]:
    """Genesis files by genesis id, of those that are stored."""
    found_cities = connection.database["cities"].with_options(read_concern=concern)
    found_parts = connection.database["genesis_files"].with_options(read_concern=concern)
    files = {}
    with connection.errors():
        for some in chunks(list(dict.fromkeys(cities))):
            parts = dict.fromkeys(some, 0)
            async for city in found_cities.find({"_id": {"$in": list(some)}}, {"file_parts": 1}):
                parts[city["_id"]] = city["file_parts"]
            for genesis, count in parts.items():
                keys = [_file_key(genesis, number) for number in range(count)]
                data = {
                    part["_id"]: part["data"]
                    async for part in found_parts.find({"_id": {"$in": keys}})
                }
                if count:
                    files[genesis] = b"".join([data[key] for key in keys])
    return files


def first_objects(genesis: bytes, initial: Sequence[ObjectWrite]) -> list[Document]:
    """The objects that a city begins with, as documents."""
    return [
        {
            "_id": of_city(genesis, object.encode()),
            "city": genesis,
            "object": object,
            "round": 0,
            "version": version,
            "value": value,
        }
        for object, version, value in initial
    ]


def _file_key(genesis: bytes, number: int) -> bytes:
    return of_city(genesis, number.to_bytes(2, "big"))
