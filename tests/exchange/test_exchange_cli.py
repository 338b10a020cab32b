"""The command about other cities: `peers`, amounts for `@CITY`, what became of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Ran, run_process
from exchange.cities import BOB_ID, funded, genesis_of, pinned, plain

from citychain.client.keys import create_key, load_key
from citychain.crypto.keys import key_id
from citychain.testing.server import CityServerFactory


def cities(key: str) -> dict[str, Any]:
    """The first has all coins with the key."""
    payer = key_id(load_key(key).public_key).hex()
    return {"hill": funded(balances={"coin": {payer: 1_000}}), "lake": plain()}


async def ran(*arguments: str) -> Ran:
    """The command in a process of its own."""
    return await asyncio.to_thread(run_process, *arguments, cwd=Path.cwd())


async def told(*arguments: str) -> tuple[int, Any]:
    done = await ran(*arguments)
    out = done.out.splitlines()
    return done.code, [json.loads(line) for line in out if line.startswith("{")] or out


@pytest.fixture
def key(tmp_path: Path) -> str:
    create_key(tmp_path / "alice.key")
    return str(tmp_path / "alice.key")


async def test_an_amount_for_another_city(city_server: CityServerFactory, key: str) -> None:
    async with (
        city_server(cities(key), peers={"hill": {}, "lake": {}}) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        other = (await genesis_of(there)).id.hex()
        where = ("--city", "hill", "--server", server.address)
        code, [peer] = await told("peers", *where, "--json")
        assert code == 0
        assert (peer["name"], peer["genesis"], peer["pinned"]) == ("lake", other, True)
        assert (peer["pending"], peer["trouble"]) == (0, "")
        code, table = await told("peers", *where)
        assert code == 0
        assert "lake" in table[1]
        assert "this server" in table[1]

        ids = []
        for city in ("lake", other):
            transfer = ("--transfer", f"coin:30:{BOB_ID.hex()}@{city}")
            submit = ("submit", *where, "--key", key, *transfer, "--wait", "delivered", "--json")
            code, [sent] = await told(*submit)
            assert (code, sent["state"]) == (0, "DELIVERED")
            ids.append(sent["tx_id"])
        code, [shown] = await told("get", *where, ids[0], "--json")
        assert (code, shown["state"], shown["delivery"]) == (0, "APPROVED", "DELIVERED")
        assert shown["remittance"]["amount"] == 30
        code, lines = await told("get", *where, ids[0])
        assert any(line.split() == ["delivery", "DELIVERED"] for line in lines)


async def test_an_amount_that_comes_back(city_server: CityServerFactory, key: str) -> None:
    async with (
        city_server(cities(key), peers={"hill": {"assets": []}, "lake": {}}) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        where = ("--city", "hill", "--server", server.address)
        transfer = ("--transfer", f"coin:30:{BOB_ID.hex()}@lake")
        submit = ("submit", *where, "--key", key, *transfer, "--wait", "delivered", "--json")
        code, [sent] = await told(*submit)
        assert (code, sent["state"], sent["code"]) == (1, "RETURNED", "ASSET_NOT_ACCEPTED")
        code, [shown] = await told("get", *where, sent["tx_id"], "--json")
        assert (shown["state"], shown["delivery"]) == ("APPROVED", "RETURNED")
        assert shown["reason"] == "lake takes no coin from hill"


async def test_a_city_that_is_no_peer(city_server: CityServerFactory, key: str) -> None:
    async with city_server(cities(key)) as server:
        where = ("--city", "hill", "--server", server.address, "--key", key)
        for city, said in (("lake", "no pinned peer"), ("x" * 64, "--transfer")):
            transfer = ("--transfer", f"coin:30:{BOB_ID.hex()}@{city}")
            refused = await ran("submit", *where, *transfer)
            assert refused.code != 0
            assert said in refused.err
        # Whoever waits for a delivery of what is for nobody elsewhere waits for its approval.
        note = ("--data", "hello", "--wait", "delivered", "--json")
        code, [sent] = await told("submit", *where, *note)
        assert (code, sent["state"]) == (0, "APPROVED")
