"""`docs/how-to/consensus.md` is true: its steps pass the suite, and its test files run."""

from __future__ import annotations

import re

import pytest
from how_to import Page

from citychain.hooks.definitions import ConsensusDefinition
from citychain.testing.conformance import ConsensusSuite

pytest_plugins = ["pytester"]

PAGE = Page("consensus.md")
STEPS: dict[str, ConsensusDefinition] = {}
for name, module in PAGE.parts().items():
    [STEPS[name]] = module.citychain_consensus_steps()


class Smaller(ConsensusSuite):
    rounds = 7
    big_batch = 5_000
    many_votes = 1_000
    examples = 5


class TestCurfew(Smaller):
    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        return STEPS["nara_curfew"]

    @pytest.fixture
    def codes(self) -> list[str]:
        return ["CLOSED"]


class TestPatience(Smaller):
    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        return STEPS["nara_patience"]

    @pytest.fixture
    def codes(self) -> list[str]:
        return ["RESTING"]


class TestTurns(Smaller):
    rounds = 20

    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        return STEPS["nara_turns"]


class TestNotary(Smaller):
    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        return STEPS["nara_notary"]


def test_every_step_of_the_page_is_tested_here() -> None:
    assert STEPS.keys() == {"nara_curfew", "nara_patience", "nara_turns", "nara_notary"}
    assert all(definition.api_version == 2 for definition in STEPS.values())


@pytest.mark.parametrize("name", PAGE.tests)
def test_a_test_file_of_the_page_runs(
    pytester: pytest.Pytester, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(pytester.path)
    few = "layout or replay or certificates_verify or counts_once"
    assert PAGE.run(pytester, name, few) == {"passed": 4}


def test_the_page_names_every_test_and_no_other() -> None:
    PAGE.check_tests_of(ConsensusSuite)


def test_the_page_names_every_fixture_that_is_for_overriding() -> None:
    named = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|", PAGE.text, re.MULTILINE))
    fixtures = {name for name in named if hasattr(ConsensusSuite, name)}
    assert fixtures >= {"definition", "options", "committee", "representatives", "traffic"}
    assert fixtures >= {"authors", "batches", "codes"}
