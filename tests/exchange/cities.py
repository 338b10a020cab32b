"""What tests of exchanges between cities share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from citychain.client.city import CityClient
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Genesis, balance_object
from citychain.testing.server import CityServer, CityServerFactory

ALICE = SigningKey(bytes([11]) * 32)
BOB = SigningKey(bytes([12]) * 32)
ALICE_ID = key_id(ALICE.public_key)
BOB_ID = key_id(BOB.public_key)
FUNDS = 1_000_000


def funded(**more: Any) -> dict[str, Any]:
    """A city in which Alice has all the coins."""
    return {"num_hashes": 100, "balances": {"coin": {ALICE_ID.hex(): FUNDS}}, **more}


def plain(**more: Any) -> dict[str, Any]:
    return {"num_hashes": 100, **more}


async def founded(
    city_server: CityServerFactory, directory: Path, slug: str, table: Mapping[str, Any]
) -> Path:
    """The genesis file of a city that a server in this directory will have."""
    async with (
        city_server({slug: table}, directory=directory) as server,
        server.client(slug) as client,
    ):
        file = (await client.info()).genesis_file
    path = directory / f"{slug}.genesis.json"
    path.write_bytes(file)
    return path


async def pinned(*clients: CityClient) -> None:
    """Wait until each has pinned its peers."""
    async with asyncio.timeout(120):
        for client in clients:
            while not (peers := await client.peers()) or not all(it.pinned for it in peers):
                await asyncio.sleep(0.01)


async def balance(client: CityClient, key: bytes, asset: str = "coin") -> int:
    name = balance_object(asset, key)
    return int.from_bytes((await client.objects([name]))[name].value, "big")


async def balances(client: CityClient, keys: Iterable[bytes], asset: str = "coin") -> int:
    return sum([await balance(client, key, asset) for key in keys])


async def genesis_of(client: CityClient) -> Genesis:
    return Genesis.from_bytes((await client.info()).genesis_file)


__all__ = ["ALICE", "ALICE_ID", "BOB", "BOB_ID", "FUNDS", "CityServer", "balance", "balances",
           "founded", "funded", "genesis_of", "pinned", "plain"]  # fmt: skip
