"""Committing rounds, and what is redone from them.

A round's document in ``rounds``, one for each (city, round), is the commit. What follows from it
is *applied* afterwards, in this order::

    dag_nodes, objects, subtrees              by inserts, and by updates that a later round stops
    cities.applied = N                        now everybody sees the round
    transactions_raw: pending unset           its transactions are not pending any more

Each step can be repeated, by anybody, at any time: a server that dies between two of them leaves
what the next one finds and finishes (`Ledger.catch_up`). ``cities.cleared`` is the round up to
which the last step is known to be done.

Until a round is applied nobody shows any of it: nodes bear their round, and objects keep the
state before (``before``) beside the new one.

A *fence* stands in ``rounds`` where a round will be: ``{fence: epoch}``. Who acquires the lease
puts it behind the latest round, so that no round of an older epoch can be inserted there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateMany, UpdateOne
from pymongo.errors import DuplicateKeyError

from citychain import checkpoint
from citychain.errors import CitychainError, LeaseLost, RoundTaken, StorageError
from citychain.storage._mongodb_client import (
    Connection,
    Document,
    chunks,
    insert_new,
    upsert,
)
from citychain.storage._mongodb_layout import (
    BODY_BYTES_MAX,
    Columns,
    node_documents,
    of_city,
    place_key,
    raw_stub,
    subtree_key,
)
from citychain.storage._mongodb_payload import payloads, payloads_of_envelopes
from citychain.types import Head

if TYPE_CHECKING:
    from citychain.ports import Compute
    from citychain.storage._mongodb_heads import Heads
    from citychain.types import ObjectWrite, SealedRound

__all__ = ["Ledger"]


class Ledger:
    """One city's rounds."""

    def __init__(
        self,
        connection: Connection,
        compute: Compute,
        heads: Heads,
        city: bytes,
        rule: str | None,
    ) -> None:
        self._connection = connection
        self._heads = heads
        self.compute = compute
        self._city = city
        self._rule = rule
        database = connection.database
        self._cities = database["cities"]
        self._rounds = database["rounds"]
        self._parts = database["round_parts"]
        self._nodes = database["dag_nodes"]
        self._objects = database["objects"]
        self._subtrees = database["subtrees"]
        self._raw = database["transactions_raw"]
        self._turn = asyncio.Lock()
        self._in_doubt = False
        """Whether a commit failed on its way, so that a round may wait to be applied."""
        self._cleared = -1
        """The round up to which no sealed transaction is pending, as far as we know."""
        self.head = Head()
        """As it was when it was looked at last; others may be further."""
        self.linked_round = 0
        """The latest round with a linked node, of ``head``."""

    # Where the ledger stands

    async def look(self) -> Head:
        """Where the ledger stands now."""
        if self._in_doubt:
            await self._resolve()
        with self._connection.errors():
            document = await self._heads.of(self._city)
        self._note(document)
        return _head(document)

    def _note(self, city: Document) -> None:
        head, old = _head(city), self.head
        if head.round >= old.round:
            certified = max(head.certified_round, old.certified_round)
            self.head = replace(head, certified_round=certified)
            self.linked_round = city["linked_round"]

    def certified(self, round: int) -> None:
        """Note the round up to which all are certified."""
        if round > self.head.certified_round:
            self.head = replace(self.head, certified_round=round)

    async def _resolve(self) -> None:
        async with self._turn:
            if self._in_doubt:
                await self.catch_up()

    async def finish(self) -> None:
        """The same as `catch_up`, while no round is being committed here."""
        async with self._turn:
            await self.catch_up()

    async def catch_up(self) -> None:
        """Finish what others, or we, began: apply rounds that are committed and not applied."""
        with self._connection.errors():
            city = await self._standing()
            for round in range(city["cleared"] + 1, city["applied"] + 1):
                document = await self._rounds.find_one({"_id": place_key(self._city, round)})
                assert document is not None
                await self._clear((await self.body_of(document))["tx_ids"])
            # A round is committed only behind one that is applied: no more than one is left.
            if await self._apply_stored(city["applied"] + 1):
                city = await self._standing()
            self._note(city)
            self._cleared = self.head.round
        self._in_doubt = False

    async def _standing(self) -> Document:
        city = await self._cities.find_one({"_id": self._city})
        assert city is not None
        return city

    # Committing

    async def commit(self, sealed: SealedRound) -> None:
        """See `CityStorage.commit`."""
        columns = Columns.of(sealed)
        await self._connection.run(self._commit(sealed, columns))

    async def _commit(self, sealed: SealedRound, columns: Columns) -> None:
        async with self._turn:
            if self._in_doubt:
                await self.catch_up()
            if not (self._follows(sealed) and self._cleared == self.head.round):
                await self.catch_up()
            self._check(sealed)
            body, nodes = await self.compute(_encode, self._city, sealed, columns, self._rule)
            try:
                with self._connection.errors():
                    await self._put(sealed, columns, body)
                    await self._apply(sealed.round, columns, nodes)
                    await self._publish(_head_fields(sealed, columns), columns)
                    await self._clear(b"".join(columns.tx_ids))
            except (RoundTaken, LeaseLost):
                raise
            except BaseException:
                self._in_doubt = True
                raise
            self._cleared = sealed.round

    def _follows(self, sealed: SealedRound) -> bool:
        head = self.head
        return (sealed.round, sealed.first_index) == (head.round + 1, head.size)

    def _check(self, sealed: SealedRound) -> None:
        head = self.head
        if sealed.epoch < head.epoch:
            raise LeaseLost(sealed.epoch)
        if sealed.round <= head.round:
            raise RoundTaken(sealed.round)
        if not self._follows(sealed):
            raise StorageError(
                f"round {sealed.round} from leaf {sealed.first_index} does not follow "
                f"round {head.round} with {head.size} leaves"
            )

    async def _put(self, sealed: SealedRound, columns: Columns, body: bytes) -> None:
        """Insert the round's document: the commit."""
        id = place_key(self._city, sealed.round)
        document: Document = {
            "_id": id,
            "city": self._city,
            **_head_fields(sealed, columns),
            "first_index": sealed.first_index,
        }
        if len(body) <= BODY_BYTES_MAX:
            document["body"] = RawBSONDocument(body)
        else:
            document["parts"] = await self._put_parts(sealed, body)
        while True:
            try:
                await self._rounds.insert_one(document)
                return
            except DuplicateKeyError:
                there = await self._rounds.find_one({"_id": id}, {"fence": 1, "epoch": 1})
            if there is None:
                continue
            if "fence" not in there:
                raise (
                    LeaseLost(sealed.epoch)
                    if there["epoch"] > sealed.epoch
                    else RoundTaken(sealed.round)
                )
            if there["fence"] > sealed.epoch:
                raise LeaseLost(sealed.epoch)
            fence = {"_id": id, "fence": there["fence"]}
            if (await self._rounds.replace_one(fence, document)).matched_count:
                return

    async def _put_parts(self, sealed: SealedRound, body: bytes) -> int:
        """Store a body that is too large for one document, ahead of the round's own."""
        pieces = [body[at : at + BODY_BYTES_MAX] for at in range(0, len(body), BODY_BYTES_MAX)]
        for number, piece in enumerate(pieces):
            await insert_new(
                self._parts,
                [
                    {
                        "_id": _part_key(self._city, sealed.round, sealed.checkpoint_hash, number),
                        "city": self._city,
                        "data": piece,
                    }
                ],
            )
        return len(pieces)

    async def fence(self, epoch: int) -> bool:
        """See to it that no round of an older epoch is committed from now on.

        Returns:
            Whether the fence stands; if not, somebody with a newer epoch was faster.
        """
        async with self._turn:
            with self._connection.errors():
                while True:
                    await self.catch_up()
                    round = self.head.round + 1
                    id = place_key(self._city, round)
                    fence = {"_id": id, "city": self._city, "round": round, "fence": epoch}
                    try:
                        await self._rounds.insert_one(fence)
                        return True
                    except DuplicateKeyError:
                        there = await self._rounds.find_one({"_id": id}, {"fence": 1})
                    if there is None or "fence" not in there:
                        continue  # A round was committed there meanwhile.
                    if there["fence"] > epoch:
                        return False
                    raised = await self._rounds.update_one(
                        {"_id": id, "fence": there["fence"]}, {"$set": {"fence": epoch}}
                    )
                    if raised.matched_count:
                        return True

    # Applying

    async def _apply_stored(self, round: int) -> bool:
        """Apply a round, as its document says; returns whether it is committed."""
        document = await self._rounds.find_one({"_id": place_key(self._city, round)})
        if document is None or "fence" in document:
            return False
        body = await self.body_of(document)
        columns = await self.compute(Columns.read, body)
        envelopes: dict[bytes, bytes] = {}
        for some in chunks(columns.tx_ids):
            async for raw in self._raw.find(
                {"city": self._city, "tx_id": {"$in": list(some)}},
                {"_id": 0, "tx_id": 1, "envelope": 1},
            ):
                if "envelope" in raw:
                    envelopes[raw["tx_id"]] = raw["envelope"]
        nodes = await self.compute(
            _encode_again, self._city, document, columns, envelopes, self._rule
        )
        await self._apply(round, columns, nodes)
        await self._publish({name: document[name] for name in _HEAD_FIELDS}, columns)
        await self._clear(body["tx_ids"])
        return True

    async def body_of(self, document: Document) -> Document:
        """The body of a round's document, wherever it is kept."""
        if "parts" not in document:
            body: Document = document["body"]
            return body
        pieces = []
        for number in range(document["parts"]):
            key = _part_key(self._city, document["round"], document["checkpoint_hash"], number)
            part = await self._parts.find_one({"_id": key})
            if part is None:
                raise StorageError(f"round {document['round']} lacks its part {number}")
            pieces.append(part["data"])
        return bson.decode(b"".join(pieces))

    async def _apply(self, round: int, columns: Columns, nodes: Sequence[Any]) -> None:
        """Write what follows from a round, but for what shows it."""
        await asyncio.gather(
            insert_new(self._nodes, nodes),
            self._write_objects(round, columns.writes),
            insert_new(
                self._subtrees,
                [
                    {
                        "_id": subtree_key(self._city, level, number),
                        "city": self._city,
                        "round": round,
                        "hash": hash,
                    }
                    for level, number, hash in columns.subtrees
                ],
            ),
        )

    async def _write_objects(self, round: int, writes: Sequence[ObjectWrite]) -> None:
        """Write objects, each with the state that it had before; a later round's stay.

        To insert what is new costs less than to look for it.
        """
        new = [write for write in writes if write.version == 1]
        known = await insert_new(
            self._objects,
            [
                {
                    "_id": of_city(self._city, object.encode()),
                    "city": self._city,
                    "object": object,
                    "round": round,
                    "version": version,
                    "value": value,
                    "before": {},
                }
                for object, version, value in new
            ],
        )
        others = [write for write in writes if write.version != 1]
        await upsert(
            self._objects,
            [
                UpdateOne(
                    {"_id": of_city(self._city, object.encode()), "round": {"$lt": round}},
                    [
                        {
                            "$set": {
                                "before": _BEFORE,
                                "city": self._city,
                                "object": {"$literal": object},
                                "round": round,
                                "version": version,
                                "value": value,
                            }
                        }
                    ],
                    upsert=True,
                )
                for object, version, value in (*others, *(new[index] for index in known))
            ],
        )

    async def _publish(self, head: Document, columns: Columns) -> None:
        """Let everybody see a round: it is applied."""
        round = head["round"]
        fields = {f"head.{name}": value for name, value in head.items() if name in _SHOWN}
        linked = {"linked_round": round} if head["linked"] else {}
        await self._cities.update_one(
            {"_id": self._city, "applied": round - 1},
            {"$set": {"applied": round, "cleared": round - 1, **linked, **fields}},
        )
        if self.head.round < round:
            certified = self.head.certified_round
            self.head = _head({"applied": round, "head": head, "certified": certified})
            if head["linked"]:
                self.linked_round = round

    async def _clear(self, packed_ids: bytes) -> None:
        """Take a round's transactions out of the pending ones."""
        tx_ids = [packed_ids[at : at + 32] for at in range(0, len(packed_ids), 32)]
        if tx_ids and await self._unset(tx_ids) < len(tx_ids):
            # Some were never received, and must not be pending if they ever are.
            await insert_new(self._raw, [raw_stub(self._city, tx_id) for tx_id in tx_ids])
            await self._unset(tx_ids)

    async def _unset(self, tx_ids: Sequence[bytes]) -> int:
        operations = [
            UpdateMany(
                {"city": self._city, "tx_id": {"$in": list(some)}}, {"$unset": {"pending": 1}}
            )
            for some in chunks(tx_ids)
        ]
        return await upsert(self._raw, operations)


