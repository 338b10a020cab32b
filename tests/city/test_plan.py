"""A city's plan is a plugin's definition with the configuration over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from citychain.city.plan import CityPlan, define_city, plan_city
from citychain.config import PacerSettings, load_settings
from citychain.errors import ConfigurationError, NotFound
from citychain.hooks import (
    CityDefinition,
    ConsensusDefinition,
    DagDefinition,
    StorageDefinition,
    hookimpl,
)
from citychain.hooks.registry import load_plugins
from citychain.moving.home import home_file, write_home
from citychain.region import RegionOptions


class Tips(BaseModel):
    model_config = ConfigDict(extra="forbid")
    tips: int = 2
    window: int = 4


class Server(BaseModel):
    model_config = ConfigDict(extra="forbid")
    uri: str
    pool: int = 8
    wait: int = 1


class Surveyed(BaseModel):
    place: RegionOptions


def build(options: object, context: object) -> Any:
    raise AssertionError("planning builds nothing")


class Parts:
    """Stands in for the built-in parts."""

    @hookimpl
    def citychain_dag_handlers(self) -> Iterable[DagDefinition]:
        yield DagDefinition("sealed-rounds", build)
        yield DagDefinition("random-tips", build, Tips)

    @hookimpl
    def citychain_storage_backends(self) -> Iterable[StorageDefinition]:
        yield StorageDefinition("sqlite", build)
        yield StorageDefinition("mongodb", build, Server)

    @hookimpl
    def citychain_consensus_steps(self) -> Iterable[ConsensusDefinition]:
        yield ConsensusDefinition("solo", build)
        yield ConsensusDefinition("surveyed", build, Surveyed)


KYOTO = CityDefinition(
    slug="kyoto",
    titles={"en": "Kyoto", "ja": "京都市"},
    aliases=("京都", "Miyako"),
    parent="country-jp",
    dag="random-tips",
    dag_options={"tips": 3},
)


class Cities:
    """A plugin with one listed city and a catalogue of one more."""

    @hookimpl
    def citychain_cities(self) -> Iterable[CityDefinition]:
        yield KYOTO

    @hookimpl
    def citychain_find_city(self, name: str) -> CityDefinition | None:
        return CityDefinition("nara-jp", aliases=("奈良",)) if name in ("nara", "nara-jp") else None


Plan = Callable[..., CityPlan]
REGISTRY = load_plugins(builtin=[Parts(), Cities()], entry_points=[])


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Plans a city with a configuration file."""

    def plan(slug: str, text: str = "") -> CityPlan:
        path = tmp_path / "citychain.toml"
        path.write_text(text, "utf-8")
        return plan_city(slug, load_settings(path, environment={}), REGISTRY)

    return plan


def test_without_configuration_the_definition_stands(plan: Plan) -> None:
    kyoto = plan("kyoto")
    assert kyoto.source == "citychain"
    assert (kyoto.titles, kyoto.aliases, kyoto.parent) == (
        KYOTO.titles,
        KYOTO.aliases,
        "country-jp",
    )
    assert (kyoto.storage.name, kyoto.dag.name, kyoto.consensus.name) == (
        "sqlite",
        "random-tips",
        "solo",
    )
    assert kyoto.dag.definition is REGISTRY.dag_handlers["random-tips"]
    assert kyoto.dag.options == Tips(tips=3)
    assert kyoto.pacer == PacerSettings()
    assert kyoto.open == "lazy"
    assert kyoto.balances == {}


def test_the_configuration_goes_over_the_definition_key_by_key(plan: Plan) -> None:
    kyoto = plan(
        "kyoto",
        """
        server.open = "eager"
        [cities.kyoto]
        titles = { fr = "Kyōto", en = "City of Kyoto" }
        dag_options = { window = 9 }
        pacer = { max_tx = 5 }
        """,
    )
    assert kyoto.titles == {"en": "City of Kyoto", "ja": "京都市", "fr": "Kyōto"}
    assert kyoto.aliases == KYOTO.aliases
    assert kyoto.dag.options == Tips(tips=3, window=9)
    assert kyoto.pacer == PacerSettings(max_tx=5)
    assert kyoto.open == "eager"


