"""The demonstration, in small: real server, real kill."""

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from free_ports import free_address

from citychain.cli.demo.lie import Caught

STAND_IN = """
from citychain import CityDefinition, DagDefinition, Rejection, SealedRounds, hookimpl

class NoFables(SealedRounds):
    def validate(self, transaction, round):
        if transaction.action == "data" and b"atlantis" in transaction.content:
            return Rejection("RULE", "there is no such district")
        return None

@hookimpl
def citychain_dag_handlers():
    yield DagDefinition(name="no-fables", factory=lambda options, city: NoFables(city))

@hookimpl
def citychain_cities():
    yield CityDefinition(slug="kanazawa", dag="no-fables")
    yield CityDefinition(slug="kyoto", dag="random-tips")
    yield CityDefinition(slug="osaka-jp")
"""
"""The cities that the demonstration wants of plugins, in one, so that these tests need no other
package."""


@pytest.fixture
def stand_in(install: Callable[..., dict[str, str]]) -> Callable[[str], dict[str, str]]:
    def make(source: str = STAND_IN) -> dict[str, str]:
        return install("stand_in", source)

    return make


def demo(process: Any, cwd: Path, env: dict[str, str], *options: str) -> Any:
    return process("demo", "--transactions", "80", *options, cwd=cwd, env=env)


