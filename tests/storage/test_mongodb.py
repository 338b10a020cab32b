"""The MongoDB backend passes the suite."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mongodb.fixtures import VARIABLE

from citychain.hooks.definitions import StorageDefinition
from citychain.storage.builtin import citychain_storage_backends
from citychain.testing.conformance import StorageSuite
from citychain.testing.conformance._elsewhere import Elsewhere

if TYPE_CHECKING:
    from pymongo import MongoClient


class TestMongodbStorage(StorageSuite):
    big_batch = 1_000  # A stand-in for MongoDB needs milliseconds for each write.

    @pytest.fixture
    def definition(self) -> StorageDefinition:
        [mongodb] = [d for d in citychain_storage_backends() if d.name == "mongodb"]
        return mongodb

    @pytest.fixture
    def options(
        self,
        mongodb_uri: str,
        mongodb_client: MongoClient[dict[str, Any]],
        storage_directory: Path,
        elsewhere: Elsewhere,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[Mapping[str, Any]]:
        # A process that this test starts goes to the same server, and the same database.
        monkeypatch.setenv(VARIABLE, mongodb_uri)
        name = hashlib.sha256(bytes(storage_directory)).hexdigest()[:16]
        database = f"citychain-test-{name}"
        # A stand-in on a busy machine takes longer for much than MongoDB has.
        yield {"uri": mongodb_uri, "database": database, "timeout_seconds": 120}
        if elsewhere.place is None:
            mongodb_client.drop_database(database)
