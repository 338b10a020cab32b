"""No query of the MongoDB backend goes through a collection.

What is asked is taken from the wire, while a city goes through all that a backend can be asked.
That this is all is not believed: every place in the backend's sources that calls the driver must
have been passed.

Each query must have an index that begins with what it asks for and has the order that it wants: so
much is seen without a planner. What MongoDB then does, among many documents, only a real mongod can
say. A stand-in's explanations are no use: it calls each update a scan, and ranges of ``_id``.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from bson import ObjectId
from mongodb.mongo_proxy import MongoProxy, through
from mongodb.scenario import GENESIS, TTL, life, opened
from mongodb.test_mongodb_crashes import Town, acquire
from mongodb.victim import split_bodies
from pymongo import MongoClient
from pymongo.asynchronous.collection import AsyncCollection

import citychain.storage
from citychain.errors import LeaseLost, RoundTaken
from citychain.ports import can_prune
from citychain.storage._mongodb_leases import FORGET
from citychain.testing import FakeClock
from citychain.types import ObjectWrite, RawTransaction, SealedRound

SOURCES: Final = sorted(Path(citychain.storage.__file__).parent.glob("*mongodb*.py"))
ASKS: Final = frozenset(
    {
        *("find", "find_one", "find_raw_batches", "aggregate", "count_documents", "distinct"),
        *("update_one", "update_many", "delete_one", "delete_many", "replace_one", "bulk_write"),
        *("find_one_and_update", "find_one_and_replace", "find_one_and_delete"),
    }
)
"""Methods of a collection that look for documents."""
DOCUMENTS: Final = 100_000
"""Of each collection."""
WASTE: Final = 3
"""Keys that a query may look at for each document that it asks for or gets."""

BESIDE: Final = frozenset(
    {"hello", "ping", "endSessions", "createIndexes", "getMore", "killCursors", "aggregate"}
)
"""Commands that look for no document. `aggregate` is not among `ASKS` that the sources make: what
is left of it is the change stream."""
ABOUT_THE_CALL: Final = frozenset(
    {"$db", "lsid", "txnNumber", "$clusterTime", "$readPreference", "readConcern", "writeConcern"}
)

Place = tuple[str, int]


def places() -> Iterator[Place]:
    """Where the sources ask, by file and line."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ASKS
                # Not `self._reads.find(...)`, which asks in turn.
                and not ast.unparse(node.func.value).endswith("_reads")
            ):
                # A call begins with what it is called on, and is made at its method's name.
                yield path.name, node.func.end_lineno or node.func.lineno


