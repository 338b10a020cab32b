"""Catalogues are asked by name, one guarded from the other."""

from __future__ import annotations

import sys

import pytest
from throwaway import CITY, Site

from citychain.errors import InvalidRequest
from citychain.hooks import CityDefinition

CATALOGUE = """
asked = []
@hookimpl{mark}
def citychain_find_city(name):
    asked.append(name)
    if name in {names}:
        return CityDefinition(slug="{slug}")
"""


def test_a_catalogue_is_asked_by_the_normalised_name_once(site: Site) -> None:
    module = site.install(
        "world", CATALOGUE.format(mark="", names={"kanazawa-jp", "金沢"}, slug="kanazawa-jp")
    )
    registry = site.load()
    assert registry.cities == {}
    city = registry.find_city(" 金沢　")
    assert city == CityDefinition(slug="kanazawa-jp")
    assert registry.find_city("KANAZAWA-JP") == city
    assert registry.source_of("kanazawa-jp") == "world"
    asked = list(sys.modules[module].asked)
    assert asked[0] == "金沢"
    assert registry.find_city("金沢") == city
    assert sys.modules[module].asked == asked


def test_an_unknown_name_is_none(site: Site) -> None:
    site.install("world", CATALOGUE.format(mark="", names={"kanazawa-jp"}, slug="kanazawa-jp"))
    registry = site.load()
    assert registry.find_city("atlantis") is None
    assert registry.source_of("atlantis") is None
    with pytest.raises(InvalidRequest):
        registry.find_city("x" * 1_000)


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('no data')", "raise SystemExit", "return 'kyoto'"]
)
def test_a_failing_catalogue_is_skipped_and_told(
    site: Site, caplog: pytest.LogCaptureFixture, body: str
) -> None:
    site.install("broken", f"@hookimpl\ndef citychain_find_city(name):\n    {body}\n")
    site.install("world", CATALOGUE.format(mark="", names={"kyoto-jp"}, slug="kyoto-jp"))
    registry = site.load()
    assert registry.find_city("kyoto-jp") == CityDefinition(slug="kyoto-jp")
    assert "plugin broken:broken: citychain_find_city" in caplog.text


def test_catalogues_are_asked_in_order_of_distribution(site: Site) -> None:
    for name in ("beta", "alpha"):
        site.install(name, CATALOGUE.format(mark="", names={name, "x"}, slug=name))
    assert site.load().find_city("x") == CityDefinition(slug="alpha")


def test_a_catalogue_can_ask_to_be_last(site: Site) -> None:
    for name, mark in (("beta", ""), ("alpha", "(trylast=True)")):
        site.install(name, CATALOGUE.format(mark=mark, names={name, "x"}, slug=name))
    assert site.load().find_city("x") == CityDefinition(slug="beta")


def test_a_listed_city_goes_before_a_catalogues(site: Site) -> None:
    site.install(
        "listed",
        "@hookimpl\ndef citychain_cities():\n"
        "    yield CityDefinition(slug='kyoto', titles={'en': 'The listed one'})\n",
    )
    site.install("catalogue", CATALOGUE.format(mark="", names={"kyoto"}, slug="kyoto"))
    registry = site.load()
    assert registry.find_city("kyoto") is registry.cities["kyoto"]
    assert registry.source_of("kyoto") == "listed"


@pytest.mark.parametrize(("owner", "told"), [("another", "known to another"), (None, "unknown")])
def test_a_slug_means_one_city_whatever_name_led_to_it(
    site: Site, caplog: pytest.LogCaptureFixture, owner: str | None, told: str
) -> None:
    """A catalogue that gives a slug which it does not answer itself is not believed."""
    site.install("world", CATALOGUE.format(mark="", names={"nickname"}, slug="kyoto"))
    if owner:
        site.install(owner, CITY.format(slug="kyoto"))
    assert site.load().find_city("nickname") is None
    assert told in caplog.text
