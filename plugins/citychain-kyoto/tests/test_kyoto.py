"""Kyoto is found by its names, and its choices are valid."""

from __future__ import annotations

import citychain_kyoto
import pytest

import citychain.consensus.builtin
import citychain.dag.builtin
import citychain.storage.builtin
from citychain.city.names import CityNames
from citychain.city.plan import plan_city
from citychain.config import load_settings
from citychain.dag.random_tips import RandomTipsOptions
from citychain.hooks.registry import Registry, load_plugins


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The built-in parts and this plugin, as installed."""
    return load_plugins(
        builtin=[
            citychain.dag.builtin,
            citychain.storage.builtin,
            citychain.consensus.builtin,
        ],
        allow=["citychain-kyoto"],
    )


def test_the_plugin_is_active(registry: Registry) -> None:
    (record,) = [record for record in registry.records if record.name == "kyoto"]
    assert (record.status, record.reason) == ("active", "")
    assert registry.source_of("kyoto") == "citychain-kyoto"


@pytest.mark.parametrize(
    "name", ["KYOTO", "京都", "京都市", "교토", "киото", "Kyo\u0304to", "miyako"]
)
def test_kyoto_is_found_in_every_script(name: str) -> None:
    (kyoto,) = citychain_kyoto.citychain_cities()
    names = CityNames({kyoto.slug: (*kyoto.titles.values(), *kyoto.aliases)})
    assert names.find(name) == "kyoto"


def test_the_parts_that_it_chooses_exist_and_take_its_options(registry: Registry) -> None:
    plan = plan_city("kyoto", load_settings(environment={}), registry)
    assert plan.storage.name == "sqlite"
    assert plan.dag.name == "random-tips"
    assert plan.dag.options == RandomTipsOptions(tips=3, window=4)


def test_an_operator_can_override_its_choices(registry: Registry) -> None:
    settings = load_settings(environment={}, cities={"kyoto": {"dag_options": {"tips": 1}}})
    plan = plan_city("kyoto", settings, registry)
    assert plan.dag.options == RandomTipsOptions(tips=1, window=4)
