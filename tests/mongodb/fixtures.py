"""A MongoDB server for tests, and a fresh database in it.

With MONGODB_URI in the environment it is that server; else a `StandIn`, one for each worker of
xdist that needs it: it starts in 0.3 s, takes 60 MB, and its fail points are then one test's own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from mongodb.stand_in import StandIn

if TYPE_CHECKING:
    from mongodb.fail_points import FailPoint
    from mongodb.mongo_proxy import MongoProxy
    from pymongo import MongoClient

VARIABLE: Final = "MONGODB_URI"
STAND_IN: Final = pytest.StashKey[StandIn]()


@pytest.fixture(scope="session")
def mongodb_uri(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The server's URI, without a database."""
    if uri := os.environ.get(VARIABLE):
        yield uri
        return
    server = StandIn(tmp_path_factory.mktemp("mongodb"))
    request.session.stash[STAND_IN] = server
    try:
        yield server.uri
    finally:
        server.remove()


@pytest.fixture(scope="session")
def mongodb_client(mongodb_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client that blocks, for what a test looks at or prepares by itself."""
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client


@pytest.fixture
def mongodb_database(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """The name of a database of the test's own, dropped after it."""
    name = f"citychain-test-{secrets.token_hex(8)}"
    yield name
    mongodb_client.drop_database(name)


@pytest.fixture
async def mongodb_proxy(
    mongodb_client: MongoClient[dict[str, Any]],
) -> AsyncIterator[MongoProxy]:
    """A network of the test's own before the server: `through` leads a URI there."""
    from mongodb.mongo_proxy import MongoProxy, primary

    async with MongoProxy(primary(mongodb_client)) as proxy:
        yield proxy


@pytest.fixture
def fail_point(
    mongodb_client: MongoClient[dict[str, Any]], mongodb_database: str
) -> Iterator[FailPoint]:
    """Errors of the server, for clients whose ``appName`` is the test's database."""
    from mongodb.fail_points import FailPoint

    point = FailPoint(mongodb_client, mongodb_database)
    yield point
    point.off()


@pytest.fixture(scope="session")
def is_real_mongod(mongodb_client: MongoClient[dict[str, Any]]) -> bool:
    """Whether the server is MongoDB itself."""
    return "secantusVersion" not in mongodb_client.admin.command("buildInfo")


@pytest.fixture
def on_real_mongod(is_real_mongod: bool) -> None:
    """Skips the test where there is but a stand-in."""
    if not is_real_mongod:
        pytest.skip(f"needs a real mongod: set {VARIABLE}")


@pytest.hookimpl(tryfirst=True)  # Before tests are chosen by their markers.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let ``-m mongodb`` choose all tests that use the server."""
    for item in items:
        if "mongodb_uri" in getattr(item, "fixturenames", ()):
            item.add_marker("mongodb")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show what the stand-in said beside a failure of a test that used it."""
    report: Any = yield
    server = item.session.stash.get(STAND_IN, None)
    if server and report.failed and "mongodb_uri" in getattr(item, "fixturenames", ()):
        report.sections.append(("SecantusDB's output", server.said))
    return report
