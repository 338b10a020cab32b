"""A whole city on MongoDB passes the suite, with several servers at once too."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from citychain.hooks.definitions import CityDefinition
from citychain.testing.conformance import CitySuite

if TYPE_CHECKING:
    from pymongo import MongoClient


class TestOnMongodb(CitySuite):
    many = 100  # A stand-in for MongoDB needs milliseconds for each write.
    examples = 2

    @pytest.fixture
    def definition(self) -> CityDefinition:
        return CityDefinition("harbour", storage="engine")

    @pytest.fixture
    def settings(
        self, mongodb_uri: str, mongodb_client: MongoClient[dict[str, Any]]
    ) -> Iterator[Mapping[str, Any]]:
        database = f"citychain-test-{secrets.token_hex(8)}"
        engine = {"backend": "mongodb", "uri": mongodb_uri, "database": database}
        yield {"storage": {"engine": engine}}
        mongodb_client.drop_database(database)
