"""The server that stands in for MongoDB: each test has a fresh database, and nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mongodb.fixtures import VARIABLE
from mongodb.stand_in import SECONDS_MAX, StandIn
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

DURABLE = WriteConcern("majority", j=True)


def wait_for_end(pid: int) -> None:
    end = time.monotonic() + SECONDS_MAX
    while is_running(pid):
        assert time.monotonic() < end, f"{pid} still runs"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # It ended, maybe while this was read.
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def test_it_is_written_to_as_a_ledger_needs(mongodb_uri: str, mongodb_database: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        things = client[mongodb_database].get_collection("things", write_concern=DURABLE)
        await things.create_index([("city", 1), ("round", 1)], unique=True)
        await things.insert_one({"city": b"a", "round": 1})
        with pytest.raises(DuplicateKeyError):
            await things.insert_one({"city": b"a", "round": 1})
        assert await things.count_documents({}) == 1


def test_each_test_has_a_database_of_its_own(
    mongodb_database: str, mongodb_client: MongoClient[dict[str, Any]]
) -> None:
    assert mongodb_client[mongodb_database].list_collection_names() == []
    assert mongodb_database not in mongodb_client.list_database_names()


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    server = StandIn(tmp_path)
    yield server
    server.remove()


def test_what_was_written_durably_survives_a_kill(stand_in: StandIn) -> None:
    with MongoClient[dict[str, Any]](stand_in.uri) as client:
        client.a.b.with_options(write_concern=DURABLE).insert_one({"_id": 1})
        stand_in.stop()
        stand_in.start()
        assert client.a.b.find_one() == {"_id": 1}


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no directory")
    with pytest.raises(RuntimeError, match=r"did not start:\n(.|\n)*data"):
        StandIn(tmp_path)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes in /proc")
def test_it_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    statements = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from mongodb.stand_in import StandIn
server = StandIn(Path({str(tmp_path)!r}))
print(server._process.pid, server._guard.pid, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", statements], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.communicate()
    assert len(pids) == 2
    for pid in pids:
        wait_for_end(pid)


def test_what_needs_a_real_mongod_says_so(request: pytest.FixtureRequest) -> None:
    if VARIABLE in os.environ:
        pytest.skip("there may be one")
    with pytest.raises(pytest.skip.Exception, match="needs a real mongod: set MONGODB_URI"):
        request.getfixturevalue("on_real_mongod")
