"""What the conformance suites say to an author who has not set them up."""

from __future__ import annotations

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
    ],
    ids=["no part", "strict mode", "unknown options", "replaced test"],
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
