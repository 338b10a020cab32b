"""The MongoDB that benches measure: the one of MONGODB_URI, else the stand-in of our tests."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pymongo import MongoClient

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mongodb.stand_in import StandIn

VARIABLE = "MONGODB_URI"


class Database(NamedTuple):
    """A database of a bench's own."""

    uri: str
    name: str
    kind: str
    """What serves it, for whoever reads the figures."""


@contextmanager
def database() -> Iterator[Database]:
    """A new one, which is gone after it; others whose names begin with its own are, too."""
    name = f"citychain-bench-{secrets.token_hex(6)}"
    if uri := os.environ.get(VARIABLE):
        try:
            yield Database(uri, name, f"of {VARIABLE}")
        finally:
            with MongoClient[dict[str, object]](uri) as client:
                for found in client.list_database_names():
                    if found.startswith(name):
                        client.drop_database(found)
        return
    with tempfile.TemporaryDirectory(prefix="citychain-bench-") as directory:
        server = StandIn(Path(directory))
        try:
            yield Database(server.uri, name, "SecantusDB, a stand-in for MongoDB")
        finally:
            server.remove()
