"""Settings come from where they should, and a wrong one is told with its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from citychain import config
from citychain.config import (
    CitySettings,
    LimitsSettings,
    PacerSettings,
    Settings,
    get_dynamic_batch_interval,
    load_settings,
)
from citychain.errors import ConfigurationError

KEY_ID = "ab" * 32

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No citychain.toml of the working directory is found."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a citychain.toml."""

    def write(text: str) -> Path:
        path = tmp_path / "citychain.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def fault(path: Path | None, **environment: str) -> str:
    """What `load_settings` says of a wrong setting, without the folder."""
    with pytest.raises(ConfigurationError) as raised:
        load_settings(path, environment=environment)
    return str(raised.value).replace(f"{path.parent}/" if path else "\0", "")


# --- sources ---------------------------------------------------------------------------


def test_defaults_without_any_source() -> None:
    settings = load_settings(environment={})
    assert settings.model_dump() == Settings().model_dump()
    assert settings.network == config.DEFAULT_NETWORK
    assert settings.server.listen == config.DEFAULT_LISTEN
    assert settings.plugins.allow is None
    assert settings.limits.pending_bytes == 128 * 1024 * 1024
    assert settings.limits.body_bytes == 256 * 1024


def test_every_table_of_the_file_is_read(write: Write) -> None:
    settings = load_settings(
        write(
            f"""
            network = "test"
            [server]
            listen = "[::]:0"
            tls = {{ certificate = "server.crt", key = "/etc/server.key" }}
            drain_seconds = 3
            max_message_mib = 16
            open = "eager"
            [plugins]
            allow = ["kanazawa"]
            disabled = ["kyoto"]
            [pacer]
            min_seconds = 0.2
            max_seconds = 4
            max_tx = 100
            [limits]
            pending_transactions = 10
            pending_mib = 1
            author_pending = 5
            body_kib = 2
            [crypto]
            prepared_keys = 1
            public_keys = 2
            [storage.main]
            backend = "mongodb"
            uri = "mongodb://localhost"
            [cities.kanazawa]
            titles = {{ ja = "金沢市" }}
            aliases = ["金沢"]
            storage = "main"
            dag = "random-tips"
            dag_options = {{ tips = 3 }}
            open = "lazy"
            balances.gold = {{ {KEY_ID} = 5 }}
            """
        ),
        environment={},
    )
    assert settings.network == "test"
    assert settings.server.open == "eager"
    assert settings.server.listen == "[::]:0"
    assert settings.server.tls is not None
    assert settings.server.tls.certificate == settings.folder / "server.crt"
    assert settings.server.tls.key == Path("/etc/server.key")
    assert settings.plugins.allow == ("kanazawa",)
    assert settings.pacer == PacerSettings(min_seconds=0.2, max_seconds=4, max_tx=100)
    assert settings.limits.author_pending == 5
    assert settings.crypto.public_keys == 2
    assert settings.storage["main"].backend == "mongodb"
    assert settings.storage["main"].options == {"uri": "mongodb://localhost"}
    city = settings.cities["kanazawa"]
    assert (city.titles, city.aliases) == ({"ja": "金沢市"}, ("金沢",))
    assert (city.storage, city.dag, city.consensus) == ("main", "random-tips", None)
    assert city.dag_options == {"tips": 3}
    assert city.balances == {"gold": {KEY_ID: 5}}


def test_arguments_win_over_the_environment_and_that_over_the_file(write: Write) -> None:
    path = write("network = 'file'\n[pacer]\nmax_tx = 1\nmin_seconds = 0.5\n[server]\nopen='eager'")
    settings = load_settings(
        path,
        environment={"CITYCHAIN_NETWORK": "environment", "CITYCHAIN_PACER__MAX_TX": "2"},
        network="argument",
    )
    assert settings.network == "argument"
    assert settings.pacer == PacerSettings(max_tx=2, min_seconds=0.5)
    assert settings.server.open == "eager"


def test_the_environment_reaches_into_tables() -> None:
    settings = load_settings(
        environment={
            "CITYCHAIN_PLUGINS__DISABLED": '["kyoto"]',
            "CITYCHAIN_STORAGE__MAIN__BACKEND": "mongodb",
            "CITYCHAIN_STORAGE__MAIN__PASSWORD": "123",
            "CITYCHAIN_CITIES__NARA__ALIASES": '["奈良"]',
            "CITYCHAIN_CITIES__NARA__PACER__MAX_TX": "7",
            "CITYCHAIN_CITIES__NARA__DAG_OPTIONS": '{"tips": 3}',
        }
    )
    assert settings.plugins.disabled == ("kyoto",)
    assert settings.storage["main"].options == {"password": "123"}
    assert settings.cities["nara"].aliases == ("奈良",)
    assert settings.cities["nara"].pacer == PacerSettings(max_tx=7)
    assert settings.cities["nara"].dag_options == {"tips": 3}


