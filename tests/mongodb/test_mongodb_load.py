"""A city on MongoDB goes on taking in while its database fails, and nothing is lost or doubled.

Real transactions go through a real server: intake, rounds, approval. Beside each batch something
goes wrong with the database. In the end each transaction that was acknowledged is final, once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mongodb.fail_points import (
    SHUTDOWN_IN_PROGRESS,
    STEP_DOWNS,
    WRITE_CONCERN_TIMEOUT,
    FailPoint,
)
from mongodb.mongo_proxy import Loss, MongoProxy, through
from pymongo import MongoClient

from citychain.errors import CitychainError
from citychain.testing.server import CityServerFactory, TransactionFactory
from citychain.types import State

BATCHES = 24
BATCH = 5
SEED = 8

Trouble = Callable[[int], None]
"""Makes something go wrong soon, the nth time."""


@pytest.fixture
def fail_point(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[FailPoint]:
    """Under the name that the backend gives itself."""
    point = FailPoint(mongodb_client, "citychain")
    yield point
    point.off()


@pytest.fixture(
    params=[
        "connections are cut",
        "requests are lost",
        "replies are lost",
        "the primary steps down",
        "the write concern fails",
    ]
)
def trouble(
    request: pytest.FixtureRequest, mongodb_proxy: MongoProxy, fail_point: FailPoint
) -> Iterator[Trouble]:
    choose = random.Random(SEED)
    commands = itertools.cycle(["insert", "update", "find"])
    codes = itertools.cycle(STEP_DOWNS)
    concerns = itertools.cycle([WRITE_CONCERN_TIMEOUT, SHUTDOWN_IN_PROGRESS])
    kinds: dict[str, Trouble] = {
        "connections are cut": lambda nth: mongodb_proxy.cut(),
        "requests are lost": lambda nth: mongodb_proxy.lose(choose.randint(1, 9), Loss.REQUEST),
        "replies are lost": lambda nth: mongodb_proxy.lose(choose.randint(1, 9), Loss.REPLY),
        "the primary steps down": lambda nth: fail_point.error([next(commands)], next(codes)),
        "the write concern fails": lambda nth: fail_point.write_concern_error(
            [next(commands) if nth % 3 else "update"], next(concerns)
        ),
    }
    yield kinds[request.param]
    assert mongodb_proxy.is_reached is (request.param in ("requests are lost", "replies are lost"))


async def test_each_acknowledged_transaction_is_final_once(
    city_server: CityServerFactory,
    signed_transactions: TransactionFactory,
    mongodb_uri: str,
    mongodb_proxy: MongoProxy,
    mongodb_database: str,
    fail_point: FailPoint,
    trouble: Trouble,
) -> None:
    storage = {
        "shared": {
            "backend": "mongodb",
            "uri": through(mongodb_uri, mongodb_proxy.address),
            "database": mongodb_database,
        }
    }
    pacer = {"min_seconds": 0.02, "max_seconds": 0.05}
    async with (
        city_server({"tokyo": {"storage": "shared"}}, storage=storage, pacer=pacer) as server,
        server.client("tokyo") as city,
    ):
        sent = await signed_transactions(city, BATCHES * BATCH)
        acknowledged: list[bytes] = []

        async def submit(batch: list[Any]) -> None:
            try:
                await city.submit(batch)
            except CitychainError:
                return  # Told so: it may be there or not.
            acknowledged.extend(transaction.tx_id for transaction in batch)

        calls = []
        for nth in range(BATCHES):
            trouble(nth)
            batch = list(sent[nth * BATCH : (nth + 1) * BATCH])
            calls.append(asyncio.create_task(submit(batch)))
            if nth % 3 == 2:  # A few at a time.
                await asyncio.gather(*calls)
        await asyncio.gather(*calls)
        fail_point.off()
        mongodb_proxy.heal()

        assert len(acknowledged) > len(sent) // 2
        told = await city.wait(acknowledged)
        assert {event.state for event in told.values()} == {State.APPROVED}
        found = await city.status([transaction.tx_id for transaction in sent])
        places = [(it.node.round, it.node.seq) for it in found.values() if it.node is not None]
        assert len(set(places)) == len(places) >= len(acknowledged)
        # The log has one leaf for each, so none has two.
        assert (await city.info()).head.size == len(places)
