"""What the conformance suites say to an author who has not set them up."""

from __future__ import annotations

import sys

import pytest

import citychain._native  # noqa: F401 - the runs within forget what they import

pytest_plugins = ["pytester"]

NAMED = """
from citychain.storage.builtin import citychain_storage_backends
from citychain.testing.conformance import StorageSuite
import pytest

class TestMine(StorageSuite):
    @pytest.fixture
    def definition(self):
        return [d for d in citychain_storage_backends() if d.name == "memory"][0]
"""

UNNAMED = """
from citychain.testing.conformance import StorageSuite

class TestMine(StorageSuite):
    pass
"""

WITH_OPTIONS = f"""{NAMED}
    @pytest.fixture
    def options(self):
        return {{"colour": "red"}}
"""

REPLACED = f"""{NAMED}
    async def test_a_new_city_is_empty(self):
        pass
"""

SOMETIMES = f"""{NAMED}
    @pytest.mark.xfail(False, reason="never")
    async def test_a_new_city_is_empty(self):
        pass
"""

CHANGED_LATER = f"""{NAMED}
TestMine.test_a_new_city_is_empty = lambda self: None
"""

LOOSE = f"""
class Loose:
    def __init_subclass__(cls, **kwargs):
        pass
{NAMED.replace("(StorageSuite)", "(Loose, StorageSuite)")}
    def test_a_new_city_is_empty(self):
        pass
"""

NO_KILLS = f"""{NAMED}
    kills = 0
"""

KNOWN_GAP = f"""{NAMED}
    @pytest.mark.xfail(reason="it is never empty")
    async def test_a_new_city_is_empty(self, session):
        await super().test_a_new_city_is_empty(session)
        raise AssertionError
"""

SIGNER_ELSEWHERE = """
import asyncio
import pytest
from citychain import ConsensusDefinition
from citychain.consensus.poh_pop import PohPop, PohPopOptions
from citychain.testing.conformance import ConsensusSuite

class AsksASigner(PohPop):
    async def approve(self, round):
        await asyncio.sleep(0.01)
        return await super().approve(round)

class TestMine(ConsensusSuite):
    examples = 2

    @pytest.fixture
    def definition(self):
        return ConsensusDefinition("mine", AsksASigner, PohPopOptions, api_version=2)
"""


@pytest.fixture(autouse=True)
def loops_of_functions(pytester: pytest.Pytester) -> None:
    """Without it pytest-asyncio warns of what will change."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")


@pytest.mark.parametrize(
    ("test", "mode", "said"),
    [
        (UNNAMED, "auto", "*TestMine does not say which part it tests: override the fixture*"),
        (NAMED, "strict", "*write asyncio_mode = ?auto? under *"),
        (WITH_OPTIONS, "auto", "*override the fixture `options`*"),
        (REPLACED, "auto", "*TestMine replaces the standard test test_a_new_city_is_empty*"),
        (SOMETIMES, "auto", "*TestMine replaces the standard test test_a_new_city_is_empty*"),
        (CHANGED_LATER, "auto", "*TestMine replaces the standard test test_a_new_city_is_empty*"),
        (LOOSE, "auto", "*TestMine replaces the standard test test_a_new_city_is_empty*"),
        (NO_KILLS, "auto", "*TestMine.kills is 0: a size is a number from 1 on*"),
    ],
    ids=[
        *("no part", "strict mode", "unknown options", "replaced test", "sometimes a gap"),
        *("changed later", "loose mixin", "no kills"),
    ],
)
def test_what_is_missing_is_told_in_a_line(
    pytester: pytest.Pytester, test: str, mode: str, said: str
) -> None:
    pytester.makepyfile(test)
    result = pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "-k", "new_city_is_empty", f"--asyncio-mode={mode}")
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])


def test_a_known_gap_is_shown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(KNOWN_GAP)
    result = pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "-rx", "-k", "new_city_is_empty", "--asyncio-mode=auto")
    )
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*it is never empty*"])


@pytest.mark.parametrize(
    "test",
    ["test_certificates_verify", "test_votes_count_before_approve_is_called"],
)
def test_a_step_may_wait_for_something_outside(pytester: pytest.Pytester, test: str) -> None:
    pytester.makepyfile(SIGNER_ELSEWHERE)
    result = pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "-k", test, "--asyncio-mode=auto")
    )
    result.assert_outcomes(passed=1)


ELSEWHERE = """
import asyncio
import os
import pytest
from citychain.testing.conformance._suite import Suite

@pytest.mark.xdist_group("one")
class TestMine(Suite):
    @pytest.mark.parametrize("value", ["a::b [c] ü"])
    def test_it(self, elsewhere, request, url, value):
        elsewhere.agrees(url + os.getcwd())

    async def test_it_too(self, elsewhere, url, tmp_path):
        if elsewhere.place is not None:
            elsewhere.place.write_text(url)
        else:
            os.chdir(tmp_path)
            assert await elsewhere.result(tmp_path / "result") == url == "x://y"
"""

OPTION = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--db-url")

@pytest.fixture
def url(request):
    return request.config.getoption("--db-url")
"""


@pytest.mark.parametrize("workers", [(), ("-n1", "--dist=loadgroup")], ids=["alone", "xdist"])
def test_another_process_is_started_as_the_first_was(
    pytester: pytest.Pytester, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini(
        "[pytest]\naddopts = -p more --ff --junitxml=report.xml -m 'not slow'\n"
        "markers =\n    slow: not run\n    xdist_group: of tests\n"
        "asyncio_default_fixture_loop_scope = function"
    )
    pytester.makepyfile(more=OPTION)
    test = pytester.makepyfile(test_mine=ELSEWHERE)
    monkeypatch.syspath_prepend(pytester.path)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=":")
    (pytester.path / "below").mkdir()
    monkeypatch.chdir(pytester.path / "below")
    result = pytester.run(
        *(sys.executable, "-m", "pytest", f"../{test.name}"),
        *("--asyncio-mode=auto", "--db-url", "x://y", "-k", "mine", *workers),
    )
    result.assert_outcomes(passed=2)
