"""``citychain cities import``: from a map to cities that a server opens."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from citychain.city.catalogue import Catalogue
from citychain.config import load_settings
from citychain.consensus.poh_pop import PohPopOptions
from citychain.containers import BUILTIN
from citychain.hooks.registry import load_plugins


def feature(index: int, **properties: Any) -> dict[str, Any]:
    """A box, one degree wide, east of the one before."""
    corners = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    ring = [[lon + index, lat] for lon, lat in corners]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


MAP = [
    feature(0, code="01", county="East", name="Old Town"),
    feature(1, code="02", county="East", name='Quay "5"'),
    feature(2, code="02", county="East", name="Quay, across the water"),
    feature(3, code="03", county=None, name="Hill"),
    feature(4, code="04", county=None, name="Hill"),
    feature(5, name="nobody's"),
]
IMPORT = ("cities", "import", "maps/wards.geojson", "--code-property", "code")
NAMES = ("--name-property", "county", "--name-property", "name")


@pytest.fixture
def town(citychain: Any, tmp_path: Path) -> Path:
    """A server's directory with a map in it."""
    assert citychain("init", "--city", "springfield", cwd=tmp_path).code == 0
    (tmp_path / "maps").mkdir()
    write(tmp_path / "maps/wards.geojson", MAP)
    return tmp_path


