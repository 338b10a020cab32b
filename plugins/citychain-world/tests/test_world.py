"""Places by any of their names."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from citychain_world import INDEX, citychain_find_city

from citychain.city.names import normalise
from citychain.hooks import CityDefinition
from citychain.hooks.checks import SLUG, check_city
from citychain.hooks.registry import load_plugins


@pytest.fixture(scope="module")
def index() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{INDEX.as_uri()}?immutable=1", uri=True)
    yield connection
    connection.close()


def find(name: str) -> CityDefinition:
    city = citychain_find_city(normalise(name))
    assert city is not None, name
    return city


@pytest.mark.parametrize(
    "name",
    [
        "Kanazawa",
        "KANAZAWA",
        "金沢",
        "金沢市",
        "金澤市",
        "ｶﾅｻﾞﾜ",
        "Канадзава",
        "가나자와 시",
        "kanazawa-jp",
        "kanazawa-jp-1860243",
        "name-of-tomorrow-jp-1860243",
    ],
)
def test_kanazawa_is_found_by_every_name(name: str) -> None:
    city = find(name)
    assert (city.slug, city.parent) == ("kanazawa-jp", "country-jp")
    assert "金沢" in city.aliases
    assert city.region is not None
    assert abs(city.region.latitude_e7 - 36_6000000) < 1000000
    assert abs(city.region.longitude_e7 - 136_6000000) < 1000000
    assert 5_000 < city.region.radius_m < 15_000


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Springfield", "springfield-us-4409896"),
        ("springfield-us", "springfield-us-4409896"),
        ("springfield-us-4250542", "springfield-us-4250542"),
        ("Porto", "porto-pt"),
        ("Islamabad", "islamabad-pk"),
        ("Москва", "moscow-ru"),
        ("Lebanon", "country-lb"),
        ("Japan", "country-jp"),
        ("アジア", "continent-as"),
        ("World", "world"),
    ],
)
def test_a_name_means_the_largest_place_that_is_called_so(name: str, slug: str) -> None:
    assert find(name).slug == slug


@pytest.mark.parametrize(
    "name",
    ["no such place", "", "kanazawa-us-1860243", "kanazawa-jp-1", "1860243", "x" * 200, "'; --"],
)
def test_an_unknown_name_is_none(name: str) -> None:
    assert citychain_find_city(name) is None


def test_parents_lead_to_the_world() -> None:
    city, path = find("kanazawa"), []
    while city.parent:
        city = find(city.parent)
        path.append(city.slug)
        assert city.region is None
    assert path == ["country-jp", "continent-as", "world"]


def test_places_are_sound_cities_and_answer_their_slugs(index: sqlite3.Connection) -> None:
    slugs = [slug for (slug,) in index.execute("SELECT slug FROM places ORDER BY slug")]
    assert len(slugs) > 30_000
    assert all(SLUG.fullmatch(slug) for slug in slugs)
    for slug in (*slugs[::50], "world", "continent-an", "country-aq"):
        city = find(slug)
        assert city.slug == slug
        assert check_city("test", city) is city
        assert city.parent in slugs or slug == "world"


def test_every_name_of_a_place_is_known(index: sqlite3.Connection) -> None:
    """Also that the twin in build_index.py normalises as citychain does."""
    known = dict(index.execute("SELECT name, slug FROM names"))
    for titles, aliases in index.execute(
        "SELECT titles, aliases FROM places WHERE geonameid % 10 = 0 OR geonameid IS NULL"
    ):
        for name in (*json.loads(titles).values(), *json.loads(aliases)):
            assert normalise(name) in known, name


def test_every_number_is_known(index: sqlite3.Connection) -> None:
    places = index.execute(
        "SELECT slug, country, geonameid FROM places WHERE geonameid % 50 = 0"
    ).fetchall()
    assert len(places) > 100
    for slug, country, number in places:
        assert find(f"any-name-{country}-{number}").slug == slug


def test_many_threads_may_ask_at_once() -> None:
    names = ["kanazawa", "京都", "no such place", "porto"] * 50
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(citychain_find_city, names)) == [
            citychain_find_city(name) for name in names
        ]


def test_citychain_finds_the_plugin() -> None:
    registry = load_plugins(allow=["citychain-world"])
    (record,) = [record for record in registry.records if record.name == "world"]
    assert (record.status, record.hooks) == ("active", ("citychain_find_city",))
    assert registry.cities == {}
    city = registry.find_city("金沢市")
    assert city is not None
    assert registry.source_of(city.slug) == "citychain-world"
