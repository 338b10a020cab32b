"""``citychain prune``: what a server archived goes from its storage, and is read all the same."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citychain.cli import pruning
from citychain.errors import StoreUnavailable
from citychain.fragments.memory import MemoryStore
from citychain.fragments.sources import ROOTS_MAX
from citychain.keeping.stores import OpenStores
from citychain.ports import FragmentKey
from citychain.retention.pruner import Portion

CITY = ("--city", "hometown")
CONFIG = """
[fragments.stores.one]
kind = "directory"
path = "one"

[fragments.stores.two]
kind = "directory"
path = "two"

[archive]
every = "1s"
"""
DEEDS = 30
SIZE = 100_000


@pytest.fixture
def fresh(citychain: Any, tmp_path: Path) -> Path:
    for command in (["init"], ["keygen", "alice.key"]):
        assert citychain(*command, cwd=tmp_path).code == 0
    file = tmp_path / "citychain.toml"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    file.write_text(f'retention = "1s"\n{file.read_text()}{CONFIG}')
    return tmp_path


def archived(server: Any) -> None:
    """Wait until the server says that it archived a segment."""
    says(server, "are archived as")


def says(server: Any, words: str) -> None:
    watchdog = threading.Timer(60, server.process.kill)
    watchdog.start()
    try:
        assert any(words in line for line in server.process.stderr)
    finally:
        watchdog.cancel()


def due(citychain: Any, folder: Path) -> Any:
    """What a dry run says, once something is old enough."""
    end = time.monotonic() + 60
    while True:
        ran = citychain("prune", *CITY, "--dry-run", "--json", cwd=folder)
        assert ran.code == 0, (ran.out, ran.err)
        if ran.records[-1]["segments"] or time.monotonic() > end:
            return ran
        time.sleep(0.1)


def test_what_is_archived_is_pruned_and_still_read(
    citychain: Any, process: Any, start_server: Callable[..., Any], fresh: Path
) -> None:
    deeds = "".join(
        json.dumps({"data": f"{number} " + "x" * SIZE, "content_type": "text/plain"}) + "\n"
        for number in range(DEEDS)
    )
    (fresh / "deeds.jsonl").write_text(deeds)
    server = start_server(fresh)
    key = ("--key", "alice.key", "--json", "--wait", "approved")
    submitted = server.run("submit", *CITY, *key, "--jsonl", "deeds.jsonl")
    assert submitted.code == 0, (submitted.out, submitted.err)
    tx_id = submitted.records[0]["tx_id"]
    archived(server)
    assert server.run("prune", *CITY).message.endswith("prunes by itself; else stop it")
    assert server.end().code == 0

    dry = due(citychain, fresh)
    assert dry.records[0]["state"] == "DUE"
    told = dry.records[-1]
    assert told["transactions"] >= DEEDS
    assert told["bytes"] > DEEDS * SIZE
    assert (told["retention"], told["dry_run"], told["unproven"]) == ("1s", True, 0)
    assert told["storage_bytes"] == told["storage_bytes_before"]
    pruned = process("prune", *CITY, "--json", cwd=fresh)
    assert (pruned.code, pruned.err) == (0, "")
    assert [record["state"] for record in pruned.records[:-1]] == ["PRUNED"] * told["segments"]
    last = pruned.records[-1]
    assert last["transactions"] == told["transactions"]
    assert last["storage_bytes_before"] - last["storage_bytes"] > DEEDS * SIZE - 1_500_000
    again = citychain("prune", *CITY, cwd=fresh)
    assert (again.code, again.out) == (0, "")

    audited = citychain("audit", *CITY, "--storage", cwd=fresh)
    assert audited.code == 0, audited.err
    assert not audited.err.startswith("\n"), "a bar was drawn where nobody looks"
    server = start_server(fresh)
    shown = server.run("get", *CITY, tx_id, "--json").record
    assert (shown["state"], shown["pruned"]) == ("APPROVED", True)
    assert "data" not in shown
    assert server.run("dag", *CITY, tx_id).code == 0
    receipt = server.run("receipt", *CITY, tx_id, "-o", "receipt.json")
    assert receipt.code == 0
    genesis = server.run("cities", "hometown", "--save-genesis", "hometown.genesis")
    assert genesis.code == 0
    verified = server.run("verify", "receipt.json", "--genesis", "hometown.genesis")
    assert verified.code == 0, (verified.out, verified.err)
    # Whoever follows the server has everything, from the archive.
    audited = server.run("audit", *CITY, "--server", server.address)
    assert audited.code == 0, (audited.out, audited.err)
    assert server.end().code == 0
    # Without it, it is said what is lacking.
    file = fresh / "citychain.toml"
    file.write_text(file.read_text().replace(CONFIG, ""))
    server = start_server(fresh)
    audited = server.run("audit", *CITY, "--server", server.address)
    assert audited.code == 1
    assert "were pruned: this server has no store of the archive" in audited.err
    assert server.end().code == 0


def test_nothing_is_pruned_without_an_archive(citychain: Any, tmp_path: Path) -> None:
    for command in (["init"], ["keygen", "alice.key"]):
        assert citychain(*command, cwd=tmp_path).code == 0
    ran = citychain("prune", *CITY, cwd=tmp_path)
    assert ran.code == 2
    assert "no archive that could be proven" in ran.message


def test_a_lost_fragment_stops_it(
    citychain: Any, start_server: Callable[..., Any], fresh: Path
) -> None:
    server = start_server(fresh)
    options = ("--key", "alice.key", "--data", "deed", "--wait", "approved")
    assert server.run("submit", *CITY, *options).code == 0
    archived(server)
    end = time.monotonic() + 60
    while not (shown := server.run("cities", "hometown", "--json").record)["archived_round"]:
        assert shown["archived_time_ms"] is None
        assert time.monotonic() < end
    assert 0 < shown["archived_time_ms"] <= shown["approved_time_ms"]
    assert re.search(r"\narchived_time +20.*\+00:00\n", server.run("cities", "hometown").out)
    assert server.end().code == 0
    due(citychain, fresh)
    fragments = [file for file in (fresh / "one").rglob("*") if file.is_file()]
    for file in fragments:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    ran = citychain("prune", *CITY, "--json", cwd=fresh)
    assert ran.code == 1
    assert ran.records[0]["state"] == "UNPROVEN"
    assert ran.records[-1]["transactions"] == 0
    assert ran.records[-1]["away"] == []


def test_a_store_that_is_away_is_told(
    citychain: Any, start_server: Callable[..., Any], fresh: Path
) -> None:
    server = start_server(fresh)
    options = ("--key", "alice.key", "--data", "deed", "--wait", "approved")
    assert server.run("submit", *CITY, *options).code == 0
    archived(server)
    assert server.end().code == 0
    due(citychain, fresh)
    told = citychain("prune", *CITY, "--dry-run", cwd=fresh)
    assert re.search(
        r"^would go: \d+ transactions?, [\d,]+ bytes(; \d+ stays?)?: hometown keeps 1s$", told.err
    )
    (fresh / "two").rename(fresh / "away")
    ran = citychain("prune", *CITY, cwd=fresh)
    assert ran.code == 3
    assert "store two does not answer: " in ran.err
    assert ran.out.startswith("UNPROVEN")
    assert ran.out.splitlines()[0].endswith("; these stores do not answer: two")
    ran = citychain("prune", *CITY, "--json", cwd=fresh)
    assert (ran.code, ran.records[-1]["away"]) == (3, ["two"])
    (fresh / "away").rename(fresh / "two")
    assert citychain("prune", *CITY, cwd=fresh).code == 0


class Silent(MemoryStore):
    """Was opened, and does not answer any more."""

    async def find(self, object_id: bytes) -> Any:
        raise StoreUnavailable("it was unplugged")


async def test_a_store_that_ceases_to_answer_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def compute(function: Any, *args: Any) -> Any:
        return function(*args)

    stores = OpenStores({}, {"far": Silent(), "near": MemoryStore()}, {})
    away: dict[str, str] = {}
    portion = Portion(1, 2, "ab" * 32, why_not="it lacks something")
    told = await pruning._with_those_away(portion, stores, away, compute)
    assert told.why_not == "it lacks something; these stores do not answer: far"
    assert away.keys() == {"far"}
    assert capsys.readouterr().err == f"store far does not answer: {away['far']}\n"
    assert "it was unplugged" in away["far"]


class Boaster(MemoryStore):
    """Answers, and names more manifests than anybody looks at."""

    async def find(self, object_id: bytes) -> list[FragmentKey]:
        return [FragmentKey(object_id, bytes([n]) * 32, 0) for n in range(ROOTS_MAX + 1)]


async def test_a_store_that_names_too_much_is_not_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def compute(function: Any, *args: Any) -> Any:
        return function(*args)

    away: dict[str, str] = {}
    portion = Portion(1, 2, "ab" * 32, why_not="it lacks something")
    stores = OpenStores({}, {"far": Boaster(), "near": MemoryStore()}, {})
    assert await pruning._with_those_away(portion, stores, away, compute) is portion
    assert (away, capsys.readouterr().err) == ({}, "")


def test_what_was_killed_is_repeated(
    citychain: Any,
    start: Callable[..., Any],
    start_server: Callable[..., Any],
    fresh: Path,
) -> None:
    server = start_server(fresh)
    for number in range(3):
        options = ("--key", "alice.key", "--data", f"deed {number}", "--wait", "approved")
        assert server.run("submit", *CITY, *options).code == 0
        archived(server)
    assert server.end().code == 0
    end = time.monotonic() + 60
    while due(citychain, fresh).records[-1]["segments"] < 3:
        assert time.monotonic() < end
    pruning = start("prune", *CITY, "--json", cwd=fresh)
    first = json.loads(pruning.stdout.readline())
    pruning.kill()
    pruning.communicate()
    assert first["state"] == "PRUNED"
    again = citychain("prune", *CITY, "--json", cwd=fresh)
    assert again.code == 0, (again.out, again.err)
    assert again.records[-1]["segments"] <= 3
    assert citychain("prune", *CITY, "--json", cwd=fresh).record["segments"] == 0
    audited = citychain("audit", *CITY, "--storage", cwd=fresh)
    assert audited.code == 0, audited.err


def test_a_server_prunes_by_itself(
    citychain: Any, start_server: Callable[..., Any], fresh: Path
) -> None:
    server = start_server(fresh)
    options = ("--key", "alice.key", "--data", "deed", "--wait", "approved", "--json")
    tx_id = server.run("submit", *CITY, *options).record["tx_id"]
    archived(server)
    assert server.end().code == 0
    due(citychain, fresh)
    server = start_server(fresh)
    assert server.run("get", *CITY, tx_id).code == 0  # It opens the city.
    says(server, "transactions are pruned")
    assert server.run("get", *CITY, tx_id, "--json").record["pruned"] is True
    assert server.end().code == 0