def write(path: Path, features: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_each_code_of_a_map_becomes_a_city(citychain: Any, town: Path) -> None:
    before = tomllib.loads((town / "citychain.toml").read_text())
    ran = citychain(*IMPORT, *NAMES, "--prefix", "w-", "--language", "en", "--json", cwd=town)
    assert ran.code == 0, ran.err
    assert ran.record["cities"] == 4
    after = tomllib.loads((town / "citychain.toml").read_text())
    assert after == before | {"cities_from": ["wards.toml"]}

    settings = load_settings(town / "citychain.toml", environment={})
    assert set(settings.cities) == {"springfield", "w-01", "w-02", "w-03", "w-04"}
    assert settings.own_cities == ("springfield",)
    quay = settings.cities["w-02"]
    assert quay.titles == {"en": 'East Quay "5"'}
    assert quay.aliases == ('EastQuay"5"', 'Quay "5"')
    assert settings.cities["w-03"].aliases == ()
    assert quay.consensus == "poh-pop"
    options = PohPopOptions.model_validate(
        quay.consensus_options, context={"folder": settings.folder}
    )
    assert options.policy == "claimed"
    place = options.place
    assert place is not None
    assert place.locate(1, 25_000_000).is_inside
    assert place.locate(1, 5_000_000).neighbour == "East Old Town"

    registry = load_plugins(builtin=BUILTIN, entry_points=[])
    catalogue = Catalogue(registry, settings)
    found = {name: catalogue.find(name) for name in ("old town", "EASTOLDTOWN", "w-01")}
    assert {name: city and city.slug for name, city in found.items()} == dict.fromkeys(
        found, "w-01"
    )


def test_the_configuration_keeps_all_that_stood_in_it(citychain: Any, town: Path) -> None:
    config = town / "citychain.toml"
    before = config.read_text()
    assert citychain(*IMPORT, "--prefix", "w-", cwd=town).code == 0
    line = 'cities_from = ["wards.toml"]\n'
    assert config.read_text().replace(line + "\n", "") == before


def test_the_same_again_is_no_mistake_and_another_is(citychain: Any, town: Path) -> None:
    command = (*IMPORT, "--prefix", "w-")
    assert citychain(*command, cwd=town).code == 0
    files = {path: path.read_bytes() for path in town.glob("*.toml")}
    assert citychain(*command, cwd=town).code == 0
    write(town / "maps/wards.geojson", MAP[:1])
    ran = citychain(*command, cwd=town)
    assert ran.code == 2
    assert "wards.toml is there already and says something else: --replace" in ran.message
    assert {path: path.read_bytes() for path in town.glob("*.toml")} == files
    ran = citychain(*command, "--output", "less.toml", cwd=town)
    assert ran.code == 2
    assert "w-01 is a city of another file of cities_from already: --prefix" in ran.message
    assert {path: path.read_bytes() for path in town.glob("*.toml")} == files


def test_an_import_can_be_written_anew_and_nothing_else_can(citychain: Any, town: Path) -> None:
    config = town / "citychain.toml"
    command = (*IMPORT, "--prefix", "w-")
    assert citychain(*command, cwd=town).code == 0
    before = config.read_bytes()
    write(town / "maps/wards.geojson", MAP[:1])
    assert citychain(*command, "--replace", cwd=town).code == 0
    assert set(load_settings(config, environment={}).cities) == {"springfield", "w-01"}
    other = (*IMPORT, "--prefix", "x-", "--output", "citychain.toml", "--replace")
    ran = citychain(*other, cwd=town)
    assert ran.code == 2
    assert "citychain.toml is there already and no file of an import" in ran.message
    assert config.read_bytes() == before
    assert sorted(path.name for path in town.glob("*.toml*")) == ["citychain.toml", "wards.toml"]


@pytest.mark.parametrize(
    "old", ['["wards.toml"]', "[\n  'wards.toml', # the first\n]", "[\n  'wards.toml',\n]"]
)
def test_a_second_map_is_added_to_the_list(citychain: Any, town: Path, old: str) -> None:
    config = town / "citychain.toml"
    assert citychain(*IMPORT, "--prefix", "w-", cwd=town).code == 0
    config.write_text(config.read_text().replace('["wards.toml"]', old))
    before = config.read_text()
    write(town / "maps/more.geojson", MAP)
    more = ("cities", "import", "maps/more.geojson", *IMPORT[3:], "--prefix", "m-")
    ran = citychain(*more, cwd=town)
    if "#" in old:  # A comment would be lost: it is told what to do.
        assert ran.code == 2
        assert "more.toml is written, but no server reads it yet: add " in ran.message
        assert '"more.toml" to the list cities_from at the top of ' in ran.message
        assert config.read_text() == before
        config.write_text(before.replace("[\n  'wards.toml',", "[ 'wards.toml', 'more.toml',"))
        assert citychain(*more, cwd=town).code == 0
    else:
        assert ran.code == 0, ran.err
        assert config.read_text() == before.replace(old, '["wards.toml", "more.toml"]')
    slugs = load_settings(config, environment={}).cities
    assert {"w-01", "w-04", "m-01", "m-04"} < set(slugs)


def test_without_a_policy_there_is_no_place(citychain: Any, town: Path) -> None:
    ran = citychain(*IMPORT, "--prefix", "w-", "--policy", "none", cwd=town)
    assert ran.code == 0
    assert "no place was written: with policy none nobody's presence is judged" in ran.err
    settings = load_settings(town / "citychain.toml", environment={})
    options = PohPopOptions.model_validate(settings.cities["w-01"].consensus_options)
    assert (options.policy, options.place) == ("none", None)


def test_features_without_a_code_are_counted(citychain: Any, town: Path) -> None:
    write(town / "maps/wards.geojson", [*MAP, feature(6, code=None, name="no code")])
    command = (*IMPORT, "--prefix", "w-")
    assert "4 cities; 2 features left out: no code" in citychain(*command, cwd=town).err
    assert citychain(*command, "--json", cwd=town).record["left_out"] == 2


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (MAP, (), "code '01' makes no slug: '01' is not 1 to 63 of"),
        (MAP, ("--code-property", "cod"), "no feature has a property 'cod'"),
        (MAP, ("--prefix", "w-", "--name-property", "nam"), "no feature has a property 'nam'"),
        (MAP, ("--prefix", "w-", *NAMES, "--name-property", "nam"), "has a property 'nam'"),
        ([feature(0, code="a b"), feature(1, code="a.b")], (), "both make the slug a-b"),
        ([feature(0, code="金沢")], (), "code '金沢' makes no slug"),
        ([{**feature(0, code="a"), "geometry": None}], (), "feature 0 (a): it has no geometry"),
    ],
)
def test_what_makes_no_cities_is_told_in_a_line(
    citychain: Any, town: Path, features: list[Any], options: tuple[str, ...], message: str
) -> None:
    write(town / "maps/wards.geojson", features)
    before = (town / "citychain.toml").read_text()
    ran = citychain(*IMPORT, *options, cwd=town)
    assert ran.code == 2
    assert message in ran.message
    assert (town / "citychain.toml").read_text() == before
    assert not (town / "wards.toml").exists()


def test_without_a_configuration_there_is_nothing_to_add_to(citychain: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.geojson", MAP)
    ran = citychain("cities", "import", "a.geojson", "--code-property", "code", cwd=tmp_path)
    assert ran.code == 2
    assert "citychain init" in ran.message


def test_listing_cities_is_still_the_command_of_one_word(process: Any, tmp_path: Path) -> None:
    shown = process("cities", "--help", cwd=tmp_path).out
    assert "--save-genesis" in shown
    assert "--code-property" in process("cities", "import", "--help", cwd=tmp_path).out
