"""`docs/how-to/city.md` is true: its plugins are found by their names, and its test files run."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from citychain.config import load_settings
from citychain.containers import CoreContainer
from citychain.hooks.definitions import CityDefinition
from citychain.testing.conformance import CitySuite

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "city.md"
TEXT = PAGE.read_text()
PROJECT, TABLE = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
BLOCKS = {
    name: text
    for text in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for name in re.findall(r"\A# (\w+)\.py\n", text)
}
"""Source by the name of its module."""


@pytest.fixture
def installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's plugins are installed, and nothing else."""
    monkeypatch.syspath_prepend(pytester.path)
    pytester.makepyfile(**{name: text for name, text in BLOCKS.items() if "hookimpl" in text})
    project = tomllib.loads(PROJECT)["project"]
    entries = project["entry-points"]["citychain"] | {"wards": "citychain_wards"}
    for name, module in entries.items():
        folder = pytester.mkdir(f"{module}-{project['version']}.dist-info")
        (folder / "METADATA").write_text(f"Name: citychain-{name}\nVersion: 0.1.0\n")
        (folder / "entry_points.txt").write_text(f"[citychain]\n{name} = {module}\n")
    return pytester.path


def core(**values: object) -> CoreContainer:
    plugins = {"allow": ["citychain-nara", "citychain-wards"]}
    return CoreContainer(settings=load_settings(environment={}, plugins=plugins, **values))


def test_every_block_of_the_page_is_tested_here() -> None:
    assert len(re.findall("```python", TEXT)) == len(BLOCKS)
    assert BLOCKS.keys() == {
        *("citychain_nara", "citychain_wards"),
        *("test_nara", "test_kanazawa", "test_scratch"),
    }


@pytest.mark.usefixtures("installed")
def test_the_city_is_found_by_each_of_its_names() -> None:
    catalogue = core().catalogue()
    for name in ("nara", "NARA", "ｎａｒａ", "奈良市", "奈良", "なら", "나라", "нара"):
        found = catalogue.find(name)
        assert found is not None
        assert (found.slug, found.source, found.parent) == ("nara", "citychain-nara", "country-jp")


@pytest.mark.usefixtures("installed")
def test_a_table_goes_over_the_definition_as_the_page_says() -> None:
    catalogue = core(cities=tomllib.loads(TABLE)["cities"]).catalogue()
    plan = catalogue.plan("nara")
    assert plan.aliases == ("奈良",)
    assert plan.titles == {"en": "Nara", "ja": "奈良市"}
    assert plan.storage.name == "memory"
    assert (plan.dag.name, plan.dag.options.tips) == ("random-tips", 1)
    other = core(cities={"nara": {"dag": "sealed-rounds"}}).catalogue().plan("nara")
    assert other.dag.definition.name == "sealed-rounds"


@pytest.mark.usefixtures("installed")
def test_the_catalogue_knows_its_slugs_and_its_names() -> None:
    catalogue = core().catalogue()
    for name in ("tokyo-minato", "minato", "港区"):
        found = catalogue.find(name)
        assert found is not None
        assert (found.slug, found.source) == ("tokyo-minato", "citychain-wards")
    assert catalogue.find("tokyo-kyoto") is None


def kanazawa_is_installed() -> bool:
    return any(entry.name == "kanazawa" for entry in metadata.entry_points(group="citychain"))


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("test_")])
def test_a_test_file_of_the_page_runs(
    pytester: pytest.Pytester, installed: Path, name: str
) -> None:
    if name == "test_kanazawa" and not kanazawa_is_installed():
        pytest.skip("citychain-kanazawa is not installed")
    settings = tomllib.loads(PROJECT)["tool"]["pytest"]["ini_options"]
    pytester.makepyprojecttoml(
        "[tool.pytest.ini_options]\n"
        + "".join(f'{key} = "{value}"\n' for key, value in settings.items())
    )
    pytester.makepyfile(**{name: BLOCKS[name]})
    few = "names or received or rejection or busy"
    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider", f"{name}.py", "-k", few)
    ran.assert_outcomes(passed=4, deselected=ran.parseoutcomes()["deselected"])


def test_the_page_names_every_test_and_no_other() -> None:
    named = re.findall(r"^\| `(test_\w+)` \|", TEXT, re.MULTILINE)
    standard = [name for name, _ in inspect.getmembers(CitySuite) if name.startswith("test_")]
    assert sorted(named) == sorted(standard)


def test_the_page_names_every_fixture_that_is_for_overriding() -> None:
    [table] = re.findall(r"\| fixture \| say \| default \|\n(.*?)\n\n", TEXT, re.DOTALL)
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert all(hasattr(CitySuite, name) for name in named)
    docstring = inspect.getdoc(CitySuite) or ""
    assert set(named) == set(re.findall(r"^`(\w+)` +", docstring, re.MULTILINE))


def test_the_page_names_every_field_of_a_definition() -> None:
    [table] = re.findall(r"\| field \| says \|.*?\n(.*?)\n\n", TEXT, re.DOTALL)
    fields = [
        name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert fields == list(CityDefinition.__dataclass_fields__)


def test_the_page_says_the_sizes_of_the_suite() -> None:
    sizes = dict(
        re.findall(r"(\w+) = \d+  # .*?, ([\d,]+) if you say nothing", BLOCKS["test_kanazawa"])
    )
    assert sizes == {"many": f"{CitySuite.many:,}", "examples": str(CitySuite.examples)}


@pytest.mark.parametrize(
    ("definition", "options", "said"),
    [
        ('"tokio"', "{}", "no installed plugin offers the city tokio: install the plugin"),
        ('CityDefinition("tokyo", dag="sealed")', "{}", "no DAG handler 'sealed'"),
        ('CityDefinition("tokyo")', '{"dagg": "x"}', "dagg"),
        ('CityDefinition("nara")', "{}", "offers nara with other values than this definition"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_city_that_cannot_be_made_is_told_without_a_traceback(
    pytester: pytest.Pytester, definition: str, options: str, said: str
) -> None:
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(f"""
        import pytest
        from citychain import CityDefinition
        from citychain.testing.conformance import CitySuite

        class TestTokyo(CitySuite):
            @pytest.fixture
            def definition(self):
                return {definition}

            @pytest.fixture
            def options(self):
                return {options}

            @pytest.fixture
            def settings(self):
                return {{"plugins": {{"allow": ["citychain-nara"]}}}}
    """)
    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "names")
    ran.assert_outcomes(errors=1, deselected=ran.parseoutcomes()["deselected"])
    text = ran.stdout.str()
    assert said in text
    assert "Traceback" not in text
    assert "_city_session.py:" not in text
