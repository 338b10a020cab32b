"""The city: its names, its place, its parts."""

from __future__ import annotations

from collections.abc import Iterable

from citychain import CityDefinition, Disc, hookimpl

CITY = CityDefinition(
    slug="otsu",
    titles={"en": "Otsu", "ja": "大津市"},
    aliases=("大津", "おおつ"),
    region=Disc(latitude_e7=35_0179000, longitude_e7=135_8546000, radius_m=15_000),
    parent="country-jp",
    storage="otsu-shelf",
    dag="otsu-loans",
    consensus="otsu-librarian",
)


@hookimpl
def citychain_cities() -> Iterable[CityDefinition]:
    """The city."""
    yield CITY
