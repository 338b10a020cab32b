"""Amounts reach a city whose server asks for tokens."""

from __future__ import annotations

from pathlib import Path

from access.conftest import AUDIENCE, public_pem, token
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from exchange.cities import ALICE, BOB_ID, founded, funded, pinned, plain
from free_ports import free_address

from citychain.between_cities import RemittanceState
from citychain.testing.server import CityServerFactory


async def test_a_courier_brings_its_token(city_server: CityServerFactory, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "keys.pub").write_bytes(public_pem(key))
    (tmp_path / "token").write_text(token(key, {"read": ["farm"], "submit": ["farm"]}))
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    hill = await founded(city_server, tmp_path / "hill", "hill", funded())
    address = free_address()
    peer = {"genesis": farm, "endpoints": [address], "token_file": tmp_path / "token"}
    async with (
        city_server(
            {"farm": plain()},
            directory=tmp_path / "farm",
            peers={"hill": {"genesis": hill}},
            server={"listen": address},
            auth={"keys": [tmp_path / "keys.pub"], "audience": AUDIENCE},
        ),
        city_server({"hill": funded()}, directory=tmp_path / "hill", peers={"farm": peer}) as here,
        here.client("hill") as home,
    ):
        await pinned(home)
        sent = await home.remit(ALICE, asset="coin", amount=5, to=BOB_ID, city="farm")
        told = await home.delivered(sent.tx_id)
        assert told.outgoing.state is RemittanceState.DELIVERED
