"""What the documentation takes from the code is as the code says: ``python docs/generate.py``."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from docs.markdown import blocks
from generate import DOCS, generated, obsolete
from pages import commands as commands_pages
from pages import settings as settings_pages
from pages.commands import OF_ALL, own_commands
from pages.reference import INTERNAL, PUBLIC, public_modules
from pydantic import BaseModel

import citychain
from citychain import client, errors, testing
from citychain.config import Settings, load_settings
from citychain.config_tables import duration_text
from citychain.hooks import specs
from citychain.rpc.status import ERRORS

STUBS = {
    (block.page.stem, node.name): node
    for block in blocks("python")
    if block.page.parent.name == "reference"
    for node in ast.parse(block.text).body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
}
"""Definitions that the reference shows, by page and name."""


@pytest.mark.parametrize("page", generated(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_generated_text_is_as_the_code_says(page: Path) -> None:
    assert page.exists(), "run: python docs/generate.py"
    assert page.read_text("utf-8") == generated()[page](), "run: python docs/generate.py"


def test_no_page_is_left_over() -> None:
    assert obsolete() == set(), "run: python docs/generate.py"


# --- names


def test_every_hook_is_documented_with_its_signature() -> None:
    text = (DOCS / "hooks.md").read_text("utf-8")
    shown = re.findall(r"^## (\w+)\n\n```python\ndef (\w+)(.*): \.\.\.\n```$", text, re.MULTILINE)
    hooks = {name: fn for name, fn in vars(specs).items() if name.startswith("citychain_")}
    assert [name for name, *_ in shown] == list(hooks)
    for heading, name, signature in shown:
        assert heading == name
        assert signature == str(inspect.signature(hooks[name])).replace("'", "")


@pytest.mark.parametrize("package", [citychain, client, testing, testing.conformance])
def test_every_name_that_a_package_offers_is_on_its_page(package: Any) -> None:
    text = (DOCS / "reference" / f"{package.__name__}.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \| \[", text, re.MULTILINE))
    stubs = {name for page, name in STUBS if page == package.__name__}
    assert rows | stubs == set(package.__all__)


@pytest.mark.parametrize("name", public_modules())
def test_every_public_name_is_shown_with_its_parameters(name: str) -> None:
    text = (DOCS / "reference" / f"{name}.md").read_text("utf-8")
    module = import_module(name)
    for public in module.__all__:
        assert re.search(rf"\b{public}\b", text), public
        stub = STUBS.get((name, public))
        value = getattr(module, public)
        if isinstance(stub, ast.FunctionDef | ast.AsyncFunctionDef) and inspect.isfunction(value):
            assert parameters_of(stub) == list(inspect.signature(value).parameters), public
        elif isinstance(stub, ast.ClassDef):
            for method in methods(value):
                shown = [it for it in stub.body if getattr(it, "name", "") == method.__name__]
                assert shown, f"{public}.{method.__name__}"
                expected = list(inspect.signature(method).parameters)
                assert parameters_of(shown[-1]) == expected, f"{public}.{method.__name__}"


def methods(owner: type) -> list[Any]:
    """Public methods that a class defines itself, in Python."""
    return [
        it
        for name, it in vars(owner).items()
        if inspect.isfunction(it) and name[0] != "_" and it.__module__ == owner.__module__
    ]


def parameters_of(stub: Any) -> list[str]:
    it = stub.args
    every = [*it.posonlyargs, *it.args, it.vararg, *it.kwonlyargs, it.kwarg]
    return [one.arg for one in every if one]


def test_a_module_is_public_or_internal_for_a_reason() -> None:
    """A new module beside public ones is documented or named in ``INTERNAL``."""
    starred = [it[:-1] for patterns in PUBLIC.values() for it in patterns if it[-1] == "*"]
    found = set()
    for name in starred:
        for it in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
            if not any(part.startswith("_") for part in it.name.split(".")):
                found.add(it.name)
    assert found - public_modules().keys() == set(INTERNAL)


# --- settings


def test_every_variable_sets_its_setting_and_every_default_is_one() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    # There is no [server.tls] by default: the test below has its variables.
    variables = r"CITYCHAIN_(?!SERVER__TLS__)\w+"
    rows = re.findall(rf"^\| `(\w+)` \| `({variables})` \| (.*?) ?\|", text, re.MULTILINE)
    assert len(rows) > 15
    for name, variable, default in rows:
        path = variable.removeprefix("CITYCHAIN_").lower().split("__")
        assert path[-1] == name
        told = default.strip('`"').replace(",", "")
        for environment in [{}, {variable: told}]:
            found: Any = load_settings(environment=environment)
            for key in path:
                assert key in type(found).model_fields
                found = getattr(found, key)
            shown = duration_text(found) if isinstance(found, timedelta) else str(found)
            shown = shown.lower() if isinstance(found, bool) else shown
            assert shown == told or (not told and not found), variable


def test_the_variables_of_a_table_in_a_table_set_it(tmp_path: Path) -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    section = text.partition("### `[server.tls]`")[2].partition("###")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section, re.MULTILINE)
    tls = load_settings(
        environment={variable: str(tmp_path / name) for name, variable in rows}
    ).server.tls
    assert tls is not None
    assert tls.model_dump() == {name: tmp_path / name for name, _ in rows}


@pytest.mark.parametrize("part", settings_pages.parts())
def test_every_option_of_a_part_has_its_row_with_its_default(part: str) -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    [section] = re.findall(rf"^### {part}\n(.*?)(?=^#|\Z|^<!)", text, re.MULTILINE | re.DOTALL)
    told = dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) ?\| ", section, re.MULTILINE))
    model = settings_pages.parts()[part]
    assert told.keys() == model.model_fields.keys()
    for name, default in told.items():
        if model.model_fields[name].is_required():
            assert default == "none: it must be given", name
            continue
        value = model.model_fields[name].get_default(call_default_factory=True)
        said = default.strip("`").replace(",", "")
        assert said == ("" if value in (None, ()) else json.dumps(value)), name


def test_a_setting_that_does_not_say_what_it_is_is_refused() -> None:
    class Silent(BaseModel):
        told_seconds: int = 1
        """What it is."""
        silent: str = ""

    class Unitless(BaseModel):
        size: int = 1
        """What it is."""

    with pytest.raises(settings_pages.Undescribed, match=r"Silent\.silent"):
        settings_pages.rows(Silent, None)
    with pytest.raises(settings_pages.Undescribed, match="size: UNITS has no unit"):
        settings_pages.rows(Unitless, None)


def test_every_setting_has_its_row() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    seen = [Settings]
    for model in seen:
        for name, field in model.model_fields.items():
            inner = re.findall(r"citychain\.\w+\.\w+", str(field.annotation))
            nested = [getattr(import_module(it.rpartition(".")[0]), it.rpartition(".")[2])
                      for it in inner]  # fmt: skip
            nested = [it for it in nested if hasattr(it, "model_fields")]
            seen += [it for it in nested if it not in seen]
            assert nested or f"| `{name}` |" in text, f"{model.__name__}.{name}"
    assert {it.__name__ for it in seen} >= {"LimitsSettings", "CitySettings", "Representative"}


# --- errors


def test_every_class_of_errors_has_its_row() -> None:
    text = (DOCS / "errors.md").read_text("utf-8")
    rows = dict(
        re.findall(r"^\| (?:&emsp;)*`(\w*[a-z]\w*)` \| `([A-Z_]+)` \| \w", text, re.MULTILINE)
    )
    expected = {it.__name__: row.reason for it, row in ERRORS.items()}
    assert rows == expected
    assert set(rows) == set(errors.__all__)


# --- commands


def test_every_command_and_option_is_documented() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    sections = dict(re.findall(r"^### `citychain ?(.*?)`\n(.*?)(?=^#|\Z)", text, re.M | re.S))
    assert list(sections) == list(own_commands())
    for words, command in own_commands().items():
        for parameter in command.params:
            if getattr(parameter, "hidden", False):
                continue
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("--") and option not in OF_ALL:
                    assert f"`{option}`" in sections[words], f"{words} {option}"


def test_an_option_without_help_is_refused() -> None:
    app = typer.Typer()

    @app.command()
    def silent(name: str = "x") -> None:
        """Say nothing."""

    with pytest.raises(LookupError, match="--name: it has no help"):
        commands_pages.section("silent", typer.main.get_command(app))
