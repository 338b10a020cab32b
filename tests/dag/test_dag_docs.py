"""`docs/how-to/dag.md` is true: its rules pass the suite, and its test files run."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from citychain.hooks.definitions import DagDefinition
from citychain.testing.conformance import DagSuite

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "dag.md"
[SETTINGS] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
BLOCKS = {
    name: text
    for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name in re.findall(r"\A# (\w+)\.py\n", text)
}
"""Source by the name of its module."""


def rule_of(name: str) -> DagDefinition:
    """The rule of a module of the page."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(BLOCKS[name], f"{PAGE}:{name}", "exec"), vars(module))
    [definition] = module.citychain_dag_handlers()
    return definition


RULES = {name: rule_of(name) for name in BLOCKS if name.startswith("nara_")}


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
    assert len(re.findall("```python", PAGE.read_text())) == len(BLOCKS)
    assert RULES.keys() == {"nara_notes", "nara_spine", "nara_payments", "nara_chain"}
    assert all(definition.api_version == 2 for definition in RULES.values())


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("test_")])
def test_a_test_file_of_the_page_runs(
    pytester: pytest.Pytester, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(pytester.path)
    pytester.makepyprojecttoml(SETTINGS)
    modules = {module: BLOCKS[module] for module in RULES}
    pytester.makepyfile(**modules, **{name: BLOCKS[name]})
    few = "ordinary or replay or refusals or spends"
    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider", f"{name}.py", "-k", few)
    ran.assert_outcomes(passed=4, deselected=ran.parseoutcomes()["deselected"])


def test_the_page_names_every_test_and_no_other() -> None:
    named = re.findall(r"^\| `(test_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    standard = [name for name, _ in inspect.getmembers(DagSuite) if name.startswith("test_")]
    assert sorted(named) == sorted(standard)


def test_the_page_names_every_fixture_that_is_for_overriding() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert {"definition", "options", "traffic", "authors"} <= named
    assert all(hasattr(DagSuite, name) for name in named)
