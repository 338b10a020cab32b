"""The recipes of docs/testing.md: each is taken from the page and run in a fresh project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
TOGETHER = 4
"""Recipes in one project, since each project costs a process."""


class Recipe(NamedTuple):
    """A test on the page."""

    name: str
    settings: str
    """Of pytest: those that the page gave last."""
    test: str


def recipes() -> list[Recipe]:
    found, settings = [], ""
    blocks = re.findall(r"^```(ini|python)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for language, text in blocks:
        if language == "ini":
            settings = text
        else:
            name = re.search(r"def (test_\w+)", text)
            assert name is not None, f"a block without a test:\n{text}"
            found.append(Recipe(name[1], settings, text))
    return found


def projects() -> dict[str, list[Recipe]]:
    """Recipes that share a project, by its name: of the same settings, a few at a time."""
    by_settings: dict[str, list[Recipe]] = {}
    for recipe in recipes():
        by_settings.setdefault(recipe.settings, []).append(recipe)
    groups = [
        same[start : start + TOGETHER]
        for same in by_settings.values()
        for start in range(0, len(same), TOGETHER)
    ]
    return {group[0].name: group for group in groups}


PROJECTS = projects()


@pytest.mark.parametrize("project", [*PROJECTS])
def test_the_recipes_pass_as_they_stand(pytester: pytest.Pytester, project: str) -> None:
    recipes = PROJECTS[project]
    pytester.makeini(recipes[0].settings)
    for recipe in recipes:
        pytester.path.joinpath(f"{recipe.name}.py").write_text(recipe.test)
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "-W", "error", "--durations=5", timeout=120
    )
    result.assert_outcomes(passed=sum(recipe.test.count("def test_") for recipe in recipes))


def test_every_fake_has_its_line_on_the_page() -> None:
    from citychain import testing
    from citychain.city.overrides import CITY_PARTS

    text = PAGE.read_text()
    assert [name for name in testing.__all__ if name not in text] == []
    assert [
        part for part in CITY_PARTS if f"`{part}`" not in text and f'"{part}"' not in text
    ] == []


def test_the_error_on_the_page_is_the_one_that_is_raised(city_server: object) -> None:
    from citychain.errors import ConfigurationError
    from citychain.testing.server import CityServerFactory

    assert isinstance(city_server, CityServerFactory)
    [shown] = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    with pytest.raises(ConfigurationError) as raised:
        city_server(overrides={"tokyo": {"storge": None}})
    assert str(raised.value) == " ".join(shown.split())
