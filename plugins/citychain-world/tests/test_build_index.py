"""The index is made as its readers expect."""

from __future__ import annotations

import random
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))

import build_index

from citychain.city.names import normalise


def record(name: str, number: int, population: int, country: str = "US", *aliases: str) -> Any:
    return {
        "name": name,
        "geonameid": number,
        "population": population,
        "countrycode": country,
        "alternatenames": list(aliases),
        "latitude": 1.5,
        "longitude": -2.25,
    }


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # The machine may be busy.
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(str.strip))
@example("ℌ𝐀Ⓐ")
@example("Ha\u0300 No\u0323\u0302i")
def test_names_are_normalised_as_citychain_does(name: str) -> None:
    assert build_index.normalise(name) == normalise(name)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Kanazawa", "kanazawa-jp"),
        ("São Paulo", "sao-paulo-jp"),
        ("Łódź", "lodz-jp"),
        ("Bao’an", "baoan-jp"),
        ("Ōta", "ota-jp"),
        ("St. John's – East", "st-johns-east-jp"),
        ("6th of October", "city-6th-of-october-jp"),
        ("金沢", "city-jp"),
        ("x" * 80, "x" * 50 + "-jp"),
    ],
)
def test_slugs_are_plain(name: str, slug: str) -> None:
    assert build_index.slug_of(name, "JP") == slug


def test_namesakes_have_their_numbers_whatever_their_population() -> None:
    records = [
        record("Springfield", 7, 10),
        record("Springfield", 8, 20),
        record("Springfield", 9, 30, "CA"),
        record("Salem", 10, 5),
    ]
    slugs = {"springfield-us-7", "springfield-us-8", "springfield-ca", "salem-us"}
    for seed in range(5):
        for place in records:
            place["population"] = random.Random(seed + place["geonameid"]).randint(1, 99)
        assert {place.slug for place in build_index.cities(records)} == slugs


def test_a_name_is_that_of_the_most_populous_then_an_alternate_name() -> None:
    owners = build_index.names(
        build_index.cities(
            [
                record("Porto", 1, 200, "PT"),
                record("Bordeaux", 2, 300, "FR", "Porto", "Burdeos"),
                record("Burgos", 3, 100, "ES", "Burdeos"),
                record("Springfield", 4, 10),
                record("SPRINGFIELD", 5, 20),
            ]
        )
    )
    assert owners["porto"] == "porto-pt"
    assert owners["burdeos"] == "bordeaux-fr"
    assert owners["springfield"] == owners["springfield-us"] == "springfield-us-5"


def test_equals_are_told_apart_by_number_in_any_order() -> None:
    records = [record("Salem", 2, 10), record("Salem", 1, 10)]
    for order in (records, records[::-1]):
        assert build_index.names(build_index.cities(order))["salem"] == "salem-us-1"


@pytest.mark.parametrize(
    ("population", "radius_m"), [(0, 2_000), (628_318, 10_000), (10**8, 50_000)]
)
def test_a_region_grows_with_its_people(population: int, radius_m: int) -> None:
    (place,) = build_index.cities([record("Salem", 1, population)])
    assert (place.latitude_e7, place.longitude_e7) == (15_000_000, -22_500_000)
    assert place.radius_m == pytest.approx(radius_m, abs=1)


def test_one_spelling_of_each_name_is_kept() -> None:
    (place,) = build_index.cities([record("Salem", 1, 1, "US", "SALEM", "salem", " ", "Ｓalem")])
    assert place.aliases == ("SALEM",)


def test_an_index_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "places.sqlite3"
    place = build_index.Place("salem-us", 1, {"und": "Salem"})
    build_index.write_index(target, [place])
    before = target.read_bytes()
    with pytest.raises(sqlite3.IntegrityError):
        build_index.write_index(target, [place, place])
    assert target.read_bytes() == before
