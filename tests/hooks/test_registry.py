"""Plugins are found, checked and kept apart."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from throwaway import CITY, Site

from citychain.errors import ConfigurationError, InvalidRequest, PluginError
from citychain.hooks import CityDefinition, StorageDefinition, hookimpl
from citychain.hooks.registry import PluginRecord, load_plugins

STORAGE = """
@hookimpl
def citychain_storage_backends():
    yield StorageDefinition(name="{name}", factory=print)
"""
Reason = Callable[..., str]


class BuiltinStorage:
    """A built-in part."""

    __name__ = "builtin.storage"

    @hookimpl
    def citychain_storage_backends(self) -> list[StorageDefinition]:
        return [StorageDefinition(name="sqlite", factory=lambda options, context: NotImplemented)]


# --- loading -------------------------------------------------------------------


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


# --- what is not loaded -----------------------------------------------------------


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


# --- what is wrong with one plugin -------------------------------------------------


def test_a_failing_import_names_the_error(reason: Reason) -> None:
    assert reason("1 / 0") == (
        "its import failed: ZeroDivisionError: division by zero; mend or disable the plugin"
    )


def test_a_missing_module_is_named(reason: Reason) -> None:
    assert "there is no module 'no_such_module'; install" in reason("import no_such_module")


def test_exit_at_import_does_not_end_the_server(reason: Reason) -> None:
    assert "its import failed: SystemExit: 3" in reason("import sys; sys.exit(3)")


def test_an_interrupt_passes(site: Site) -> None:
    site.install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.load()


def test_an_entry_point_to_nothing_is_told(reason: Reason) -> None:
    assert "AttributeError" in reason("", target=":plugin")


def test_a_class_as_entry_point_is_told(reason: Reason) -> None:
    assert "names the class Plugin" in reason("class Plugin: pass", target=":Plugin")


def test_a_plugin_without_hooks_is_told(reason: Reason) -> None:
    source = "def citychain_cities():\n    yield CityDefinition(slug='unmarked')\n"
    assert "mark its hook functions with @hookimpl" in reason(source)


def test_a_misspelt_hook_names_the_nearest(reason: Reason) -> None:
    source = "@hookimpl\ndef citychain_city():\n    return []\n"
    assert reason(source) == "there is no hook citychain_city; did you mean citychain_cities?"


def test_an_optional_hook_of_another_version_is_allowed(site: Site) -> None:
    site.install(
        "newer",
        "@hookimpl(optionalhook=True)\ndef citychain_of_tomorrow(thing): ...\n"
        + CITY.format(slug="newer"),
    )
    (record,) = site.load().records
    assert (record.status, record.hooks) == ("active", ("citychain_cities",))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "def citychain_find_city(nam): ...",
            "citychain_find_city takes nam, which it is not given; "
            "write: def citychain_find_city(name)",
        ),
        ("def citychain_cities(settings): ...", "write: def citychain_cities()"),
        ("def citychain_find_city(name, *, how): ...", "takes how, which it is not given"),
        ("async def citychain_cities(): ...", "write a plain def"),
        ("async def citychain_cities():\n    yield", "write a plain def"),
    ],
)
def test_a_wrong_signature_is_told(reason: Reason, function: str, message: str) -> None:
    assert message in reason(f"@hookimpl\n{function}\n")


def test_fewer_arguments_than_given_are_allowed(site: Site) -> None:
    site.install("short", "@hookimpl\ndef citychain_find_city(): ...\n")
    registry = site.load()
    assert registry.records[0].status == "active"
    assert registry.find_city("anything") is None


def test_arguments_with_defaults_are_the_plugins_own(site: Site) -> None:
    site.install(
        "own",
        "@hookimpl\ndef citychain_find_city(name, slug='kyoto'):\n"
        "    return CityDefinition(slug=slug)\n",
    )
    assert site.load().find_city("anything") == CityDefinition(slug="kyoto")


def test_a_wrapper_is_refused(reason: Reason) -> None:
    source = "@hookimpl(wrapper=True)\ndef citychain_cities():\n    return (yield)\n"
    assert "wraps other plugins" in reason(source)


@pytest.mark.parametrize(
    ("hook", "body", "message"),
    [
        ("cities", "return None", "returned a NoneType; yield each city instead"),
        ("cities", "return 'kyoto'", "returned a str; yield each city instead"),
        ("cities", "return CityDefinition(slug='kyoto')", "yield each city instead"),
        ("cities", "yield 'kyoto'", "gave a str where a CityDefinition is needed"),
        ("cities", "yield CityDefinition(slug='Kyoto')", "the slug 'Kyoto' must be"),
        ("cities", "yield CityDefinition(slug='kyoto\\n')", "the slug 'kyoto\\n' must be"),
        ("cities", "yield CityDefinition(slug='k', aliases='京都')", "('金沢',)"),
        ("cities", "yield CityDefinition(slug='k', aliases=(1,))", "1 in titles or aliases"),
        ("cities", "yield CityDefinition(slug='k', aliases=('',))", "a name is needed"),
        ("cities", "yield CityDefinition(slug='k', titles=['K'])", "titles must map"),
        ("cities", "yield CityDefinition(slug='k', region=5)", "region must be"),
        ("cities", "yield CityDefinition(slug='k', parent=5)", "parent must be"),
        ("cities", "yield CityDefinition(slug='k', dag=None)", "dag must be the name"),
        ("cities", "yield CityDefinition(slug='k', dag_options=5)", "dag_options must map"),
        ("cities", "yield CityDefinition(slug='k'); raise ValueError('no')", "ValueError: no"),
        ("cities", "raise SystemExit(1)", "citychain_cities failed: SystemExit"),
        ("storage_backends", "yield StorageDefinition('My', print)", "the name 'My' must be"),
        ("storage_backends", "yield StorageDefinition('s', 5)", "factory must be callable"),
        ("dag_handlers", "yield DagDefinition('d', print, dict)", "subclass of pydantic"),
        ("dag_handlers", "yield DagDefinition('d', print, version='1')", "version must be an"),
        ("consensus_steps", "yield StorageDefinition('s', print)", "ConsensusDefinition is"),
        ("commands", "yield CommandDefinition('Hello World', print)", "the name 'Hello World'"),
        ("interceptors", "yield print", "yield instances of grpc.aio.ServerInterceptor"),
    ],
)
def test_a_wrong_answer_of_a_hook_is_told(
    reason: Reason, hook: str, body: str, message: str
) -> None:
    assert message in reason(f"@hookimpl\ndef citychain_{hook}():\n    {body}\n")


@pytest.mark.parametrize(
    ("hook", "definition"),
    [
        ("storage_backends", "StorageDefinition"),
        ("dag_handlers", "DagDefinition"),
        ("consensus_steps", "ConsensusDefinition"),
    ],
)
def test_another_api_version_is_told(reason: Reason, hook: str, definition: str) -> None:
    source = (
        f"@hookimpl\ndef citychain_{hook}():\n"
        f"    yield {definition}(name='future', factory=print, api_version=2)\n"
    )
    assert reason(source) == (
        f"citychain_{hook}: future: made for api_version 2, this citychain has 1; "
        "install matching versions of both"
    )


def test_an_endless_list_is_cut_off(reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citychain.hooks.checks.OFFERS_MAX", 10)
    source = (
        "from itertools import count\n@hookimpl\ndef citychain_cities():\n"
        "    return (CityDefinition(slug=f'city-{i}') for i in count())\n"
    )
    assert "yielded more than 10; answer citychain_find_city instead" in reason(source)


# --- requirements -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        (
            "no-such-distribution>=2",
            "it requires no-such-distribution>=2, which is not installed; "
            "run: pip install 'no-such-distribution>=2'",
        ),
        ("pluggy>=99", "is installed; run: pip install 'pluggy>=99'"),
        ("pluggy>=99; python_version >= '3'", "run: pip install 'pluggy>=99'"),
        ("helped[turbo]", "it requires no-turbo, which is not installed"),
        ("pluggy >== 1", "malformed requirement"),
    ],
)
def test_an_unmet_requirement_is_told_before_the_import(
    site: Site, requirement: str, message: str
) -> None:
    library = site.folder / "helped-1.0.dist-info"
    library.mkdir()
    (library / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: helped\nVersion: 1.0\nProvides-Extra: turbo\n"
        'Requires-Dist: no-turbo; extra == "turbo"\n'
    )
    module = site.install("demanding", "1 / 0", requires=[requirement])
    (record,) = site.load().records
    assert record.status == "failed"
    assert message in record.reason
    assert module not in sys.modules


def test_requirements_that_do_not_apply_are_not_checked(site: Site) -> None:
    site.install(
        "modest",
        CITY.format(slug="modest"),
        requires=[
            "no-such-distribution; python_version < '3'",
            'no-such-distribution; extra == "more"',
            "pluggy>=1.7",
        ],
    )
    assert site.load().records[0].status == "active"


def test_an_entry_point_with_an_extra_needs_what_the_extra_requires(site: Site) -> None:
    site.install(
        "extra",
        CITY.format(slug="extra"),
        target=" [more]",
        requires=['no-such-distribution; extra == "more"'],
    )
    assert "requires no-such-distribution" in site.load().records[0].reason


# --- conflicts ----------------------------------------------------------------------


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


# --- catalogues ---------------------------------------------------------------------

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


# --- events -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "argument"), [("round_sealed", "sealed"), ("round_approved", "approved")]
)
def test_a_failing_listener_does_not_hurt_the_others(
    site: Site, caplog: pytest.LogCaptureFixture, event: str, argument: str
) -> None:
    source = f"told = []\n@hookimpl\ndef citychain_{event}(city, {argument}):\n    "
    for name in ("one", "three"):
        site.install(name, f"{source}told.append((city, {argument}))\n")
    site.install("broken", f"{source}raise SystemExit('no')\n")
    registry = site.load()
    assert registry.has_listeners(f"citychain_{event}")
    what = object()
    getattr(registry, event)("kyoto", what)
    for name in ("one", "three"):
        assert sys.modules[f"throwaway_{name}"].told == [("kyoto", what)]
    assert f"plugin broken:broken: citychain_{event} failed: SystemExit" in caplog.text


def test_nobody_listens_without_plugins() -> None:
    registry = load_plugins(entry_points=[])
    assert not registry.has_listeners("citychain_round_sealed")
    assert registry.interceptors() == ()


def test_a_plugin_that_is_left_out_hears_nothing(site: Site) -> None:
    listener = "told = []\n@hookimpl\ndef citychain_round_sealed(city):\n    told.append(city)\n"
    site.install("one", listener + CITY.format(slug="kyoto"))
    site.install("two", CITY.format(slug="kyoto"))
    registry = site.load()
    assert not registry.has_listeners("citychain_round_sealed")


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
