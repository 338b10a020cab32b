"""The storage: what every storage backend must do, and what this one finds again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from citychain_otsu.storage import STORAGE

from citychain import State, StorageDefinition
from citychain.testing.conformance import StorageSuite
from citychain.testing.server import CityClientFactory, TransactionFactory


class TestStorage(StorageSuite):
    @pytest.fixture
    def definition(self) -> StorageDefinition:
        return STORAGE


def calls_in(directory: Path) -> set[str]:
    """The calls that the file has, as another program reads it."""
    [file] = directory.rglob("shelf.db")
    with closing(sqlite3.connect(file)) as database:
        return {call for (call,) in database.execute("SELECT call FROM writes")}


async def test_what_was_approved_is_found_again(
    city_client: CityClientFactory, signed_transactions: TransactionFactory, tmp_path: Path
) -> None:
    cities = {"testtown": {"storage": STORAGE.name}}
    async with city_client("testtown", cities=cities, directory=tmp_path) as city:
        [hello] = await signed_transactions(city, data=b"hello")
        await city.submit([hello])
        await city.wait([hello.tx_id])
    assert {"city", "append", "commit", "certify"} <= calls_in(tmp_path)
    async with city_client("testtown", cities=cities, directory=tmp_path) as city:
        status = await city.status([hello.tx_id])
        assert status[hello.tx_id].state is State.APPROVED