def test_everything_comes_to_what_it_must(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    ran = demo(process, tmp_path, stand_in(), "--json", "--dir", "here")
    assert ran.code == 0, ran.err
    record = ran.record
    assert record["differences"] == []
    assert [city["city"] for city in record["cities"]] == [
        "kanazawa",
        "kyoto",
        "osaka-jp",
        "springfield",
    ]
    assert [city["dag"] for city in record["cities"]] == [
        "no-fables",
        "random-tips",
        "sealed-rounds",
        "dependencies-only",
    ]
    assert sum(city["sent"] for city in record["cities"]) == 80
    for city in record["cities"]:
        assert city["receipts_valid"] == city["log_size"] == city["acknowledged"] - 1
    assert record["cities"][0]["rejected"]["RULE"] == 1
    lie = record["lie"]
    assert (lie["honest"], lie["lie"], lie["receipts"]) == ("APPROVED", "SEALED", 0)
    assert len(lie["refusals"]) == 3
    assert {"OVERDRAFT" in refusal for refusal in lie["refusals"]} == {True}
    assert "does not hold: verdict" in lie["audit"]
    assert "is killed (SIGKILL)" in ran.err
    assert (tmp_path / "here" / "citychain.toml").exists()


PARTS_OF_ITS_OWN = """
from citychain import ConsensusDefinition, StorageDefinition
from citychain.consensus.solo import Solo, SoloOptions
from citychain.dag.dependencies_only import DependenciesOnly
from citychain.storage.sqlite import SqliteBackend, SqliteOptions

@hookimpl
def citychain_storage_backends():
    yield StorageDefinition("cellar", SqliteBackend, SqliteOptions, api_version=2)

@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition("stamp", Solo, SoloOptions, api_version=2)

class Loose(DependenciesOnly):
    def __init__(self, options, city):
        super().__init__(city)

@hookimpl
def citychain_dag_handlers():
    yield DagDefinition("no-fables", lambda options, city: NoFables(city), api_version=2)
    yield DagDefinition("loose", Loose, api_version=2)

@hookimpl
def citychain_cities():
    yield CityDefinition(slug="kanazawa", dag="no-fables")
    yield CityDefinition(slug="kyoto", dag="random-tips")
    yield CityDefinition(slug="osaka-jp")
    yield CityDefinition(slug="harbour", storage="cellar", dag="loose", consensus="stamp")
"""


def test_a_plugins_city_runs_beside_the_others_with_parts_of_its_own(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    env = stand_in(STAND_IN + PARTS_OF_ITS_OWN)
    options = ("--transactions", "100", "--city", "harbour", "--json", "--dir", "here")
    ran = process("demo", *options, cwd=tmp_path, env=env)
    assert ran.code == 0, ran.err
    harbour = ran.record["cities"][-1]
    assert (harbour["city"], harbour["dag"], harbour["sent"]) == ("harbour", "loose", 20)
    assert harbour["receipts_valid"] == harbour["log_size"] == harbour["acknowledged"] - 1
    assert (tmp_path / "here" / "data" / "cellar").is_dir()


def test_a_city_that_nobody_has_is_told(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    options = ("--transactions", "100", "--city", "kyotto")
    ran = process("demo", *options, cwd=tmp_path, env=stand_in())
    assert ran.code == 2
    assert "--city kyotto: no installed plugin has this city" in ran.message
    assert "kyoto" in ran.message


@pytest.mark.parametrize("name", ["Kyoto", "x]\n[y", ""])
def test_what_is_no_slug_is_wrong_usage(process: Any, tmp_path: Path, name: str) -> None:
    options = ("--transactions", "100", "--city", name, "--dir", "here")
    ran = process("demo", *options, cwd=tmp_path)
    assert ran.code == 2
    assert "is not a slug" in ran.err
    assert not (tmp_path / "here").exists()


CATALOGUE = """
@hookimpl
def citychain_find_city(name):
    return CityDefinition(slug="harbour") if name in ("haven", "harbour") else None
"""


def test_another_name_of_a_city_is_told_its_slug(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    options = ("--transactions", "100", "--city", "haven")
    ran = process("demo", *options, cwd=tmp_path, env=stand_in(STAND_IN + CATALOGUE))
    assert ran.code == 2
    assert "--city haven: this is a name of the city harbour: write --city harbour" in ran.message


def test_five_cities_need_more_than_four(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    options = ("--transactions", "80", "--city", "harbour")
    ran = process("demo", *options, cwd=tmp_path, env=stand_in())
    assert ran.code == 2
    assert "5 cities need at least 100" in ran.err


def test_a_city_that_breaks_its_rule_makes_it_fail(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    lenient = STAND_IN.replace("atlantis", "lemuria")
    ran = demo(process, tmp_path, stand_in(lenient), "--dir", "here")
    assert ran.code == 1
    assert "difference: kanazawa: REJECTED RULE: 0, not 1" in ran.err
    assert "(breach): APPROVED, not REJECTED RULE" in ran.err
    assert "kanazawa" in ran.out


def test_a_lie_that_is_believed_makes_it_fail() -> None:
    believed = Caught(
        honest="APPROVED",
        lie="APPROVED",
        refusals=["no"] * 2,
        receipts=1,
        audit="all 2 rounds hold",
    )
    assert believed.differences == [
        "riverside: the lie is APPROVED, not SEALED",
        "riverside: 2 representatives refused, not 3",
        "riverside: the lie has a receipt",
        "riverside: the audit says all 2 rounds hold",
    ]


def test_missing_plugins_are_named(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    ran = demo(process, tmp_path, stand_in(STAND_IN.replace('"kyoto"', '"nara"')))
    assert ran.code == 2
    assert "pip install citychain-kyoto" in ran.message


def test_a_directory_is_not_used_twice(
    process: Any, stand_in: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "operator.key").write_text("precious")
    ran = demo(process, tmp_path, stand_in(), "--dir", ".")
    assert ran.code == 2
    assert "operator.key" in ran.message
    assert (tmp_path / "operator.key").read_text() == "precious"


def test_too_few_transactions_are_told(process: Any, tmp_path: Path) -> None:
    ran = process("demo", "--transactions", "79", cwd=tmp_path)
    assert ran.code == 2
    assert "--transactions" in ran.message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_it_is_stopped_its_server_is_stopped_too(
    start: Callable[..., Any],
    stand_in: Callable[..., dict[str, str]],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    running = start("demo", "--dir", "here", cwd=tmp_path, env=stand_in())
    ready = tmp_path / "here" / "address"
    end = time.monotonic() + 60
    while not ready.exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    host, port = ready.read_text().strip().split(":")
    running.send_signal(number)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "Traceback" not in err
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


def test_it_shows_its_cities_until_it_is_stopped_and_leaves_nothing(
    start: Callable[..., Any],
    stand_in: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> None:
    listen = free_address()
    env = stand_in() | {"TMPDIR": str(tmp_path)}
    running = start("demo", "--transactions", "80", "--explorer", listen, cwd=tmp_path, env=env)
    end = time.monotonic() + 300
    with httpx.Client(base_url=f"http://{listen}", trust_env=False) as browser:
        while True:
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < end
            try:
                shown = browser.get("/api/cities/springfield").json()
                break
            except httpx.TransportError:
                time.sleep(0.05)
        assert shown["head"]["approved_round"] > 0
        assert browser.get("/api/about").json()["submit"] is True
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert f"http://{listen}/" in err
    assert "Traceback" not in err
    assert not [*tmp_path.glob("citychain-demo-*")]
