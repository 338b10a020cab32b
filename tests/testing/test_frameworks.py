"""The fixtures under each way to run asynchronous tests, in throwaway projects."""

from __future__ import annotations

import pytest

from citychain.errors import ConfigurationError
from citychain.testing.server import CityServerFactory

pytest_plugins = ["pytester"]

BODY = """
from citychain.testing import FailingStorage, Recording


{mark}
async def test_a_city(city_client, signed_transactions):
    async with city_client("nara") as city:
        [transaction] = await signed_transactions(city)
        await city.submit([transaction])
        await city.wait([transaction.tx_id])


{mark}
async def test_an_override(city_server, signed_transactions):
    failing, recording = FailingStorage("commit", times=1), Recording()
    overrides = {{"nara": {{"storage": failing, "dag": recording}}}}
    async with city_server(overrides=overrides) as server, server.client("nara") as city:
        [transaction] = await signed_transactions(city)
        await city.submit([transaction])
        await city.wait([transaction.tx_id])
    assert failing.calls["commit"] == 2
    assert "decide" in recording.calls
"""

IMPORT = "import pytest\n"
ANYIO_BACKEND = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
STRICT = "@pytest.mark.asyncio"
ANYIO = "@pytest.mark.anyio"
SCOPE = "asyncio_default_fixture_loop_scope = function\n"

PROJECTS = {
    "asyncio auto": (f"{SCOPE}asyncio_mode = auto", "", "", ()),
    "asyncio strict": (f"{SCOPE}asyncio_mode = strict", IMPORT, STRICT, ()),
    "anyio": ("", IMPORT + ANYIO_BACKEND, ANYIO, ("-p", "no:asyncio")),
    "anyio beside asyncio strict": (SCOPE, IMPORT + ANYIO_BACKEND, ANYIO, ()),
    "anyio auto": ("anyio_mode = auto", IMPORT + ANYIO_BACKEND, "", ("-p", "no:asyncio")),
    "xdist": (f"{SCOPE}asyncio_mode = auto", "", "", ("-n", "2")),
}
"""Settings of pytest, the top of the test's file, the mark of its tests, arguments."""


@pytest.mark.parametrize("project", [*PROJECTS])
def test_the_fixtures_work(pytester: pytest.Pytester, project: str) -> None:
    settings, top, mark, arguments = PROJECTS[project]
    pytester.makeini(f"[pytest]\n{settings}\n")
    pytester.makepyfile(top + BODY.format(mark=mark))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *arguments)
    result.assert_outcomes(passed=2)


def test_another_event_loop_than_asyncios_is_told(city_server: CityServerFactory) -> None:
    entering = city_server(["nara"]).__aenter__()
    with pytest.raises(ConfigurationError, match='anyio_backend return "asyncio"'):
        entering.send(None)  # type: ignore[attr-defined]
