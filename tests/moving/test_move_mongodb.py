"""A city moves from a file to MongoDB and back, while it goes on accepting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from moving.conftest import (
    AUTHORS,
    OPERATOR,
    TOKYO,
    Load,
    move,
    once_each,
    receipts_of,
    signed,
)

from citychain.errors import MoveFailed
from citychain.genesis import Genesis
from citychain.moving import moving
from citychain.testing.server import CityServerFactory


def keep(path: Path, genesis: Genesis) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(genesis.file)


@pytest.fixture
def here(
    mongodb_uri: str, mongodb_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A server's settings."""
    # How long the last of it takes says how busy the machine is.
    monkeypatch.setattr(moving, "HOLD_SECONDS", 300.0)
    mongodb = {"backend": "mongodb", "uri": mongodb_uri, "database": mongodb_database}
    return {
        "storage": {"old": {"backend": "sqlite"}, "shared": mongodb},
        "operator": OPERATOR,
        "directory": tmp_path,
        # A stand-in for MongoDB needs a tenth of a second for a round.
        "cluster": {"lease_seconds": 1},
        "pacer": {"min_seconds": 0.2, "max_seconds": 0.4},
    }


async def test_to_mongodb_and_back_under_load(
    city_server: CityServerFactory, here: dict[str, Any]
) -> None:
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        # More than a stand-in takes would be copied for minutes.
        load = Load(server, (await client.info()).genesis, pause=0.1)
        async with load():
            await load.grown(100)
            before = await receipts_of(client, load.sent[:50])
            print(await move(server, "shared"), "longest call", load.longest)
            await load.grown(100)
            load.longest = 0.0
            print(await move(server, "old"), "longest call", load.longest)
            await load.grown(50)
        after = await receipts_of(client, load.sent)
        await once_each(client, load.sent)
        assert after.items() >= before.items()
        await move(server, "shared")
        # Another server on that storage would go on accepting what nobody copies.
        elsewhere = here["directory"].with_name("elsewhere")
        shared = {"tokyo": {**TOKYO["tokyo"], "storage": "shared", "open": "eager"}}
        genesis = Genesis.from_bytes((await client.info()).genesis_file)
        await asyncio.to_thread(keep, elsewhere / "data" / "genesis" / "tokyo.json", genesis)
        cluster = {"lease_seconds": 1}
        async with city_server(shared, **{**here, "directory": elsewhere, "cluster": cluster}):
            with pytest.raises(MoveFailed, match="stop all servers but one"):
                await move(server, "old")
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        assert await receipts_of(client, load.sent) == after


async def test_what_mongodb_is_told_to_forget_can_come_back(
    city_server: CityServerFactory, here: dict[str, Any]
) -> None:
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        genesis = (await client.info()).genesis
        sent = signed(genesis, AUTHORS[0], 10, "first")
        await client.submit(sent)
        receipts = await receipts_of(client, sent)
        await move(server, "shared")
        await move(server, "old")
        await move(server, "shared", forget=True)
        assert await receipts_of(client, sent) == receipts
        await move(server, "shared")
        more = signed(genesis, AUTHORS[1], 10, "more")
        await client.submit(more)
        assert (await receipts_of(client, sent + more)).items() >= receipts.items()
        await once_each(client, sent + more)
