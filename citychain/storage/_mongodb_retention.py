"""What the MongoDB backend forgets of old transactions: raw bytes, and what people can query.

Documents stay: that in ``transactions_raw`` keeps the id from being received again, that in
``dag_nodes`` is the node. The payload goes first, so that what has no raw bytes any more has none
either. Queries name city and ids alone: not every server that speaks MongoDB's protocol walks an
index where they name more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from citychain.storage._mongodb_client import Connection, Document, chunks

if TYPE_CHECKING:
    from citychain.storage._mongodb_ledger import Ledger
    from citychain.storage._mongodb_reads import Reads

__all__ = ["Retention"]

_RAW: Final = {"envelope": "", "author": "", "arrival": "", "wake": ""}
_PAYLOAD: Final = {"payload": ""}


class Retention:
    """One city's `SupportsRetention`."""

    def __init__(self, connection: Connection, city: bytes, ledger: Ledger, reads: Reads) -> None:
        self._connection = connection
        self._city = city
        self._ledger = ledger
        self._reads = reads
        self._raw = connection.database["transactions_raw"]
        self._nodes = connection.database["dag_nodes"]

    async def sizes(self, tx_ids: Sequence[bytes]) -> dict[bytes, int]:
        """See `SupportsRetention.sizes`."""
        sizes: dict[bytes, int] = {}
        sealed = list(await self._reads.find(tx_ids))
        with self._connection.errors():
            for some in chunks(sealed):
                for document in [
                    *await self._measured(self._raw, some, "envelope", "$binarySize"),
                    *await self._measured(self._nodes, some, "payload", "$bsonSize"),
                ]:
                    tx_id = document["tx_id"]
                    sizes[tx_id] = sizes.get(tx_id, 0) + document["size"]
        return sizes

    async def _measured(
        self, collection: Any, tx_ids: Sequence[bytes], field: str, measure: str
    ) -> list[Document]:
        there = {"city": self._city, "tx_id": {"$in": list(tx_ids)}}
        size = {"_id": 0, "tx_id": 1, "size": {measure: f"${field}"}}
        cursor = await collection.aggregate([{"$match": there}, {"$project": size}])
        found: list[Document] = await cursor.to_list()
        return [document for document in found if document.get("size") is not None]

    async def prune(self, tx_ids: Sequence[bytes]) -> None:
        """See `SupportsRetention.prune`."""
        await self._ledger.finish()  # What is sealed is not pending then.
        sealed = list(await self._reads.find(tx_ids))
        with self._connection.errors():
            for some in chunks(sealed):
                within: Document = {"city": self._city, "tx_id": {"$in": list(some)}}
                await self._nodes.update_many(within, {"$unset": _PAYLOAD})
                marks = {"_id": 0, "tx_id": 1, "pending": 1}
                documents = await self._raw.find(within, marks).to_list()
                # Pending all the same: sealed since then, by another server.
                done = [it["tx_id"] for it in documents if "pending" not in it]
                within["tx_id"] = {"$in": done}
                await self._raw.update_many(within, {"$unset": _RAW})
