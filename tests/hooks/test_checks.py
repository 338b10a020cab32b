"""What is wrong with one plugin is told, and concerns no other."""

from __future__ import annotations

import sys

import pytest
from throwaway import CITY, Reason, Site

from citychain.hooks import CityDefinition


def test_a_failing_import_names_the_error(reason: Reason) -> None:
    assert reason("1 / 0") == (
        "its import failed: ZeroDivisionError: division by zero; mend or disable the plugin"
    )


def test_a_missing_module_is_named(reason: Reason) -> None:
    assert "there is no module 'no_such_module'; install" in reason("import no_such_module")


def test_exit_at_import_does_not_end_the_server(reason: Reason) -> None:
    assert "its import failed: SystemExit: 3" in reason("import sys; sys.exit(3)")


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
        ("cities", "yield 'kyoto'", "gave a str; give a CityDefinition"),
        ("cities", "yield CityDefinition(slug='Kyoto')", "'Kyoto' is not a slug; write 1 to 63"),
        ("cities", "yield CityDefinition(slug='kyoto\\n')", "'kyoto\\n' is not a slug"),
        ("cities", "yield CityDefinition(slug='k', aliases='京都')", "('金沢',)"),
        ("cities", "yield CityDefinition(slug='k', aliases=(1,))", "1 in titles or aliases"),
        ("cities", "yield CityDefinition(slug='k', aliases=('',))", "a name is needed"),
        ("cities", "yield CityDefinition(slug='k', titles=['K'])", "map a language tag to a title"),
        ("cities", "yield CityDefinition(slug='k', region=5)", "write a Disc or None"),
        ("cities", "yield CityDefinition(slug='k', parent=5)", "write a slug or None"),
        ("cities", "yield CityDefinition(slug='k', dag=None)", "dag is not a name"),
        ("cities", "yield CityDefinition(slug='k', dag_options=5)", "dag_options is not a mapping"),
        ("cities", "yield CityDefinition(slug='k'); raise ValueError('no')", "ValueError: no"),
        ("cities", "raise SystemExit(1)", "citychain_cities failed: SystemExit"),
        (
            "storage_backends",
            "yield StorageDefinition('My', print)",
            "'My' is not a name; write 1 to 63",
        ),
        ("storage_backends", "yield StorageDefinition('s', 5)", "factory cannot be called"),
        ("dag_handlers", "yield DagDefinition('d', print, dict)", "subclass of pydantic"),
        (
            "dag_handlers",
            "yield DagDefinition('d', print, version='1')",
            "version '1'; write an integer",
        ),
        ("consensus_steps", "yield StorageDefinition('s', print)", "give a ConsensusDefinition"),
        ("fragment_stores", "yield 'shelf'", "gave a str; give a FragmentStoreDefinition"),
        ("fragment_stores", "return None", "yield each fragment store instead"),
        (
            "commands",
            "yield CommandDefinition('Hello World', print)",
            "'Hello World' is not a name",
        ),
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
        ("fragment_stores", "FragmentStoreDefinition"),
    ],
)
def test_another_api_version_is_told(reason: Reason, hook: str, definition: str) -> None:
    source = (
        f"@hookimpl\ndef citychain_{hook}():\n"
        f"    yield {definition}(name='future', factory=print, api_version=99)\n"
    )
    assert reason(source) == (
        f"citychain_{hook}: future: made for api_version 99, and this citychain has 1 to 2; "
        "install matching versions of both"
    )


def test_an_endless_list_is_cut_off(reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citychain.hooks.checks.OFFERS_MAX", 10)
    source = (
        "from itertools import count\n@hookimpl\ndef citychain_cities():\n"
        "    return (CityDefinition(slug=f'city-{i}') for i in count())\n"
    )
    assert "yielded more than 10; answer citychain_find_city instead" in reason(source)


# --- requirements ---


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


def test_extras_that_require_each_other_are_looked_at_once(site: Site) -> None:
    site.install(
        "ring", "", requires=['round[y]; extra == "x"', 'no-such-distribution; extra == "x"']
    )
    site.install("round", CITY.format(slug="round"), requires=["ring[x]"], target=" [y]")
    round_info = site.folder / "round-1.0.dist-info" / "METADATA"
    round_info.write_text(round_info.read_text() + 'Requires-Dist: ring[x]; extra == "y"\n')
    _, record = site.load().records
    assert "requires no-such-distribution" in record.reason


def test_metadata_that_cannot_be_read_is_the_plugins_affair(site: Site) -> None:
    site.install("odd", "", requires=["helped"])
    site.install("sound", CITY.format(slug="sound"))
    info = site.folder / "helped-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_bytes(b"Name: helped\nVersion: \xff\n")
    odd, sound = site.load().records
    assert (odd.status, sound.status) == ("failed", "active")
    assert odd.reason.startswith("reading its requirements failed: UnicodeDecodeError")


def test_an_entry_point_with_an_extra_needs_what_the_extra_requires(site: Site) -> None:
    site.install(
        "extra",
        CITY.format(slug="extra"),
        target=" [more]",
        requires=['no-such-distribution; extra == "more"'],
    )
    assert "requires no-such-distribution" in site.load().records[0].reason