def test_a_secret_is_read_from_the_file_that_its_variable_names(tmp_path: Path) -> None:
    (tmp_path / "uri").write_text("mongodb://u:12@h\n")
    environment = {
        "CITYCHAIN_STORAGE__MAIN__BACKEND": "mongodb",
        "CITYCHAIN_STORAGE__MAIN__URI_FILE": str(tmp_path / "uri"),
    }
    settings = load_settings(environment=environment)
    assert settings.storage["main"].options == {"uri": "mongodb://u:12@h"}
    direct = {"CITYCHAIN_STORAGE__MAIN__URI": "direct"}
    for both in ({**environment, **direct}, {**direct, **environment}):
        assert load_settings(environment=both).storage["main"].options == {"uri": "direct"}


def test_the_address_of_mongodb_comes_from_its_own_variable_where_no_table_has_one(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "address").write_text("mongodb://u:12@h\n")
    file = write(
        """
        [storage.main]
        backend = "mongodb"
        database = "tokyo"
        [storage.own]
        backend = "mongodb"
        uri_file = "uri"
        [storage.local]
        backend = "sqlite"
        """
    )
    variables = {"MONGODB_URI": "mongodb://h"}, {"MONGODB_URI_FILE": str(tmp_path / "address")}
    for environment, uri in zip(variables, ("mongodb://h", "mongodb://u:12@h"), strict=True):
        storage = load_settings(file, environment=environment).storage
        assert {name: table.options for name, table in storage.items()} == {
            "main": {"database": "tokyo", "uri": uri},
            "own": {"uri_file": "uri"},
            "local": {},
            "mongodb": {"uri": uri},
        }
    assert "mongodb" not in load_settings(file, environment={}).storage


def test_the_operator_key_is_a_path_under_both_names() -> None:
    for name in ("CITYCHAIN_OPERATOR_KEY", "CITYCHAIN_OPERATOR_KEY_FILE"):
        settings = load_settings(environment={name: "/run/secrets/operator"})
        assert settings.operator_key == Path("/run/secrets/operator")


def test_paths_in_the_file_are_relative_to_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write("data_dir = 'ledgers'\n[cities.nara]\ngenesis = 'nara.json'\n")
    settings = load_settings(path, environment={"CITYCHAIN_OPERATOR_KEY": "my.key"})
    assert settings.data_dir == tmp_path / "ledgers"
    assert settings.cities["nara"].genesis == tmp_path / "nara.json"
    assert settings.operator_key == Path("my.key")
    assert settings.folder == tmp_path
    assert load_settings(path, environment={}).operator_key == tmp_path / "operator.key"
    assert load_settings(environment={}).folder == Path()


def test_the_file_is_found_by_variable_and_in_the_working_directory(
    write: Write, tmp_path: Path
) -> None:
    named = write("network = 'named'").rename(tmp_path / "named.toml")
    write("network = 'found'")
    assert load_settings(environment={"CITYCHAIN_CONFIG": str(named)}).network == "named"
    assert load_settings(environment={}).network == "found"


def test_calling_the_class_reads_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("network = 'found'")
    monkeypatch.setenv("CITYCHAIN_NETWORK", "environment")
    assert Settings().network == config.DEFAULT_NETWORK


def test_a_citys_pacer_and_limits_start_from_the_general_ones(write: Write) -> None:
    settings = load_settings(
        write(
            "[pacer]\nmax_seconds = 9\n[limits]\nbody_kib = 1\n"
            "[cities.nara.pacer]\nmax_tx = 3\n[cities.nara.limits]\npending_mib = 2\n[cities.uji]\n"
        ),
        environment={},
    )
    assert settings.cities["nara"].pacer == PacerSettings(max_seconds=9, max_tx=3)
    assert settings.cities["nara"].limits == LimitsSettings(body_kib=1, pending_mib=2)
    assert settings.cities["uji"].pacer is None


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().network = "other"
    with pytest.raises(ValidationError, match="frozen"):
        CitySettings().dag = "other"