def test_aliases_are_replaced(plan: Plan) -> None:
    assert plan("kyoto", "[cities.kyoto]\naliases = []").aliases == ()


def test_files_in_options_are_relative_to_the_configuration(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    map_of_uji = """{"type": "FeatureCollection", "features": [{"type": "Feature",
        "properties": {"code": 26204}, "geometry": {"type": "Polygon",
        "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}}]}"""
    (tmp_path / "map.geojson").write_text(map_of_uji)
    (tmp_path / "elsewhere").mkdir()
    place = "{file = 'map.geojson', property = 'code', value = '26204'}"
    uji = f"[cities.uji]\nconsensus = 'surveyed'\nconsensus_options.place = {place}\n"
    plan("uji", uji)
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = plan("uji", uji).consensus.options
    assert isinstance(options, Surveyed)
    assert options.place.locate(1, 2).is_inside
    with pytest.raises(ConfigurationError, match=r"citychain.toml:3: .*place: .*has code = '9'"):
        plan("uji", uji.replace("26204", "9"))


def test_options_of_a_part_that_is_not_used_are_dropped(plan: Plan) -> None:
    assert plan("kyoto", "[cities.kyoto]\ndag = 'sealed-rounds'").dag.name == "sealed-rounds"
    kyoto = plan("kyoto", "[cities.kyoto]\ndag = 'random-tips'\ndag_options = {window = 5}")
    assert kyoto.dag.options == Tips(tips=3, window=5)


def test_a_table_that_no_plugin_knows_is_a_city_of_its_own(plan: Plan) -> None:
    uji = plan("uji", "[cities.uji]\naliases = ['宇治']\nnum_hashes = 5\nhold_rounds = 6")
    assert (uji.slug, uji.source, uji.aliases) == ("uji", "configuration", ("宇治",))
    assert (uji.num_hashes, uji.hold_rounds) == (5, 6)
    assert (uji.storage.name, uji.dag.name, uji.consensus.name) == (
        "sqlite",
        "sealed-rounds",
        "solo",
    )


def test_a_city_of_a_catalogue_can_be_configured(plan: Plan) -> None:
    nara = plan("nara-jp", "[cities.nara-jp]\ndag = 'random-tips'")
    assert (nara.source, nara.aliases, nara.dag.name) == ("citychain", ("奈良",), "random-tips")


def test_a_slug_that_is_only_a_name_of_a_catalogues_city_is_free(plan: Plan) -> None:
    assert plan("nara", "[cities.nara]\n").source == "configuration"
    with pytest.raises(NotFound):
        plan("nara")


def test_an_unknown_city_is_not_found(plan: Plan) -> None:
    with pytest.raises(NotFound, match="no city 'atlantis'"):
        plan("atlantis")


def test_storage_is_a_table_or_a_backend_by_its_name(plan: Plan) -> None:
    main = "[storage.main]\nbackend = 'mongodb'\nuri = 'mongodb://h'\n"
    storage = plan("uji", main + "[cities.uji]\nstorage = 'main'").storage
    assert storage.name == "main"
    assert storage.definition is REGISTRY.storage_backends["mongodb"]
    assert storage.options == Server(uri="mongodb://h")


def test_cities_configured_alike_share_an_engine_and_others_do_not(plan: Plan) -> None:
    main = (
        "[storage.main]\nbackend = 'mongodb'\nuri = 'mongodb://h'\n[cities.uji]\nstorage='main'\n"
    )
    common = plan("uji", main).storage
    own = plan("uji", main + "storage_options = {pool = 3, wait = 2}").storage
    again = plan("uji", main + "storage_options = {wait = 2, pool = 3}").storage
    other = plan("uji", main + "storage_options = {wait = 2, pool = 4}").storage
    assert own.options == Server(uri="mongodb://h", pool=3, wait=2)
    assert own.name == again.name
    assert len({common.name, own.name, other.name}) == 3


def test_what_a_storage_lacks_a_city_may_give(plan: Plan) -> None:
    main = "[storage.main]\nbackend = 'mongodb'\npool = 3\n[cities.uji]\nstorage='main'\n"
    own = plan("uji", main + "storage_options = {uri = 'mongodb://h'}").storage
    assert own.options == Server(uri="mongodb://h", pool=3)
    with pytest.raises(ConfigurationError, match=r"storage\.main\.uri: is missing"):
        plan("uji", main)
    many = main.replace("3", "'many'") + "storage_options = {uri = 'mongodb://h'}"
    with pytest.raises(ConfigurationError, match=r"toml:3: storage\.main\.pool"):
        plan("uji", many)


def test_a_city_that_was_moved_lives_there_whatever_is_configured(
    plan: Plan, tmp_path: Path
) -> None:
    text = (
        f"data_dir = '{tmp_path}'\n[storage.main]\nbackend = 'mongodb'\nuri = 'mongodb://h'\n"
        "[cities.uji]\nstorage='gone'\nstorage_options = {x = 1}\n"
    )
    with pytest.raises(ConfigurationError, match="gone"):
        plan("uji", text)
    write_home(tmp_path, "uji", "main")
    moved = plan("uji", text)
    assert (moved.storage.name, moved.storage.options) == ("main", Server(uri="mongodb://h"))
    assert moved.configured_storage == "gone with storage_options"
    home_file(tmp_path, "uji").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"homes/uji\.json: must be"):
        plan("uji", text)


