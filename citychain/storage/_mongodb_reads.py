"""Reading a city. What a round has that is not applied yet is left out.

Documents that a round wrote bear its number. If an answer has one newer than the latest round
that we know to be applied, we look where the ledger stands, and if it has moved on, read again.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from citychain.ports import PendingPage, StoredRound
from citychain.storage._mongodb_client import Connection, Document, chunks
from citychain.storage._mongodb_layout import (
    Columns,
    of_city,
    place_key,
    sealed_node,
    subtree_key,
)
from citychain.types import Certificate, NodeRef, ObjectState, RawTransaction, SealedNode, Vote

if TYPE_CHECKING:
    from citychain.storage._mongodb_ledger import Ledger

__all__ = ["Reads"]

T = TypeVar("T")

_INT64_MAX: Final = (1 << 63) - 1
_CURSOR: Final = struct.Struct(">q32s")
"""Arrival and id of the last transaction of a page."""
_ID_DOCUMENT: Final = 49
"""Bytes of the document ``{tx_id: 32 bytes}``, of which the id begins at `_ID_AT`."""
_ID_AT: Final = 16
ROUNDS_PAGE: Final = 64
"""Rounds asked for at a time, each by its id: not every server that speaks MongoDB's protocol walks
an index for a range, and who follows asks again and again."""
LATE_ROUNDS: Final = 32
"""Where an author's latest node is looked for first: not every such server ends a walk where it has
what was asked for."""
_WITHOUT_PAYLOAD: Final = {"payload": 0, "rule": 0, "poh": 0, "ts": 0, "city": 0}
_REFERENCE: Final = {"author": 1, "round": 1, "seq": 1}
_NODES_OF_BODY: Final = ("tx_ids", "authors", "node_ids", "parents", "rejections", "pops")


class Reads:
    """What one city's `CityStorage` answers."""

    def __init__(self, connection: Connection, city: bytes, ledger: Ledger) -> None:
        self._connection = connection
        self._city = city
        self._ledger = ledger
        database = connection.database
        self._raw = database["transactions_raw"]
        self._keys = database["keys"]
        self._rounds = database["rounds"]
        self._certificates = database["certificates"]
        self._nodes = database["dag_nodes"]
        self._objects = database["objects"]
        self._subtrees = database["subtrees"]

    async def _whole(self, read: Callable[[], Awaitable[list[Document]]]) -> list[Document]:
        """Documents by a state of the ledger that was whole when they were read.

        Of those in the answer that are newer than ``ledger.head``, the caller shows none.
        """
        with self._connection.errors():
            while True:
                known = self._ledger.head.round
                documents = [d for d in await read() if "fence" not in d]
                if all(document["round"] <= known for document in documents):
                    return documents
                await self._ledger.look()
                if self._ledger.head.round == known:
                    return documents

    async def _applied(self, read: Callable[[], Awaitable[list[Document]]]) -> list[Document]:
        """The same, without those that are newer."""
        documents = await self._whole(read)
        return [d for d in documents if d["round"] <= self._ledger.head.round]

    async def _by_ids(
        self,
        collection: Any,
        field: str,
        ids: Sequence[bytes],
        projection: Mapping[str, int] | None = None,
        within: Mapping[str, Any] | None = None,
    ) -> list[Document]:
        """Documents whose field is one of the ids."""
        parts = [
            collection.find(
                {**(within or {}), field: {"$in": list(some)}}, projection, batch_size=len(some) + 1
            ).to_list()
            for some in chunks(list(dict.fromkeys(ids)))
        ]
        if len(parts) == 1:
            found: list[Document] = await parts[0]
            return found
        return [document for part in await asyncio.gather(*parts) for document in part]

    # Received

    async def keys(self, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """See `CityStorage.keys`."""
        ids = [of_city(self._city, key_id) for key_id in key_ids]
        with self._connection.errors():
            documents = await self._by_ids(self._keys, "_id", ids)
        return {document["key_id"]: document["key"] for document in documents}

    async def raw(self, tx_ids: Sequence[bytes]) -> dict[bytes, RawTransaction]:
        """See `CityStorage.raw`."""
        with self._connection.errors():
            documents = await self._by_ids(
                self._raw,
                "tx_id",
                tx_ids,
                {"_id": 0, "tx_id": 1, "author": 1, "envelope": 1},
                {"city": self._city},
            )
        return {
            d["tx_id"]: RawTransaction(d["tx_id"], d["author"], d["envelope"])
            for d in documents
            if "envelope" in d
        }

    async def last_arrival(self) -> int:
        """Arrival of the last pending transaction, 0 if there is none."""
        with self._connection.errors():
            document = await self._raw.find_one(
                {"city": self._city, "pending": True},
                {"_id": 0, "arrival": 1},
                sort=[("arrival", -1), ("tx_id", -1)],
            )
        return 0 if document is None else int(document["arrival"])

    async def pending(self, cursor: bytes | None, limit: int) -> PendingPage:
        """See `CityStorage.pending`."""
        after = (-1, b"") if cursor is None else _CURSOR.unpack(cursor)
        wanted = limit + 1
        while True:
            with self._connection.errors():
                documents = (
                    await self._raw.find(
                        {
                            "city": self._city,
                            "pending": True,
                            "arrival": {"$gte": max(after[0], 0)},
                        },
                        {"_id": 0, "tx_id": 1, "author": 1, "envelope": 1, "arrival": 1},
                    )
                    .sort([("arrival", 1), ("tx_id", 1)])
                    .limit(wanted)
                    .to_list()
                )
            found = [d for d in documents if (d["arrival"], d["tx_id"]) > after]
            if len(found) > limit or len(documents) < wanted:
                break
            wanted += len(documents) - len(found)  # As many as came at the same time.
        page = found[:limit]
        more = len(found) > limit
        return PendingPage(
            transactions=[RawTransaction(d["tx_id"], d["author"], d["envelope"]) for d in page],
            cursor=_CURSOR.pack(page[-1]["arrival"], page[-1]["tx_id"]) if more else None,
        )

    async def pending_ids(self, limit: int | None) -> list[bytes]:
        """See `CityStorage.pending_ids`: an index has all that is asked for."""
        ids: list[bytes] = []
        with self._connection.errors():
            cursor: Any = self._raw.find_raw_batches(
                {"city": self._city, "pending": True},
                {"_id": 0, "tx_id": 1},
                sort=[("arrival", 1), ("tx_id", 1)],
                limit=limit or 0,
            )
            async for batch in cursor:
                at = range(_ID_AT, len(batch), _ID_DOCUMENT)
                ids += [batch[begin : begin + 32] for begin in at]
        return ids

    # Rounds

    async def rounds(self, first: int, limit: int) -> list[StoredRound]:
        """See `CityStorage.rounds`."""
        first = max(first, 1)
        end = first + max(limit, 0)
        rounds: list[StoredRound] = []
        while first < end:
            page = range(first, min(first + ROUNDS_PAGE, end))
            documents, certified = await asyncio.gather(
                self._applied(partial(self._placed, self._rounds, page, _STORED)),
                self._certified(page),
            )
            rounds += [await self._stored_round(d, certified.get(d["round"])) for d in documents]
            if len(documents) < len(page):
                break
            first = page.stop
        return rounds

    async def _certified(self, rounds: Sequence[int]) -> dict[int, Certificate]:
        with self._connection.errors():
            documents = await self._placed(self._certificates, rounds, None)
        return {document["round"]: _certificate(document) for document in documents}

    async def _placed(
        self, collection: Any, rounds: Sequence[int], fields: Mapping[str, int] | None
    ) -> list[Document]:
        """Documents of rounds, in order."""
        keys = [place_key(self._city, round) for round in rounds]
        documents = await self._by_ids(collection, "_id", keys, fields)
        return sorted(documents, key=lambda document: document["round"])

    async def round_of_size(self, size: int) -> StoredRound | None:
        """See `CityStorage.round_of_size`."""
        query = {"city": self._city, "size": min(size, _INT64_MAX)}
        documents = await self._applied(
            lambda: self._rounds.find(query, _STORED).sort("round", 1).limit(1).to_list()
        )
        if not documents:
            return None
        round = documents[0]["round"]
        certificates = await self._certified([round])
        return await self._stored_round(documents[0], certificates.get(round))

    async def _stored_round(
        self, document: Document, certificate: Certificate | None
    ) -> StoredRound:
        with self._connection.errors():
            body = await self._ledger.body_of(document)
        return StoredRound(
            round=document["round"],
            time_ms=document["time_ms"],
            first_index=document["first_index"],
            size=document["size"],
            record=body["record"],
            checkpoint=document["checkpoint"],
            checkpoint_hash=document["checkpoint_hash"],
            peaks=document["peaks"],
            certificate=certificate,
        )

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> dict[int, bytes]:
        """See `StateView.checkpoint_hashes`."""
        keys = [place_key(self._city, r) for r in rounds if 0 < r <= _INT64_MAX]
        documents = await self._applied(
            lambda: self._by_ids(
                self._rounds, "_id", keys, {"round": 1, "checkpoint_hash": 1, "fence": 1}
            )
        )
        return {document["round"]: document["checkpoint_hash"] for document in documents}

    async def round_nodes(self, round: int) -> list[SealedNode]:
        """See `StateView.round_nodes`: they stand in the round's own document."""
        key = place_key(self._city, round)
        fields = {f"body.{name}": 1 for name in _NODES_OF_BODY}
        documents = await self._applied(
            lambda: self._rounds.find({"_id": key}, {**_MARKS, **fields}).limit(1).to_list()
        )
        if not documents or documents[0]["round"] != round:
            return []
        with self._connection.errors():
            body = await self._ledger.body_of(documents[0])
        return await self._ledger.compute(_round_nodes, body, round)

    async def tips(self) -> list[NodeRef]:
        """See `StateView.tips`."""
        await self._ledger.look()
        nodes = await self.round_nodes(self._ledger.linked_round)
        return [node.ref for node in nodes if node.node_id is not None]

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """See `CityStorage.leaf_hashes`: those of the rounds that end behind ``begin``, up to
        the first that ends behind ``end``."""
        begin, end = min(max(begin, 0), _INT64_MAX), min(end, _INT64_MAX)
        if end <= begin:
            return b""
        fields = {**_MARKS, "first_index": 1, "size": 1, "body.leaf_hashes": 1}

        async def covering() -> list[Document]:
            inner, last = await asyncio.gather(
                self._rounds.find(
                    {"city": self._city, "size": {"$gt": begin, "$lt": end}}, fields
                ).to_list(),
                self._rounds.find({"city": self._city, "size": {"$gte": end}}, fields)
                .sort([("size", 1), ("round", 1)])
                .limit(1)
                .to_list(),
            )
            return inner + last

        hashes = []
        for document in sorted(await self._applied(covering), key=lambda d: d["round"]):
            first = document["first_index"]
            with self._connection.errors():
                leaves = (await self._ledger.body_of(document))["leaf_hashes"]
            hashes.append(leaves[32 * max(begin - first, 0) : 32 * max(end - first, 0)])
        return b"".join(hashes)

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        """See `CityStorage.subtree_hashes`."""
        if not 0 <= level < 1 << 16 or end <= begin:
            return b""
        within = {
            "$gte": subtree_key(self._city, level, begin),
            "$lt": subtree_key(self._city, level, end),
        }
        documents = await self._applied(
            lambda: self._subtrees.find({"_id": within}).sort("_id", 1).to_list()
        )
        hashes = []
        for number, document in enumerate(documents, start=begin):
            if document["_id"] != subtree_key(self._city, level, number):
                break
            hashes.append(document["hash"])
        return b"".join(hashes)

    # The ledger

    async def find(self, tx_ids: Sequence[bytes]) -> dict[bytes, SealedNode]:
        """See `StateView.find`."""
        documents = await self._applied(
            lambda: self._by_ids(
                self._nodes, "tx_id", tx_ids, _WITHOUT_PAYLOAD, {"city": self._city}
            )
        )
        return {document["tx_id"]: sealed_node(document) for document in documents}

    async def nodes(self, node_ids: Sequence[bytes]) -> dict[bytes, SealedNode]:
        """See `CityStorage.nodes`."""
        documents = await self._applied(
            lambda: self._by_ids(
                self._nodes, "_id", node_ids, _WITHOUT_PAYLOAD, {"city": self._city}
            )
        )
        return {d["_id"]: sealed_node(d) for d in documents if "rejection" not in d}

    async def children(
        self, parent: NodeRef, after: tuple[int, int], limit: int
    ) -> list[SealedNode]:
        """See `CityStorage.children`."""
        round, seq = (min(number, _INT64_MAX) for number in after)
        query = {
            "city": self._city,
            "parent_ids": parent.node_id,
            "round": {"$gte": round},
            "$or": [{"round": {"$gt": round}}, {"seq": {"$gt": seq}}],
        }
        if limit <= 0:
            return []
        documents = await self._applied(
            lambda: (
                self._nodes.find(query, _WITHOUT_PAYLOAD)
                .sort([("round", 1), ("seq", 1)])
                .limit(limit)
                .to_list()
            )
        )
        return [n for n in map(sealed_node, documents) if parent in n.parents]

    async def latest(self, authors: Sequence[bytes]) -> dict[bytes, NodeRef]:
        """See `StateView.latest`: the last entry of each author in an index."""
        documents = await self._whole(lambda: self._latest_of(authors, _INT64_MAX))
        known = self._ledger.head.round
        if late := [d["author"] for d in documents if d["round"] > known]:
            documents = [d for d in documents if d["round"] <= known]
            documents += await self._whole(lambda: self._latest_of(late, known))
        return {d["author"]: NodeRef(d["round"], d["seq"], d["_id"]) for d in documents}

    async def _latest_of(self, authors: Sequence[bytes], round: int) -> list[Document]:
        """The latest linked nodes up to a round, without their payload."""
        late = min(round, self._ledger.head.round) - LATE_ROUNDS
        found = await self._latest_within(authors, {"$gt": late, "$lte": round})
        if rest := set(authors) - {document["author"] for document in found}:
            found += await self._latest_within(list(rest), {"$lte": late})
        return found

    async def _latest_within(
        self, authors: Sequence[bytes], rounds: Mapping[str, int]
    ) -> list[Document]:
        within = {"city": self._city, "linked": True, "round": rounds}
        found = await asyncio.gather(
            *(
                self._nodes.find({**within, "author": author}, _REFERENCE)
                .sort([("round", -1), ("seq", -1)])
                .limit(1)
                .to_list()
                for author in dict.fromkeys(authors)
            )
        )
        return [document for documents in found for document in documents]

    async def objects(self, objects: Sequence[str]) -> dict[str, ObjectState]:
        """See `StateView.objects`."""
        ids = [of_city(self._city, name.encode()) for name in objects]
        documents = await self._whole(lambda: self._by_ids(self._objects, "_id", ids))
        known = self._ledger.head.round
        states = ((d, d if d["round"] <= known else d["before"]) for d in documents)
        return {
            document["object"]: ObjectState(state["version"], state["value"])
            for document, state in states
            if "version" in state
        }


_MARKS: Final = {"round": 1, "fence": 1, "parts": 1, "checkpoint_hash": 1}
_STORED: Final = {
    **_MARKS,
    "time_ms": 1,
    "first_index": 1,
    "size": 1,
    "checkpoint": 1,
    "peaks": 1,
    "body.record": 1,
}


def _certificate(document: Document) -> Certificate:
    return Certificate(
        document["round"],
        document["checkpoint_hash"],
        tuple(Vote(vote["key_id"], vote["signature"]) for vote in document["votes"]),
    )


def _round_nodes(body: Document, round: int) -> list[SealedNode]:
    return Columns.read(body).nodes(round)