# --- faults ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[server]\n\nlistn = 'x'",
            "citychain.toml:3: server.listn: unknown key; did you mean listen?",
        ),
        ("netwrok = 'x'", "citychain.toml:1: netwrok: unknown key; did you mean network?"),
        ("[servr]\nopen = 'lazy'", "citychain.toml:1: servr: unknown key; did you mean server?"),
        (
            "[cities.nara]\ndagg = 'x'",
            "citychain.toml:2: cities.nara.dagg: unknown key; did you mean dag?",
        ),
        (
            "cities.nara.pacer.max_txs = 5",
            "citychain.toml:1: cities.nara.pacer.max_txs: unknown key; did you mean max_tx?",
        ),
        ("[cities.nara]\nxyz = 1", "citychain.toml:2: cities.nara.xyz: unknown key"),
        ("[server]\nopen = 'lzy'", "citychain.toml:2: server.open: must be 'lazy' or"),
        (
            "[server]\nlisten = '0.0.0.0:1'",
            "citychain.toml:1: server: listen = 0.0.0.0:1 can be reached from other machines, and "
            "nothing is encrypted: give [server.tls] a certificate and key, or listen on "
            "127.0.0.1, or say plaintext = true",
        ),
        ("[server.tls]\ncertificate = 'a'", "citychain.toml:1: server.tls.key: is missing"),
        (
            "[server]\nplaintext = true\ntls = { certificate = 'a', key = 'b' }",
            "citychain.toml:1: server: has tls and plaintext: give one of them",
        ),
        (
            "[peers.nara.tls]\nca = 'a'\nkey = 'b'",
            "citychain.toml:1: peers.nara.tls: give certificate and key, or neither",
        ),
        ("[server]\nlisten = 'here'", "citychain.toml:2: server.listen: write it as host:port"),
        ("[server]\nlisten = 'h:99999'", "citychain.toml:2: server.listen: write it as host:port"),
        ("[pacer]\nmin_seconds = 3", "citychain.toml:1: pacer: min_seconds must not be greater"),
        ("[pacer]\nmin_seconds = 0", "citychain.toml:2: pacer.min_seconds: must be more than 0"),
        ("[storage.main]\nuri = 'x'", "citychain.toml:1: storage.main.backend: is missing"),
        ("[cities.Nara]", "citychain.toml:1: cities.Nara: is no slug: write"),
        ("[cities.nara]\naliases = ['']", "citychain.toml:2: cities.nara.aliases.0: a name is"),
        ("[cities.nara]\naliases = 'x'", "citychain.toml:2: cities.nara.aliases: must be a list"),
        (
            "[cities.nara.balances]\ngold = { ab = 5 }",
            "citychain.toml:2: cities.nara.balances.gold.ab: String should match",
        ),
        (
            f"[cities.nara.balances.gold]\n{KEY_ID} = -1",
            f"citychain.toml:2: cities.nara.balances.gold.{KEY_ID}: must be at least",
        ),
        ("[server\n", "citychain.toml: Expected ']'"),
        ("network = 5 5", "citychain.toml: "),
    ],
)
def test_a_wrong_setting_is_told_with_its_line(write: Write, text: str, told: str) -> None:
    assert fault(write(text)).startswith(told)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    file = tmp_path / "nope.toml"
    assert fault(file) == "nope.toml: cannot be read: No such file or directory"


def test_all_faults_are_told_at_once(write: Write) -> None:
    told = fault(write("[server]\nopen = 'x'\n[pacer]\nmax_tx = 'x'")).splitlines()
    assert [line.split(": ")[:2] for line in told] == [
        ["citychain.toml:2", "server.open"],
        ["citychain.toml:4", "pacer.max_tx"],
    ]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CITYCHAIN_SERVER__LISTN", "x", "CITYCHAIN_SERVER__LISTN: server.listn: unknown key; did"),
        (
            "CITYCHAIN_PACER__MAX_TX",
            "x",
            "CITYCHAIN_PACER__MAX_TX: pacer.max_tx: must be a",
        ),
        ("CITYCHAIN_DATADIR", "x", "CITYCHAIN_DATADIR: there is no setting datadir; did you mean"),
        ("CITYCHAIN_FOO__BAR", "x", "CITYCHAIN_FOO__BAR: there is no setting foo"),
        (
            "CITYCHAIN_PLUGINS__ALLOW",
            "kyoto",
            "CITYCHAIN_PLUGINS__ALLOW: plugins.allow: must be",
        ),
        ("CITYCHAIN_SERVER", "{no json}", "environment: error parsing value for field"),
        ("CITYCHAIN_CONFIG", "/no/such/file", "/no/such/file: "),
        ("CITYCHAIN_STORAGE__M__URI_FILE", "/no/such", "CITYCHAIN_STORAGE__M__URI_FILE: /no/such"),
    ],
)
def test_a_wrong_variable_is_told_by_name(name: str, value: str, told: str) -> None:
    assert fault(None, **{name: value}).startswith(told)


