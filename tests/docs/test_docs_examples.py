"""The examples of the documentation are true: each block of code is run, read, or parsed.

Pages whose examples need more than themselves have tests of their own, named in `OWN_TESTS`; the
others' blocks are run here.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from docs.markdown import DOCS, TREE, Block, blocks, pages, spans
from docs.shell import command_lines, fault, own_commands, unknown_words
from typer.testing import CliRunner

from citychain.cli.app import app
from citychain.client.keys import save_public_key
from citychain.config import load_settings
from citychain.crypto.signatures import SigningKey

OWN_TESTS = {
    "README.md": "tests/test_readme.py",
    "docs/how-to/city.md": "tests/city/test_city_docs.py",
    "docs/testing.md": "tests/testing/test_recipes.py",
    "docs/how-to/consensus.md": "tests/consensus/test_consensus_how_to.py",
    "docs/how-to/dag.md": "tests/dag/test_dag_docs.py",
    "docs/how-to/fragments.md": "tests/fragments/test_fragments_how_to.py",
    "docs/security.md": "tests/cli/test_cli_tls.py",
    "docs/how-to/storage.md": "tests/storage/test_how_to.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
}
"""Pages whose Python another test runs."""

LANGUAGES = {
    "python", "sh", "toml", "ini", "json", "proto", "diff", "text", "{eval-rst}", "{toctree}", "",
}  # fmt: skip
"""What a block may be of. One without a language is a layout, or what a command prints."""

PROJECT = {"build-system", "project", "tool", "dependency-groups"}
"""Tables of a pyproject.toml."""


def has_own_test(block: Block) -> bool:
    return block.page.relative_to(TREE).as_posix() in OWN_TESTS


def test_the_tests_of_pages_read_them() -> None:
    for page, test in OWN_TESTS.items():
        assert (TREE / page).exists()
        text = (TREE / test).read_text()
        assert Path(page).name in text, f"{test} does not read {page}"


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_a_block_is_of_a_language_that_is_looked_at(block: Block) -> None:
    assert block.language in LANGUAGES
    if not block.language:
        lines = block.text.splitlines()
        assert not [it for it in lines if it.startswith("citychain ")], "say sh"


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    # The reference shows signatures, which nothing but a reader can use.
    if not has_own_test(block) and block.page.parent != DOCS / "reference":
        monkeypatch.chdir(tmp_path)
        exec(code, {"__name__": "example"})


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_a_command_line_is_one_that_the_command_takes(block: Block) -> None:
    for words in command_lines(block.text):
        assert fault(words) == "", " ".join(words)


@pytest.mark.parametrize("block", blocks(""), ids=str)
def test_a_command_line_above_what_it_prints_is_one_too(block: Block) -> None:
    typed = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    for words in command_lines("\n".join(typed)):
        assert fault(words) == "", " ".join(words)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(TREE).as_posix())
def test_a_command_in_a_sentence_exists(page: Path) -> None:
    for span in spans(page):
        if span.startswith("citychain ") and page.name != "CHANGELOG.md":
            for words in command_lines(span):
                assert unknown_words(words) == [], span


@pytest.mark.parametrize("name", [name for name in own_commands() if name])
def test_the_examples_of_a_commands_help_are_ones_that_it_takes(name: str) -> None:
    _, _, examples = (own_commands()[name].help or "").partition("Examples:")
    for words in command_lines(examples.replace("    citychain", "citychain")):
        assert fault(words) == "", " ".join(words)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_is_settings_or_a_project(block: Block, tmp_path: Path) -> None:
    tables = tomllib.loads(block.text)
    if tables.keys() & PROJECT:
        assert tables.keys() <= PROJECT
        return
    for number, name in enumerate(re.findall(r'"(\w+\.pub)"', block.text)):
        save_public_key(tmp_path / name, SigningKey(bytes([number]) * 32).public_key)
    (tmp_path / "citychain.toml").write_text(block.text)
    load_settings(tmp_path / "citychain.toml", environment={})


def test_json_is_json() -> None:
    for block in blocks("json"):
        assert json.loads(block.text), str(block)


# --- the tests above see what is wrong


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("citychain submit --city a --key b --data c --wait sealed", ""),
        ("citychain --debug submit --city a --key b  # why", ""),
        ("A=1 citychain cities > out.txt &", ""),
        ("citychain election show --city a --epoch 3", ""),
        ("citychain cities import map.geojson --code-property code", ""),
        ("citychain sbumit --city a", "there is no command sbumit"),
        ("citychain election", "there is no such command"),
        ("citychain submit --city a --key b --colour red", "No such option: --colour"),
        ("citychain submit --city a", "--key is missing"),
        ("citychain get --city a", "tx_id is missing"),
        ("citychain submit --city a --key b --wait forever", "forever"),
        ("citychain cities a b", "unexpected: b"),
        ("for n in a; do citychain keygen; done", "path is missing"),
        ("true && citychain keygen \\\n   --publik a b", "No such option: --publik"),
    ],
)
def test_a_wrong_command_line_is_seen(line: str, said: str) -> None:
    [words] = command_lines(line)
    try:
        found = fault(words)
    except LookupError as error:
        found = str(error)
    assert said in found
    assert bool(said) == bool(found)


def test_a_wrong_command_in_a_sentence_is_seen() -> None:
    def unknown(line: str) -> list[str]:
        return [it for words in command_lines(line) for it in unknown_words(words)]

    assert unknown("citychain submit --city 奈良 …") == []
    assert unknown("citychain COMMAND --help") == []
    assert unknown("citychain recovr") == ["recovr"]
    assert unknown("citychain recover --cities x") == ["--cities"]


def test_the_command_itself_agrees() -> None:
    """What is called wrong here is refused by the command too."""
    runner = CliRunner()
    for line in ("submit --city a --key b --colour red", "submit --city a", "cities a b"):
        result: Any = runner.invoke(app, line.split())
        assert result.exit_code == 2, line