class Passed:
    """The places that were passed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places: set[Place] = set()
        for name in ASKS:
            monkeypatch.setattr(AsyncCollection, name, self._noting(getattr(AsyncCollection, name)))

    def _noting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            self.places.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
            return method(*args, **kwargs)

        return noting


async def ask_everything(town: Town, database: str) -> None:
    """Make a backend do all that it can be asked to."""
    with split_bodies():
        await town.go_on(database, 0)
    city_document = town.client[database].cities
    last = city_document.find_one({"_id": GENESIS.id})
    assert last is not None
    # As after a crash behind the commit of the last round.
    undone = {"applied": last["applied"] - 1, "cleared": last["applied"] - 2, "certified": 0}
    city_document.update_one({"_id": GENESIS.id}, {"$set": undone})
    clock = FakeClock()
    async with town.backend(database, clock) as backend, town.backend(database, clock) as other:
        city, beside = await opened(backend), await opened(other)
        size = (await city.head()).size
        assert await city.round_of_size(size)
        assert await city.rounds(1, 1_000) == await city.rounds(1, (await city.head()).round)
        await city.keep({"x": b"1"})
        await city.keep({"x": b"2", "y": b"1"})
        await city.notes("votes/")
        assert await city.notes("x", {"x": bytes(32)}) == {"x": b"2"}
        await ask_for_leases(town, backend, other, clock)
        epoch = await acquire(city, "again")
        with split_bodies():
            sealed = next_round(epoch)
            await city.commit(sealed)
            with pytest.raises(RoundTaken):
                await beside.commit(sealed)
        assert (await beside.head()).round == sealed.round
        await ask_to_prune(city, [it.tx_id for it in sealed.transactions])
        await ask_to_forget(backend)


async def ask_to_prune(city: Any, tx_ids: Sequence[bytes]) -> None:
    retention = can_prune(city)
    assert retention is not None
    assert (await retention.sizes(tx_ids)).keys() == {*tx_ids}
    await retention.prune(tx_ids)
    assert await city.raw(tx_ids) == {}


async def ask_to_forget(backend: Any) -> None:
    left, initial = bytes(32), [ObjectWrite("first", 1, b"x")]
    city = await backend.city(left, b"", initial)
    await city.append([RawTransaction(bytes(31) + b"t", bytes(32), b"envelope")], {bytes(32): b""})
    await city.keep({"home": b"1"})
    await city.keep({"x": b"1"})
    await acquire(city, "first")
    await backend.forget(left, initial)
    city = await backend.city(left, b"", initial)
    assert await city.notes("") == {"home": b"1"}
    assert await city.pending_ids() == await city.pending_ids(5) == []
    assert (await city.objects(["first"]))["first"].value == b"x"


def next_round(epoch: int) -> SealedRound:
    made = life()
    for step in made.steps:
        step.note(epoch)
    return made.model.round(made.model.pending[:2], epoch=epoch)


async def ask_for_leases(town: Town, backend: Any, other: Any, clock: FakeClock) -> None:
    city, beside = await opened(backend), await opened(other)
    await backend.beat("first")
    await other.beat("second")
    epoch = await acquire(city, "first")
    await city.renew_lease(epoch, TTL)
    assert await beside.acquire_lease("second", TTL) is None
    assert await backend.genesis_files([GENESIS.id]) == {GENESIS.id: GENESIS.file}
    assert (await backend.servers(TTL))["first"] == [GENESIS.id]
    await backend.hand_over(GENESIS.id, epoch, "second")
    await other.hand_back(GENESIS.id, "third")
    await backend.servers(TTL)
    await clock.advance(TTL.total_seconds() / 10)  # It looks at leases now and then.
    assert await beside.acquire_lease("second", TTL)
    with pytest.raises(LeaseLost):
        await city.renew_lease(epoch, TTL)
    await clock.advance(FORGET * TTL.total_seconds())
    await backend.servers(TTL)
    await other.leave("second")
    await clock.advance(TTL.total_seconds())
    epoch = await acquire(city, "first")
    await city.release_lease(epoch)


# --- many documents ------------------------------------------------------------------


def multiply(client: MongoClient[dict[str, Any]], database: str, count: int) -> None:
    """Let each collection have so many more documents like those that it has."""
    for name in client[database].list_collection_names():
        if name == "citychain":
            continue
        patterns = list(client[database][name].find())
        for begin in range(0, count if patterns else 0, 5_000):
            numbers = range(begin, min(begin + 5_000, count))
            client[database][name].insert_many(
                [varied(name, patterns[n % len(patterns)], n) for n in numbers]
            )


def varied(collection: str, pattern: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Another document of the same city, or of another one."""

    def fresh(*what: object) -> bytes:
        return hashlib.sha256(repr((number, *what)).encode()).digest()

    later = number + 1_000
    city = GENESIS.id if number % 2 else fresh("city")
    document = dict(pattern)
    id = document["_id"]
    if isinstance(id, ObjectId):
        document["_id"] = ObjectId()
    elif isinstance(id, str):
        document["_id"] = f"{id}-{number}"
    elif len(id) == 34:  # A part of the genesis file, which few have many of.
        city = fresh("city")
        document["_id"] = city + id[32:]
    elif len(id) == 32:
        document["_id"] = fresh("id")
    elif len(id) in (40, 42):  # A number stands last.
        document["_id"] = city + id[32:-8] + later.to_bytes(8, "big")
    else:
        document["_id"] = city + (fresh("id") * 4)[: len(id) - 32]
    for field, value in {
        "city": city,
        "round": later,
        "seq": later,
        "size": later,
        "tx_id": fresh("tx"),
        "author": fresh("author"),
        "parent_ids": [fresh("parent")],
        "holder": f"server {number % 100}",
        "notes": [{"name": f"many/{number}", "hash": b"", "note": b""}],
    }.items():
        if field in document:
            document[field] = value
    if number % 100:
        document.pop("pending", None)
    return document


# --- asking the server -----------------------------------------------------------------


