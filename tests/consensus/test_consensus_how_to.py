"""`docs/how-to/consensus.md` is true: its steps pass the suite, and its test files run."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from citychain.hooks.definitions import ConsensusDefinition
from citychain.testing.conformance import ConsensusSuite

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "consensus.md"
[SETTINGS] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
BLOCKS = {
    name: text
    for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name in re.findall(r"\A# (\w+)\.py\n", text)
}
"""Source by the name of its module."""


def step_of(name: str) -> ConsensusDefinition:
    """The step of a module of the page."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(BLOCKS[name], f"{PAGE}:{name}", "exec"), vars(module))
    [definition] = module.citychain_consensus_steps()
    return definition


STEPS = {name: step_of(name) for name in BLOCKS if name.startswith("nara_")}


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
    assert len(re.findall("```python", PAGE.read_text())) == len(BLOCKS)
    assert STEPS.keys() == {"nara_curfew", "nara_patience", "nara_turns", "nara_notary"}
    assert all(definition.api_version == 2 for definition in STEPS.values())


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("test_")])
def test_a_test_file_of_the_page_runs(
    pytester: pytest.Pytester, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(pytester.path)
    pytester.makepyprojecttoml(SETTINGS)
    modules = {module: BLOCKS[module] for module in STEPS}
    pytester.makepyfile(**modules, **{name: BLOCKS[name]})
    few = "layout or replay or certificates_verify or counts_once"
    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider", f"{name}.py", "-k", few)
    ran.assert_outcomes(passed=4, deselected=ran.parseoutcomes()["deselected"])


def test_the_page_names_every_test_and_no_other() -> None:
    named = re.findall(r"^\| `(test_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    standard = [name for name, _ in inspect.getmembers(ConsensusSuite) if name.startswith("test_")]
    assert sorted(named) == sorted(standard)


def test_the_page_names_every_fixture_that_is_for_overriding() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|", text, re.MULTILINE))
    fixtures = {name for name in named if hasattr(ConsensusSuite, name)}
    assert fixtures >= {"definition", "options", "committee", "representatives", "traffic"}
    assert fixtures >= {"authors", "batches", "codes"}