@pytest.mark.parametrize(
    "name",
    [
        # Kubernetes sets these for a service called citychain.
        "CITYCHAIN_PORT",
        "CITYCHAIN_PORT_50051_TCP_ADDR",
        "CITYCHAIN_SERVICE_HOST",
        "CITYCHAIN_SERVICE_PORT",
        "CITYCHAIN_SERVICE_PORT_GRPC",
        "CITYCHAIN_TOKEN_FILE",
    ],
)
def test_foreign_variables_are_left_alone(name: str) -> None:
    settings = load_settings(environment={name: "tcp://10.0.0.1:1"})
    assert settings.model_dump() == Settings().model_dump()


def test_secrets_stay_out_of_reprs_and_faults(write: Write) -> None:
    secret = "mongodb://user:hunter2@host"
    path = write(
        f"[storage.main]\nbackend = 'mongodb'\nuri = '{secret}'\n"
        f"[cities.nara.storage_options]\nuri = '{secret}'\n"
    )
    settings = load_settings(path, environment={})
    assert settings.storage["main"].options["uri"] == secret
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)
    told = fault(write(f"[storage.main]\nbackend = '{secret}'"))
    assert "storage.main.backend" in told
    assert "hunter2" not in told
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate({"storage": {"main": {"backend": secret}}})
    assert "hunter2" not in str(raised.value)


# --- pacer ---------------------------------------------------------------------------------

PACER = PacerSettings(min_seconds=0.2, max_seconds=2, max_tx=100)


@pytest.mark.parametrize(
    ("pending", "current", "next_interval"),
    [
        (101, 1.5, 0.2),
        (100, 1.5, 1.4),
        (1, 1.5, 1.4),
        (1, 0.25, 0.2),
        (0, 1.0, 1.5),
        (0, 1.75, 2.0),
        (0, 2.0, 2.0),
    ],
)
def test_the_batch_interval_follows_the_load(
    pending: int, current: float, next_interval: float
) -> None:
    interval = get_dynamic_batch_interval(pending, timedelta(seconds=current), PACER)
    assert interval == timedelta(seconds=next_interval)


@given(st.lists(st.integers(0, 300), max_size=50))
def test_the_batch_interval_stays_within_its_bounds(loads: list[int]) -> None:
    interval = timedelta(seconds=1)
    for pending in loads:
        interval = get_dynamic_batch_interval(pending, interval, PACER)
        assert timedelta(seconds=0.2) <= interval <= timedelta(seconds=2)


def test_more_cities_come_from_other_files(write: Write, tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(
        "[cities.nara]\ndag = 'random-tips'\nnum_hashes = 5\n[cities.uji]\ngenesis = 'uji.json'\n"
    )
    (tmp_path / "last.toml").write_text("[cities.nara]\nnum_hashes = 6\nhold_rounds = 7\n")
    path = write("cities_from = ['more.toml', 'last.toml']\n[cities.nara]\ndag = 'sealed-rounds'\n")
    settings = load_settings(path, environment={"CITYCHAIN_CITIES__UJI__NUM_HASHES": "9"})
    nara, uji = settings.cities["nara"], settings.cities["uji"]
    assert (nara.dag, nara.num_hashes, nara.hold_rounds) == ("sealed-rounds", 5, 7)
    assert (uji.genesis, uji.num_hashes) == (tmp_path / "uji.json", 9)
    assert settings.cities_from == (tmp_path / "more.toml", tmp_path / "last.toml")
    assert set(settings.own_cities) == {"nara", "uji"}
    assert load_settings(path, environment={}).own_cities == ("nara",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cities.nara]\ndags = 1\n", r"more.toml:2: cities.nara.dags: unknown key; did you mean"),
        ("\nnetwork = 'x'\n", r"more.toml:2: network: only \[cities.SLUG\] tables can stand in"),
        ("[cities", "more.toml: "),
    ],
)
def test_what_is_wrong_in_another_file_is_told_with_its_place(
    write: Write, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "more.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(write("cities_from = ['more.toml']"), environment={})
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        load_settings(write("cities_from = ['none.toml']"), environment={})
    with pytest.raises(ConfigurationError, match=r"citychain\.toml:1: cities_from"):
        load_settings(write("cities_from = 5"), environment={})
