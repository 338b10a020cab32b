"""docs/how-to/fragments.md shows a plugin that works, and tests that pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hooks.throwaway import Site

from citychain.testing.conformance import FragmentStoreSuite

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[2] / "docs/how-to/fragments.md").read_text("utf-8")
PLUGIN, TESTS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_plugin_offers_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    site.install("shelf", PLUGIN, preamble="")
    registry = site.load()
    assert [record.reason for record in registry.records] == [""]
    assert registry.fragment_store("shelf").name == "shelf"


def test_the_test_file_passes(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    test = pytester.makepyfile(test_shelf=TESTS)
    # The whole suite runs elsewhere; here is to be seen that the file is right.
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", test, "-k", "put")
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes()["passed"] > 5


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 5
    assert {name for name in named if not hasattr(FragmentStoreSuite, name)} == set()


def test_every_group_of_tests_has_its_row() -> None:
    named = re.findall(r"`(test_\w+)`", PAGE)
    groups = [group for group in FragmentStoreSuite.__mro__ if group.__name__.endswith("Tests")]
    without = {group.__name__ for group in groups if not any(n in vars(group) for n in named)}
    assert len(groups) > 3
    assert without == set()
