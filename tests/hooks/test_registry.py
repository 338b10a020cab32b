"""Plugins are found, chosen, and kept apart where they contradict each other."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import ModuleType

import pytest
from throwaway import CITY, STORAGE, Reason, Site

from citychain.errors import ConfigurationError, PluginError
from citychain.hooks import StorageDefinition, hookimpl
from citychain.hooks.registry import PluginRecord, load_plugins


class BuiltinStorage:
    """A built-in part."""

    __name__ = "builtin.storage"

    @hookimpl
    def citychain_storage_backends(self) -> list[StorageDefinition]:
        return [StorageDefinition(name="sqlite", factory=lambda options, context: NotImplemented)]


# --- loading ---


def test_a_plugin_is_found_with_all_that_it_offers(site: Site) -> None:
    site.install(
        "citychain-kanazawa",
        """
@hookimpl
def citychain_cities():
    yield CityDefinition(slug="kanazawa", titles={"ja": "金沢市"})

@hookimpl
def citychain_dag_handlers():
    return [DagDefinition(name="districts", factory=print)]

@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition(name="slow", factory=print)

@hookimpl
def citychain_commands():
    yield CommandDefinition(name="hello", app=print)

class Interceptor:
    def intercept_service(self, continuation, details): ...

@hookimpl
def citychain_interceptors():
    yield Interceptor()
"""
        + STORAGE.format(name="scratch"),
        entry="kanazawa",
        version="2.1",
    )
    registry = site.load()
    assert registry.records == (
        PluginRecord(
            name="kanazawa",
            distribution="citychain-kanazawa",
            version="2.1",
            status="active",
            hooks=(
                "citychain_cities",
                "citychain_commands",
                "citychain_consensus_steps",
                "citychain_dag_handlers",
                "citychain_interceptors",
                "citychain_storage_backends",
            ),
        ),
    )
    assert registry.cities["kanazawa"].titles == {"ja": "金沢市"}
    assert registry.source_of("kanazawa") == "citychain-kanazawa"
    assert registry.storage_backend("scratch") is registry.storage_backends["scratch"]
    assert registry.dag_handler("districts") is registry.dag_handlers["districts"]
    assert registry.consensus_step("slow") is registry.consensus_steps["slow"]
    assert registry.commands["hello"].app is print
    (interceptor,) = registry.interceptors()
    assert type(interceptor).__name__ == "Interceptor"


def test_installed_plugins_are_found_by_their_entry_points(site: Site) -> None:
    site.install("citychain-found", CITY.format(slug="found"))
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from citychain.hooks.registry import load_plugins\n"
            "print(load_plugins().source_of('found'))",
            str(site.folder),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "citychain-found", found.stderr


def test_two_distributions_may_use_one_entry_point_name(site: Site) -> None:
    site.install("zeta", CITY.format(slug="zeta"), entry="city")
    site.install("alpha", CITY.format(slug="alpha"), entry="city")
    registry = site.load()
    assert [record.distribution for record in registry.records] == ["alpha", "zeta"]
    assert registry.cities.keys() == {"alpha", "zeta"}


def test_an_instance_can_be_a_plugin(site: Site) -> None:
    site.install(
        "instance",
        """
class Plugin:
    @hookimpl
    def citychain_cities(self):
        yield CityDefinition(slug="kyoto")

