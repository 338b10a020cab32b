"""Reads of the MongoDB backend are after all that its server was told of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson.timestamp import Timestamp
from mongodb.mongo_proxy import MongoProxy, through
from pymongo import AsyncMongoClient, MongoClient
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from citychain.compute import Executor
from citychain.ports import CityStorage, StorageContext
from citychain.storage._mongodb_causal import Causal, LatestAnswer
from citychain.storage.mongodb import MongodbBackend, MongodbOptions
from citychain.testing import FakeClock
from citychain.testing.conformance.ledger import Ledger

TTL = timedelta(seconds=10)
Open = Callable[..., Awaitable[CityStorage]]


@pytest.fixture
async def open_city(
    mongodb_uri: str,
    mongodb_database: str,
    mongodb_proxy: MongoProxy,  # Which closes after them.
    tmp_path: Path,
) -> AsyncIterator[Open]:
    """Opens the same city on one server after the other."""
    async with AsyncExitStack() as stack:
        compute = await stack.enter_async_context(Executor(2))

        async def enter(ledger: Ledger, uri: str = mongodb_uri, **options: Any) -> CityStorage:
            given = MongodbOptions.model_validate(
                {"uri": uri, "database": mongodb_database, **options}
            )
            backend = MongodbBackend(given, StorageContext(tmp_path, compute, FakeClock()))
            entered = await stack.enter_async_context(backend)
            return await entered.city(ledger.genesis, b"", ())

        yield enter


def now(client: MongoClient[dict[str, Any]], database: str) -> Timestamp:
    """A time of the cluster behind all that was written so far."""
    answer = client[database].command("insert", "times", documents=[{}])
    time: Timestamp = answer["operationTime"]
    return time


def reads(proxy: MongoProxy) -> list[Mapping[str, Any]]:
    """The read concerns of all queries since the last call."""
    found = [command["readConcern"] for command in proxy.commands if "find" in command]
    proxy.commands.clear()
    return found


async def test_each_read_is_after_the_latest_answer(
    open_city: Open,
    mongodb_uri: str,
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    mongodb_proxy: MongoProxy,
) -> None:
    ledger, mongodb_proxy.keep = Ledger(1), True
    city = await open_city(ledger, through(mongodb_uri, mongodb_proxy.address))
    batch = ledger.transactions(3)
    before = now(mongodb_client, mongodb_database)
    await city.append(batch, {})
    mongodb_proxy.commands.clear()
    after = now(mongodb_client, mongodb_database)
    assert await city.pending_ids() == [one.tx_id for one in batch]
    await city.raw([one.tx_id for one in batch])
    await city.notes("")
    await city.head()
    asked = reads(mongodb_proxy)
    assert len(asked) == 4
    for concern in asked:
        assert concern["level"] == "majority"
        assert before < concern["afterClusterTime"]
    assert asked[0]["afterClusterTime"] < after, "more is asked for than what it knows of"
    # What others do is known by the answers to reads, and no later read is of an older state.
    times = [concern["afterClusterTime"] for concern in asked]
    assert times == sorted(times)


async def test_who_begins_to_lead_reads_what_others_were_told_is_written(
    open_city: Open,
    mongodb_uri: str,
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    mongodb_proxy: MongoProxy,
) -> None:
    ledger, mongodb_proxy.keep = Ledger(2), True
    one = await open_city(ledger)
    two = await open_city(ledger, through(mongodb_uri, mongodb_proxy.address))
    await one.append(ledger.transactions(3), {})
    told = now(mongodb_client, mongodb_database)
    assert await two.acquire_lease("two", TTL) is not None
    mongodb_proxy.commands.clear()
    assert len(await two.pending_ids()) == 3
    assert all(concern["afterClusterTime"] > told for concern in reads(mongodb_proxy))


async def test_whoever_asks_for_less_than_the_majority_waits_for_no_time(
    open_city: Open, mongodb_uri: str, mongodb_proxy: MongoProxy
) -> None:
    ledger, mongodb_proxy.keep = Ledger(3), True
    uri = through(mongodb_uri, mongodb_proxy.address)
    city = await open_city(ledger, uri, acknowledge="primary")
    await city.append(ledger.transactions(1), {})
    reads(mongodb_proxy)
    assert len(await city.pending_ids()) == 1
    assert reads(mongodb_proxy) == [{"level": "local"}]


class Event:
    """Stands for the driver's."""

    request_id = 7

    def __init__(self, **reply: Any) -> None:
        self.command = {"insert": "x", "writeConcern": {"w": "majority"}}
        self.reply = {"ok": 1.0, **reply}


def test_the_latest_answer_counts_and_those_without_a_time_do_not() -> None:
    latest: Any = LatestAnswer()
    concern = Causal(latest)

    def answered(**reply: Any) -> None:
        latest.started(Event())
        latest.succeeded(Event(**reply))

    answered()
    assert concern.document == {"level": "majority"}
    for seconds, expected in ((5, 5), (3, 5), (6, 6)):
        answered(operationTime=Timestamp(seconds, 1))
        answered(operationTime="x")
        assert concern.document["afterClusterTime"] == Timestamp(expected, 1)
    # A majority did not have that write in time, and may never have it.
    answered(operationTime=Timestamp(9, 1), writeConcernError={"code": 64})
    assert concern.document["afterClusterTime"] == Timestamp(6, 1)
    # What failed is over: an answer to another command of that number is not its answer.
    latest.started(Event())
    latest.failed(Event())
    latest.succeeded(Event(operationTime=Timestamp(9, 1)))
    assert concern.document["afterClusterTime"] == Timestamp(6, 1)


async def test_only_answers_about_what_a_majority_has_count(
    mongodb_uri: str, mongodb_database: str
) -> None:
    latest = LatestAnswer()
    async with AsyncMongoClient[dict[str, Any]](
        mongodb_uri, w="majority", event_listeners=[latest]
    ) as client:
        times = client[mongodb_database]["times"]

        async def counts(command: Awaitable[Any]) -> bool:
            latest.time = None
            await command
            return latest.time is not None

        def read(level: str) -> Awaitable[Any]:
            return times.with_options(read_concern=ReadConcern(level)).find_one({})

        # The primary alone may have that yet, and lose it.
        assert not await counts(client.admin.command("hello"))
        assert not await counts(read("local"))
        assert not await counts(times.with_options(write_concern=WriteConcern(1)).insert_one({}))
        assert await counts(times.insert_one({}))
        assert await counts(read("majority"))
        assert await counts(times.update_one({}, {"$set": {"seen": True}}))
        assert await counts(times.find_one_and_update({}, {"$set": {"seen": False}}))
        # A cursor goes on to read what its query did.
        await times.insert_many([{} for _ in range(3)])
        cursor = times.with_options(read_concern=ReadConcern("majority")).find({}, batch_size=2)
        await cursor.next()
        assert await counts(cursor.to_list())
