"""The faults that other tests rely on happen as they were asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mongodb.fail_points import STEP_DOWNS, WRITE_CONCERN_TIMEOUT, FailPoint
from mongodb.mongo_proxy import Loss, MongoProxy, primary, through
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import (
    AutoReconnect,
    NotPrimaryError,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

ONCE = {"retryWrites": "false", "serverSelectionTimeoutMS": "3000"}
"""Options of a driver that tells of each fault."""


@pytest.fixture
def uri(mongodb_uri: str, mongodb_proxy: MongoProxy) -> str:
    return through(mongodb_uri, mongodb_proxy.address, **ONCE)


async def test_writes_are_counted_and_reads_are_not(
    uri: str, mongodb_proxy: MongoProxy, mongodb_database: str
) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        things = client[mongodb_database].things
        await things.insert_many([{"_id": n, "filler": "x" * 10_000} for n in range(100)])
        assert len(await things.find().to_list()) == 100
        await things.find_one_and_update({"_id": 1}, {"$set": {"a": 1}})
        await client[mongodb_database].others.delete_one({"_id": 1})
    assert mongodb_proxy.writes == ["insert things", "findAndModify things", "delete others"]


@pytest.mark.parametrize("loss", Loss)
async def test_a_write_is_lost_before_or_after_it_is_done(
    uri: str, mongodb_proxy: MongoProxy, mongodb_database: str, loss: Loss
) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        things = client[mongodb_database].things
        mongodb_proxy.lose(2, loss)
        await things.insert_one({"_id": 1})
        with pytest.raises(AutoReconnect):
            await things.insert_one({"_id": 2})
        assert mongodb_proxy.is_reached
        await things.insert_one({"_id": 3})
        found = [it["_id"] for it in await things.find().sort("_id").to_list()]
        assert found == ([1, 3] if loss is Loss.REQUEST else [1, 2, 3])


@pytest.mark.parametrize("loss", Loss)
async def test_a_retryable_write_is_done_once(
    mongodb_uri: str, mongodb_proxy: MongoProxy, mongodb_database: str, loss: Loss
) -> None:
    async with AsyncMongoClient[dict[str, Any]](
        through(mongodb_uri, mongodb_proxy.address)
    ) as client:
        things = client[mongodb_database].things
        await things.insert_one({"_id": 1, "count": 0})
        mongodb_proxy.lose(1, loss)
        await things.update_one({"_id": 1}, {"$inc": {"count": 1}})
        assert mongodb_proxy.is_reached
        assert await things.find_one() == {"_id": 1, "count": 1}


@pytest.mark.parametrize("loss", Loss)
async def test_after_a_crash_nothing_passes_until_it_is_healed(
    uri: str,
    mongodb_proxy: MongoProxy,
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    loss: Loss,
) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        things = client[mongodb_database].things
        mongodb_proxy.crash(2, loss)
        await things.insert_one({"_id": 1})
        dying = asyncio.create_task(things.insert_one({"_id": 2}))
        await mongodb_proxy.reached()
        with pytest.raises(PyMongoError):
            await dying
        with pytest.raises((AutoReconnect, ServerSelectionTimeoutError)):
            await things.insert_one({"_id": 3})
        found = [it["_id"] for it in mongodb_client[mongodb_database].things.find().sort("_id")]
        assert found == ([1] if loss is Loss.REQUEST else [1, 2])
        mongodb_proxy.heal()
        await things.insert_one({"_id": 4})


async def test_a_fail_point_meets_one_application_alone(
    mongodb_uri: str,
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    fail_point: FailPoint,
) -> None:
    uri = through(
        mongodb_uri, primary(mongodb_client), appName=fail_point.application, retryWrites="false"
    )
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        things = client[mongodb_database].things
        for code in STEP_DOWNS:
            fail_point.error(["insert"], code)
            mongodb_client[mongodb_database].things.insert_one({"of": "another"})
            with pytest.raises(NotPrimaryError):
                await things.insert_one({"_id": code})
        assert await things.count_documents({"of": {"$exists": False}}) == 0

        fail_point.write_concern_error(["insert"], WRITE_CONCERN_TIMEOUT)
        with pytest.raises(WriteConcernError):
            await things.insert_one({"_id": "done"})
        assert await things.find_one({"_id": "done"})

        fail_point.disconnect(["insert"])
        with pytest.raises(AutoReconnect):
            await things.insert_one({"_id": "lost"})
        assert not await things.find_one({"_id": "lost"})


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "mongodb://a:1,b:2/?replicaSet=rs&heartbeatFrequencyMS=100",
            "mongodb://h:9/?heartbeatFrequencyMS=500&directConnection=true&appName=t",
        ),
        (
            "mongodb://u%40x:p%2Fw@a:1/?tls=true&authSource=admin",
            "mongodb://u%40x:p%2Fw@h:9/"
            "?tls=true&authSource=admin&directConnection=true&heartbeatFrequencyMS=500&appName=t",
        ),
    ],
)
def test_a_uri_is_led_elsewhere_with_its_credentials(uri: str, expected: str) -> None:
    assert through(uri, "h:9", appName="t") == expected
