"""``citychain move`` and ``citychain db``, through a server and without one."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import run_process
from moving.conftest import AUTHORS, STORAGES, TOKYO, receipts_of, signed

from citychain.cli.exits import Exit
from citychain.client.keys import create_key, load_key
from citychain.moving.home import home_file
from citychain.testing.server import CityServerFactory

CONFIG = """\
operator_key = "operator.key"
data_dir = "data"
[plugins]
allow = []
[storage.old]
backend = "sqlite"
[storage.new]
backend = "sqlite"
[cities.tokyo]
storage = "old"
num_hashes = 10
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    return tmp_path


def settings(place: Path) -> dict[str, Any]:
    operator = load_key(place / "operator.key")
    return {"storage": STORAGES, "operator": operator, "directory": place}


async def called(*arguments: str | Path) -> int:
    """Run the command in a process of its own, and pass on what it says."""
    ran = await asyncio.to_thread(run_process, *arguments, cwd=Path.cwd())
    sys.stdout.write(ran.out)
    sys.stderr.write(ran.err)
    return ran.code


async def test_a_move_through_a_server_one_without_and_forgetting(
    city_server: CityServerFactory, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", place / "citychain.toml")
    async with city_server(TOKYO, **settings(place)) as server, server.client("tokyo") as client:
        sent = signed((await client.info()).genesis, AUTHORS[0], 10, "x")
        await client.submit(sent)
        receipts = await receipts_of(client, sent)
        through = ("--server", server.address, *config)
        move = ("move", "--city", "tokyo", "--to")
        assert await called(*move, "new", "--json", *through) == Exit.OK
        record = json.loads(capsys.readouterr().out)
        assert (record["city"], record["storage"]) == ("tokyo", "new")
        assert record["copied_transactions"] == 10
        assert await called(*move, "new", *through) == Exit.UNUSABLE
        assert "lives in storage new already" in capsys.readouterr().err
        assert await called(*move, "old", "--offline", *config) == Exit.UNAVAILABLE
        assert "is in use by process" in capsys.readouterr().err
    assert home_file(place / "data", "tokyo").exists()
    nobody = ("--server", "127.0.0.1:1", "--timeout", "0.5", *config)
    assert await called(*move, "old", *nobody) == Exit.OK
    told = capsys.readouterr()
    assert told.out.startswith("MOVED  tokyo lives in storage old")
    assert "no server answers on 127.0.0.1:1: it is done here" in told.err
    assert not home_file(place / "data", "tokyo").exists()
    forget = ("move", "--city", "tokyo", "--forget")
    assert await called(*forget, "new", "--offline", *config) == Exit.OK
    assert capsys.readouterr().out.startswith("FORGOTTEN")
    assert await called("db", "stats", "--storage", "new", "--json", *config) == Exit.OK
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts == {"cities": 1, "rounds": 0, "nodes": 0, "keys": 0, "objects": 0, "notes": 1}
    assert await called("audit", "--city", "tokyo", "--storage", *config) == Exit.OK
    async with city_server(TOKYO, **settings(place)) as server, server.client("tokyo") as client:
        assert await receipts_of(client, sent) == receipts


async def test_what_is_wrong_with_a_move_is_said(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", place / "citychain.toml", "--offline")
    for arguments, message in (
        (("--to", "a", "--forget", "b"), "not both"),
        ((), "--to"),
        (("--to", "new"), "there is no genesis file"),
    ):
        assert await called("move", "--city", "tokyo", *arguments, *config) == Exit.UNUSABLE
        assert message in capsys.readouterr().err
    (place / "data/genesis").mkdir(parents=True)
    (place / "data/genesis/tokyo.json").write_text("not one")
    assert await called("move", "--city", "tokyo", "--to", "new", *config) == Exit.UNUSABLE
    assert "tokyo.json: is no genesis file: " in capsys.readouterr().err


async def test_the_schema_of_a_storage(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("--storage", "new", "--config", place / "citychain.toml")
    assert await called("db", "migrate", *config) == Exit.OK
    assert "to schema version 1" in capsys.readouterr().out
    assert await called("db", "migrate", "--json", *config) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"storage": "new", "done": []}
    assert await called("db", "indexes", *config) == Exit.OK
    assert "rounds  city, round" in capsys.readouterr().out
    assert await called("db", "stats", *config) == Exit.OK
    assert "schema version" in capsys.readouterr().err
    memory = ("--storage", "memory", "--config", place / "citychain.toml")
    assert await called("db", "stats", *memory) == Exit.NO
    assert "nothing to look after" in capsys.readouterr().err
    nowhere = ("--storage", "nowhere", "--config", place / "citychain.toml")
    assert await called("db", "stats", *nowhere) == Exit.UNUSABLE
    assert "storage nowhere: no storage backend 'nowhere'" in capsys.readouterr().err
