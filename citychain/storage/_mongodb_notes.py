"""Notes: all those of one call are one document, so that they are kept all or none.

``_id`` names the set of names, ``seq`` the order of the calls in the city. A call replaces the
document of the same names, whole; where there was none, it takes its names out of older
documents afterwards. A reader takes a name from the document with the highest ``seq``: what moves
while it reads moves ahead of it. Each note has its hash beside it, so that who knows most of them
reads but the hashes of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from citychain.notes import digest
from citychain.storage._mongodb_client import (
    Connection,
    Document,
    Grouped,
    chunks,
    only_duplicates,
)
from citychain.storage._mongodb_layout import of_city

__all__ = ["Notes"]

CALL_BYTES_MAX: Final = 15 << 20
"""Notes of one call: they are one document."""
GROUP_BYTES: Final = 8 << 20


class Notes:
    """The notes of one city."""

    def __init__(self, connection: Connection, city: bytes) -> None:
        self._connection = connection
        self._city = city
        self._notes = connection.database["notes"]
        self._group = Grouped[Mapping[str, bytes], None](
            connection, self._write, size=_size, limit=GROUP_BYTES
        )

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        """See `CityStorage.keep`."""
        if _size(notes) > CALL_BYTES_MAX:
            raise ValueError(f"one call keeps at most {CALL_BYTES_MAX} bytes of notes")
        if notes:
            await self._group.do(dict(notes))

    async def read(self, prefix: str, known: Mapping[str, bytes] | None) -> dict[str, bytes]:
        """See `CityStorage.notes`."""
        with self._connection.errors():
            found = await (self._news(prefix, known) if known else self._all(prefix))
        return {name: found[name] for name in sorted(found, key=str.encode)}

    async def _all(self, prefix: str) -> dict[str, bytes]:
        documents = await self._notes.find(self._named(prefix)).to_list()
        return {
            name: entry["note"]
            for name, (entry, _) in _latest(documents).items()
            if name.startswith(prefix)
        }

    async def _news(self, prefix: str, known: Mapping[str, bytes]) -> dict[str, bytes]:
        """Those that are not known: hashes first, then the documents that have others."""
        while True:
            documents = await self._notes.find(self._named(prefix), {"notes.note": 0}).to_list()
            new = {
                name: id
                for name, (entry, id) in _latest(documents).items()
                if name.startswith(prefix) and known.get(name) != entry["hash"]
            }
            documents = []
            for ids in chunks(list(dict.fromkeys(new.values()))):
                documents += await self._notes.find({"_id": {"$in": list(ids)}}).to_list()
            found = {
                name: entry["note"]
                for name, (entry, _) in _latest(documents).items()
                if name in new
            }
            # A name that is in none of them any more has moved on meanwhile.
            if len(found) == len(new):
                return found

    def _named(self, prefix: str) -> dict[str, Any]:
        """Documents with a name that begins so."""
        query: dict[str, Any] = {"city": self._city}
        if prefix:
            names: dict[str, str] = {"$gte": prefix}
            if (end := _after(prefix)) is not None:
                names["$lt"] = end
            query["notes"] = {"$elemMatch": {"name": names}}
        return query

    async def _write(self, group: Sequence[Mapping[str, bytes]]) -> Sequence[None]:
        with self._connection.errors():
            waiting = list(group)
            while waiting:
                waiting = await self._try(waiting)
        return [None] * len(group)

    async def _try(self, group: Sequence[Mapping[str, bytes]]) -> list[Mapping[str, bytes]]:
        """Write calls; returns those whose place in the order another server took.

        The order is looked up each time: what another server wrote since may have left a lower
        place free, where this would stand before it.
        """
        first = await self._last() + 1
        operations = [
            UpdateOne(
                {"_id": of_city(self._city, _set_id(notes))},
                {
                    "$set": {
                        "city": self._city,
                        "seq": first + index,
                        "notes": [
                            {"name": name, "hash": digest(note), "note": note}
                            for name, note in notes.items()
                        ],
                    }
                },
                upsert=True,
            )
            for index, notes in enumerate(group)
        ]
        again: list[Mapping[str, bytes]] = []
        result: Mapping[str, Any]
        try:
            result = (await self._notes.bulk_write(operations, ordered=True)).bulk_api_result
        except BulkWriteError as error:
            only_duplicates(error)
            result = error.details or {}
            again = list(group[result["writeErrors"][0]["index"] :])
        new = [entry["index"] for entry in result["upserted"]]
        if new:
            await self._take_out([(first + index, list(group[index])) for index in new])
        return again

    async def _take_out(self, calls: Sequence[tuple[int, list[str]]]) -> None:
        """Remove names from documents that are older than a call."""
        for seq, names in calls:
            older = {"city": self._city, "seq": {"$lt": seq}}
            taken = await self._notes.update_many(
                {**older, "notes.name": {"$in": names}},
                {"$pull": {"notes": {"name": {"$in": names}}}},
            )
            if taken.modified_count:
                await self._notes.delete_many({**older, "notes": []})

    async def _last(self) -> int:
        document = await self._notes.find_one(
            {"city": self._city}, {"_id": 0, "seq": 1}, sort=[("seq", -1)]
        )
        return 0 if document is None else int(document["seq"])


def _latest(documents: Sequence[Document]) -> dict[str, tuple[Document, bytes]]:
    """The latest entry of each name, and the ``_id`` of its document."""
    return {
        entry["name"]: (entry, document["_id"])
        for document in sorted(documents, key=lambda document: document["seq"])
        for entry in document["notes"]
    }


def _set_id(notes: Mapping[str, bytes]) -> bytes:
    """Names the set of names."""
    names = sha256()
    for name in sorted(notes):
        encoded = name.encode()
        names.update(len(encoded).to_bytes(4, "big") + encoded)
    return names.digest()


def _size(notes: Mapping[str, bytes]) -> int:
    return 64 + sum([128 + 4 * len(name) + len(note) for name, note in notes.items()])


def _after(prefix: str) -> str | None:
    """The first string after all those that begin with the prefix, in order of UTF-8."""
    while prefix:
        last = ord(prefix[-1]) + 1
        if last == 0xD800:
            last = 0xE000  # There are no characters between.
        if last <= 0x10FFFF:
            return prefix[:-1] + chr(last)
        prefix = prefix[:-1]
    return None
