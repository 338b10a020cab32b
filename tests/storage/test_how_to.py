"""docs/how-to/storage.md shows what new-plugin writes, and tests that pass."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

import pytest

from citychain.cli.new_plugin.files import Kind, plugin_files
from citychain.storage.memory import MemoryCity
from citychain.testing.conformance import StorageSuite

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[2] / "docs/how-to/storage.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FILES = plugin_files("harbour", [Kind.STORAGE])
TESTS = [text for language, text in BLOCKS if "StorageSuite" in text]
PIECES = [text for language, text in BLOCKS if language in ("python", "toml") and text not in TESTS]


@pytest.mark.parametrize("piece", PIECES, ids=[piece.partition("\n")[0] for piece in PIECES])
def test_a_piece_is_of_the_plugin_that_new_plugin_writes(piece: str) -> None:
    """Whose tests run it: tests/cli/test_new_plugin.py."""
    if "pytest.ini_options" in piece:
        table, setting, *_ = piece.splitlines()
        text = FILES["pyproject.toml"]
        assert text.index(table) < text.index(setting)
        return
    forms = (piece, indent(piece, "    ", lambda line: line != "\n"))
    assert any(form in text for text in FILES.values() for form in forms)


@pytest.mark.parametrize("number", range(len(TESTS)))
def test_a_test_file_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for path, text in FILES.items():
        if path.startswith(("src/", "pyproject")):
            file = pytester.path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    test = pytester.makepyfile(test_storage=TESTS[number])
    # The whole suite runs elsewhere; here is to be seen that the file is right.
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-o", f"pythonpath={pytester.path / 'src'}", test),
        *("-k", "notes or note or cancelled"),
    )
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes()["passed"] > 10
    assert result.parseoutcomes().get("xpassed", 0) == number


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 10
    assert {name for name in named if not hasattr(StorageSuite, name)} == set()


def test_every_group_of_tests_has_its_row() -> None:
    """A class of tests shows itself by a test that the page names."""
    named = re.findall(r"`(test_\w+)`", PAGE)
    groups = [group for group in StorageSuite.__mro__ if group.__name__.endswith("Tests")]
    without = {group.__name__ for group in groups if not any(n in vars(group) for n in named)}
    assert len(groups) > 5
    assert without == set()


def test_every_method_of_the_port_is_told() -> None:
    methods = [name for name in vars(MemoryCity) if not name.startswith("_")]
    assert [name for name in methods if not re.search(rf"`{name}\b", PAGE)] == []