def test_secrets_stay_out_of_a_plans_repr(plan: Plan) -> None:
    text = (
        "[storage.main]\nbackend = 'mongodb'\nuri = 'mongodb://u:hunter2@h'\n"
        "[cities.uji]\nstorage = 'main'"
    )
    assert "hunter2" not in repr(plan("uji", text))


@pytest.mark.parametrize(
    ("slug", "text", "told"),
    [
        (
            "uji",
            "[cities.uji]\ndag = 'sealed-round'",
            "citychain.toml:2: city uji (configuration): no DAG handler 'sealed-round'; "
            "known: random-tips, sealed-rounds; did you mean sealed-rounds?",
        ),
        (
            "uji",
            "[storage.main]\nbackend = 'mongo'\n[cities.uji]\nstorage = 'main'",
            "citychain.toml:2: city uji (configuration): no storage backend 'mongo'; "
            "known: mongodb, sqlite; did you mean mongodb?",
        ),
        (
            "uji",
            "[cities.uji]\nstorage = 'sqlit'",
            "citychain.toml:2: city uji (configuration): no storage backend 'sqlit'",
        ),
        (
            "uji",
            "[cities.uji]\nconsensus = 'sole'",
            "citychain.toml:2: city uji (configuration): no consensus step 'sole'",
        ),
        (
            "kyoto",
            "[cities.kyoto.dag_options]\nwindw = 3",
            "city kyoto (citychain): citychain.toml:2: cities.kyoto.dag_options.windw: "
            "unknown key; did you mean window?",
        ),
        (
            "uji",
            "[storage.main]\nbackend = 'mongodb'\n[cities.uji]\nstorage = 'main'",
            "city uji (configuration): citychain.toml:1: storage.main.uri: is missing",
        ),
        (
            "uji",
            "[storage.main]\nbackend = 'mongodb'\nuri = 'x'\n[cities.uji]\nstorage = 'main'\n"
            "storage_options.pool = 'many'",
            "city uji (configuration): citychain.toml:6: cities.uji.storage_options.pool: must be",
        ),
        (
            "uji",
            "[cities.uji]\ndag_options = {tips = 3}",
            "city uji (configuration): citychain.toml:2: cities.uji.dag_options.tips: unknown key",
        ),
    ],
)
def test_a_wrong_part_or_option_is_told_with_its_place(
    plan: Plan, tmp_path: Path, slug: str, text: str, told: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        plan(slug, text)
    assert str(raised.value).replace(f"{tmp_path}/", "").startswith(told)


def test_a_definition_is_made_without_looking_at_parts() -> None:
    settings = load_settings(environment={}, cities={"uji": {"dag": "not-installed"}})
    city, source = define_city("uji", settings, REGISTRY)
    assert (city.dag, source) == ("not-installed", "configuration")