plugin = Plugin()
""",
        target=":plugin",
    )
    assert site.load().cities.keys() == {"kyoto"}


def test_built_in_parts_are_registered_by_the_same_hooks(site: Site) -> None:
    registry = site.load(builtin=[BuiltinStorage()])
    (record,) = registry.records
    assert (record.name, record.distribution) == ("builtin.storage", "citychain")
    assert record.hooks == ("citychain_storage_backends",)
    assert registry.storage_backends.keys() == {"sqlite"}


def test_200_plugins_are_loaded_and_a_broken_one_among_them_is_left_out(site: Site) -> None:
    for i in range(200):
        source = "1 / 0" if i == 100 else CITY.format(slug=f"city-{i}")
        site.install(f"plugin-{i:03}", source, requires=["pluggy>=1.7", "pydantic>=2"])
    registry = site.load()
    assert len(registry.cities) == 199
    assert [r.name for r in registry.records if r.status != "active"] == ["plugin-100"]


def test_the_log_has_the_traceback(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("broken", "1 / 0")
    with caplog.at_level(logging.ERROR):
        site.load()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_one_module_under_two_names_is_told() -> None:
    """Pluggy registers an object once; the second is a failure and not a silent loss."""
    plugin = ModuleType("catalogue")
    plugin.citychain_find_city = hookimpl(lambda name: None, specname="citychain_find_city")  # type: ignore[attr-defined]
    registry = load_plugins(builtin=[plugin, plugin], entry_points=[])
    assert [record.status for record in registry.records] == ["active", "failed"]


# --- what is not loaded ---


@pytest.mark.parametrize("name", ["kanazawa", "citychain-kanazawa", "Citychain_Kanazawa"])
def test_a_disabled_plugin_is_never_imported(site: Site, name: str) -> None:
    module = site.install("citychain-kanazawa", CITY.format(slug="kanazawa"), entry="kanazawa")
    (record,) = site.load(disabled=[name]).records
    assert (record.status, record.reason) == ("disabled", "it is in plugins.disabled")
    assert module not in sys.modules


def test_only_allowed_plugins_are_loaded(site: Site) -> None:
    modules = [site.install(name, CITY.format(slug=name)) for name in ("kyoto", "nara", "osaka")]
    registry = site.load(allow=["kyoto", "nara"], disabled=["nara"])
    assert registry.cities.keys() == {"kyoto"}
    assert [record.status for record in registry.records] == ["active", "disabled", "disabled"]
    assert [module in sys.modules for module in modules] == [True, False, False]


def test_an_empty_allow_list_allows_only_built_in_parts(site: Site) -> None:
    site.install("kyoto", CITY.format(slug="kyoto"))
    registry = site.load(builtin=[BuiltinStorage()], allow=[])
    assert [record.status for record in registry.records] == ["active", "disabled"]


def test_a_disabled_name_that_nothing_has_is_told(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.install("kyoto", CITY.format(slug="kyoto"))
    site.load(disabled=["kioto"])
    assert "no plugin 'kioto' is installed; did you mean kyoto?" in caplog.text


# --- conflicts ---


def test_two_plugins_with_one_city_are_both_left_out(site: Site) -> None:
    site.install("one", CITY.format(slug="kyoto") + STORAGE.format(name="scratch"))
    site.install("two", CITY.format(slug="kyoto"))
    site.install("three", CITY.format(slug="nara"))
    registry = site.load()
    told = "city 'kyoto' is offered by one:one and two:two; disable one of them"
    assert {r.name: (r.status, r.reason) for r in registry.records} == {
        "one": ("conflict", told),
        "three": ("active", ""),
        "two": ("conflict", told),
    }
    assert registry.cities.keys() == {"nara"}
    assert registry.storage_backends == {}
    with pytest.raises(PluginError, match="offered by one:one and two:two"):
        registry.find_city("Kyoto")


@pytest.mark.parametrize(
    ("hook", "definition", "ask"),
    [
        ("storage_backends", "StorageDefinition", "storage_backend"),
        ("dag_handlers", "DagDefinition", "dag_handler"),
        ("consensus_steps", "ConsensusDefinition", "consensus_step"),
        ("fragment_stores", "FragmentStoreDefinition", "fragment_store"),
    ],
)
def test_a_part_that_two_plugins_offer_is_nobodys(
    site: Site, hook: str, definition: str, ask: str
) -> None:
    source = f"@hookimpl\ndef citychain_{hook}():\n    yield {definition}('fast', print)\n"
    site.install("one", source)
    site.install("two", source)
    registry = site.load()
    assert [record.status for record in registry.records] == ["conflict", "conflict"]
    with pytest.raises(PluginError, match="'fast' is offered by one:one and two:two"):
        getattr(registry, ask)("fast")


def test_one_conflict_does_not_hide_another(site: Site) -> None:
    site.install("one", CITY.format(slug="kyoto"))
    site.install("two", CITY.format(slug="kyoto") + STORAGE.format(name="fast"))
    site.install("three", STORAGE.format(name="fast"))
    registry = site.load()
    assert [record.status for record in registry.records] == ["conflict"] * 3
    assert registry.contested.keys() == {("city", "kyoto"), ("storage backend", "fast")}


def test_a_plugin_cannot_take_a_built_in_part_away(site: Site) -> None:
    site.install("rogue", STORAGE.format(name="sqlite") + CITY.format(slug="rogue"))
    builtin = BuiltinStorage()
    registry = site.load(builtin=[builtin])
    assert [record.status for record in registry.records] == ["active", "conflict"]
    assert registry.records[1].reason == (
        "storage backend 'sqlite' is offered by citychain:builtin.storage and rogue:rogue; "
        "disable one of them"
    )
    assert registry.cities == {}
    assert registry.storage_backend("sqlite").name == "sqlite"


def test_a_plugin_that_repeats_itself_is_told(reason: Reason) -> None:
    source = (
        "@hookimpl\ndef citychain_cities():\n"
        "    yield CityDefinition(slug='kyoto')\n    yield CityDefinition(slug='kyoto')\n"
    )
    assert reason(source, "conflict") == (
        "city 'kyoto' is offered twice by broken:broken; mend or disable it"
    )


def test_disabling_one_side_ends_a_conflict(site: Site) -> None:
    site.install("one", CITY.format(slug="kyoto"))
    site.install("two", CITY.format(slug="kyoto"))
    registry = site.load(disabled=["two"])
    assert registry.source_of("kyoto") == "one"


def test_an_unknown_part_lists_the_known_and_the_nearest(site: Site) -> None:
    site.install("one", STORAGE.format(name="scratch") + CITY.format(slug="one"))
    with pytest.raises(
        ConfigurationError,
        match=r"no storage backend .scrach.; known: scratch; did you mean scratch\?",
    ):
        site.load().storage_backend("scrach")
