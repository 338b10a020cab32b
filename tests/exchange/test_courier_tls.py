"""Amounts reach a city whose server speaks TLS, and asks who carries them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from exchange.cities import ALICE, BOB_ID, founded, funded, pinned, plain
from free_ports import free_address
from tls_files import dev_certificates

from citychain.between_cities import RemittanceState
from citychain.testing.server import CityServerFactory


async def test_a_courier_speaks_tls(city_server: CityServerFactory, tmp_path: Path) -> None:
    made = dev_certificates(tmp_path / "tls")
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    hill = await founded(city_server, tmp_path / "hill", "hill", funded())
    address = free_address()
    server = {"certificate": made / "server.crt", "key": made / "server.key"}
    client = {"certificate": made / "client.crt", "key": made / "client.key"}
    peer = {"genesis": farm, "endpoints": [address], "tls": {"ca": made / "ca.crt", **client}}
    async with (
        city_server(
            {"farm": plain()},
            directory=tmp_path / "farm",
            peers={"hill": {"genesis": hill}},
            server={"listen": address, "tls": {**server, "client_ca": made / "ca.crt"}},
        ),
        city_server({"hill": funded()}, directory=tmp_path / "hill", peers={"farm": peer}) as here,
        here.client("hill") as home,
    ):
        await pinned(home)
        sent = await home.remit(ALICE, asset="coin", amount=5, to=BOB_ID, city="farm")
        told = await home.delivered(sent.tx_id)
        assert told.outgoing.state is RemittanceState.DELIVERED


async def test_a_file_that_is_missing_is_told_with_its_peer(
    city_server: CityServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    peer = {"genesis": farm, "endpoints": ["127.0.0.1:1"], "tls": {"ca": tmp_path / "nothing"}}
    async with (
        city_server({"hill": funded()}, peers={"farm": peer}) as server,
        server.client("hill") as home,
    ):
        await home.info()
        async with asyncio.timeout(120):
            while "peers.farm.tls: " not in caplog.text:
                await asyncio.sleep(0.01)
    assert f"{tmp_path / 'nothing'}: cannot be read: No such file" in caplog.text