_BEFORE: Final = {"round": "$round", "version": "$version", "value": "$value"}
_SHOWN: Final = ("time_ms", "epoch", "size", "peaks", "checkpoint", "checkpoint_hash")
"""Fields of a `Head` that a round's document has."""
_HEAD_FIELDS: Final = ("round", "linked", *_SHOWN)


def _head_fields(sealed: SealedRound, columns: Columns) -> Document:
    return {
        "round": sealed.round,
        "linked": sum([node_id is not None for node_id in columns.node_ids]),
        "time_ms": sealed.time_ms,
        "epoch": sealed.epoch,
        "size": sealed.first_index + len(columns.tx_ids),
        "peaks": sealed.peaks,
        "checkpoint": sealed.checkpoint,
        "checkpoint_hash": sealed.checkpoint_hash,
    }


def _head(city: Document) -> Head:
    """What a city's document says of where it stands."""
    if not city["applied"]:
        return Head()
    shown = {name: city["head"][name] for name in _SHOWN}
    return Head(round=city["applied"], certified_round=city["certified"], **shown)


def _part_key(city: bytes, round: int, checkpoint_hash: bytes, number: int) -> bytes:
    return place_key(city, round) + checkpoint_hash + number.to_bytes(2, "big")


def _encode(
    city: bytes, sealed: SealedRound, columns: Columns, rule: str | None
) -> tuple[bytes, Sequence[Any]]:
    """The body of a round's document, and the documents of its nodes."""
    nodes = node_documents(
        city,
        sealed.round,
        sealed.time_ms,
        columns,
        payloads(sealed.transactions),
        rule=rule,
        poh=_poh(sealed.checkpoint),
    )
    return columns.body(sealed), nodes


def _encode_again(
    city: bytes,
    document: Document,
    columns: Columns,
    envelopes: dict[bytes, bytes],
    rule: str | None,
) -> Sequence[Any]:
    return node_documents(
        city,
        document["round"],
        document["time_ms"],
        columns,
        payloads_of_envelopes([envelopes.get(tx_id) for tx_id in columns.tx_ids]),
        rule=rule,
        poh=_poh(document["checkpoint"]),
    )


def _poh(encoded: bytes) -> bytes | None:
    """Hash of a checkpoint's proof-of-history entry."""
    try:
        return checkpoint.decode(encoded).poh.hash
    except CitychainError:
        return None
