"""`docs/how-to/dag.md` is true: its rules pass the suite, and its test files run."""

from __future__ import annotations

import re

import pytest
from how_to import Page

from citychain.hooks.definitions import DagDefinition
from citychain.testing.conformance import DagSuite

pytest_plugins = ["pytester"]

PAGE = Page("dag.md")
RULES: dict[str, DagDefinition] = {}
for name, module in PAGE.parts().items():
    [RULES[name]] = module.citychain_dag_handlers()


class Smaller(DagSuite):
    big_batch = 5_000
    examples = 10


class TestNotes(Smaller):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["nara_notes"]


class TestSpine(Smaller):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["nara_spine"]


class TestPaymentsFirst(Smaller):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["nara_payments"]


class TestChain(Smaller):
    @pytest.fixture
    def definition(self) -> DagDefinition:
        return RULES["nara_chain"]


def test_every_rule_of_the_page_is_tested_here() -> None:
    assert RULES.keys() == {"nara_notes", "nara_spine", "nara_payments", "nara_chain"}
    assert all(definition.api_version == 2 for definition in RULES.values())


@pytest.mark.parametrize("name", PAGE.tests)
def test_a_test_file_of_the_page_runs(
    pytester: pytest.Pytester, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(pytester.path)
    few = "ordinary or replay or refusals or spends"
    assert PAGE.run(pytester, name, few) == {"passed": 4}


def test_the_page_names_every_test_and_no_other() -> None:
    PAGE.check_tests_of(DagSuite)


def test_the_page_names_every_fixture_that_is_for_overriding() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE.text, re.MULTILINE))
    assert {"definition", "options", "traffic", "authors"} <= named
    assert all(hasattr(DagSuite, name) for name in named)