def explainable(command: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The queries of a command."""
    name = next(iter(command))
    if name == "find":
        kept = ("find", "filter", "sort", "limit", "projection")
        yield {key: command[key] for key in kept if key in command}
    elif name not in ("insert", "update", "delete", *BESIDE):
        yield {key: value for key, value in command.items() if key not in ABOUT_THE_CALL}
    for many in ("updates", "deletes"):
        for one in command.get(many, ()):
            yield {name: command[name], many: [one]}


def shape(value: Any) -> Any:
    """What queries of one kind have in common: names and types."""
    if isinstance(value, Mapping):
        return tuple((key, shape(item)) for key, item in value.items())
    if isinstance(value, list):
        return "list", *sorted({repr(shape(item)) for item in value})
    return type(value).__name__


def named(value: Any, name: str) -> Iterator[Any]:
    """All values of a field, however deep."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == name:
                yield item
            yield from named(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from named(item, name)


def shown(query: Mapping[str, Any]) -> str:
    """A query in a line, without what its values are."""
    return f"{dict(list(query.items())[:1])} {shape(query)}"[:400]


@pytest.fixture
async def queries(
    mongodb_uri: str,
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_proxy: MongoProxy,
    mongodb_database: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> list[dict[str, Any]]:
    """One of each kind that the backend makes."""
    passed = Passed(monkeypatch)
    mongodb_proxy.keep = True
    uri = through(mongodb_uri, mongodb_proxy.address)
    await ask_everything(Town(uri, mongodb_client, tmp_path), mongodb_database)
    forgotten = {*places()} - passed.places
    assert not forgotten, "the queries at these places were not asked"
    found = {
        shape(query): query
        for command in mongodb_proxy.commands
        if command.get("$db") == mongodb_database
        for query in explainable(command)
    }
    assert len(found) > 40
    return list(found.values())


# --- without a planner -----------------------------------------------------------------


def is_equality(condition: Any) -> bool:
    return not isinstance(condition, Mapping) or [*condition] == ["$in"]


def serves(index: Mapping[str, Any], asked: Mapping[str, Any], order: Mapping[str, int]) -> bool:
    """Whether an index leads to what is asked for, and in this order."""
    for field, condition in index.get("partialFilterExpression", {}).items():
        if field not in asked or condition not in ({"$exists": True}, asked[field]):
            return False
    keys = list(index["key"].items())
    if keys[0][0] not in asked:
        return False
    while keys and keys[0][0] in asked and is_equality(asked[keys[0][0]]):
        keys.pop(0)
    wanted = list(order.items())
    reversed_order = [(field, -direction) for field, direction in wanted]
    return keys[: len(wanted)] in (wanted, reversed_order)


async def test_each_query_has_an_index(
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    queries: list[dict[str, Any]],
) -> None:
    database = mongodb_client[mongodb_database]
    indexes = {name: [*database[name].list_indexes()] for name in database.list_collection_names()}
    for query in queries:
        collection = query[next(iter(query))]
        [asked] = query.get("updates") or query.get("deletes") or [query]
        served = [
            index["name"]
            for index in indexes[collection]
            if serves(index, asked.get("filter", asked.get("q")), asked.get("sort", {}))
        ]
        assert served, shown(query)


@pytest.mark.parametrize(
    ("key", "asked", "order", "does"),
    [
        ({"_id": 1}, {"_id": {"$gt": 1}}, {"_id": -1}, True),
        ({"_id": 1}, {"city": 1}, {}, False),
        ({"_id": 1}, {"_id": {"$gt": 1}}, {"round": 1}, False),
        ({"a": 1, "b": 1}, {"b": 1}, {}, False),
        ({"a": 1, "b": 1, "c": 1}, {"a": 1}, {"b": 1, "c": 1}, True),
        ({"a": 1, "b": 1, "c": 1}, {"a": 1}, {"b": 1, "c": -1}, False),
        ({"a": 1, "b": 1, "c": 1}, {"a": 1}, {"c": 1}, False),
    ],
)
def test_an_index_is_known_by_what_it_begins_with(
    key: dict[str, int], asked: dict[str, Any], order: dict[str, int], does: bool
) -> None:
    assert serves({"key": key}, asked, order) is does


# --- with MongoDB's own ----------------------------------------------------------------


@pytest.mark.usefixtures("on_real_mongod")
async def test_no_query_goes_through_a_collection(
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    queries: list[dict[str, Any]],
) -> None:
    await asyncio.to_thread(multiply, mongodb_client, mongodb_database, DOCUMENTS)
    wrong = []
    for query in queries:
        plan = mongodb_client[mongodb_database].command(
            "explain", query, verbosity="executionStats"
        )
        wrong += [f"{fault}: {shown(query)}" for fault in faults(plan, query)]
    assert not wrong, "\n".join(wrong)


def faults(plan: Mapping[str, Any], query: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with how the server answers a query."""
    stages = {*named([*named(plan, "winningPlan")], "stage")}
    if "COLLSCAN" in stages:
        yield "goes through the collection"
    if not stages:
        yield "the server does not explain it"
    if "SORT" in stages:
        yield "sorts what no index has in order"
    asked = sum(len(ids) for ids in named(query, "$in"))
    got = sum(named(plan, "nReturned")) + sum(named(plan, "nWouldModify"))
    for name in ("totalKeysExamined", "totalDocsExamined"):
        examined = sum(named(plan, name))
        if examined > WASTE * (asked + got) + 20:
            yield f"{name} is {examined} for {asked} asked and {got} found"
