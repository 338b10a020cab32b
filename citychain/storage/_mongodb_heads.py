"""Where the ledgers of all cities stand, by as few queries as can be.

Who asks while a query is under way is answered by the next one, together with all others who do: a
server that follows many idle cities asks for all of them at once (`citychain.city.cadence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from citychain.errors import StorageError
from citychain.storage._mongodb_client import Connection, Document, Grouped

__all__ = ["Heads"]

CITIES_A_QUERY: Final = 1_000


class Heads:
    """The documents of ``cities``."""

    def __init__(self, connection: Connection) -> None:
        self._cities = connection.database["cities"]
        self._asked = Grouped[bytes, Document](
            connection, self._read, size=lambda city: 1, limit=CITIES_A_QUERY
        )

    async def of(self, city: bytes) -> Document:
        """A city's document, read after this was called."""
        return await self._asked.do(city)

    async def _read(self, cities: Sequence[bytes]) -> Sequence[Document | Exception]:
        found = {
            document["_id"]: document
            async for document in self._cities.find({"_id": {"$in": list(dict.fromkeys(cities))}})
        }
        return [found.get(city, StorageError("the city is not stored here")) for city in cities]
