"""`citychain rebuild` into a database that servers share, and killed on the way."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archive.test_rebuild_command import CONFIG, archived, called, signed
from cli.conftest import environment
from e2e.test_kill import serving
from free_ports import free_address
from mongodb.mongo_proxy import Loss, MongoProxy, through

from citychain.cli.exits import Exit
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key

if TYPE_CHECKING:
    from pymongo import MongoClient

SHARED = """
[storage.shared]
backend = "mongodb"
uri = "{uri}"
database = "{database}"
"""
GENESIS = ("--city", "tokyo", "--genesis", "tokyo.json")


async def archive_of_a_city(place: Path) -> tuple[bytes, dict[int, bytes]]:
    """Have a server keep a city in a file, archive it, and die; its genesis file, and the hashes of
    its checkpoints by round."""
    async with serving(place, free_address()):
        address = (place / "ready").read_text().strip()
        async with CityClient("tokyo", ChannelFactory([address])) as client:
            info = await client.info()
            for mark in ("a", "b", "c"):
                sent = signed(info.genesis, 3, mark)
                await client.submit(sent)
                await archived(client, sent)
            rounds = await client.rounds(1, 10_000)
    return info.genesis_file, {stored.round: stored.checkpoint_hash for stored in rounds}


async def killed_at(place: Path, proxy: MongoProxy, nth: int) -> None:
    """Rebuild, and die as the database has done the nth write, which nobody is told."""
    proxy.crash(nth, Loss.REPLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "citychain", "rebuild", *GENESIS, "--config", "citychain.toml"),
        cwd=place,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    ended = asyncio.create_task(process.wait())
    try:
        await asyncio.wait(
            {asyncio.create_task(proxy.reached()), ended}, return_when=asyncio.FIRST_COMPLETED
        )
        assert proxy.is_reached
    finally:
        if process.returncode is None:
            process.kill()
        await ended
    proxy.heal()


async def test_a_shared_storage_is_rebuilt_also_if_that_is_killed_on_the_way(
    tmp_path: Path,
    mongodb_uri: str,
    mongodb_client: MongoClient[dict[str, Any]],
    mongodb_database: str,
    mongodb_proxy: MongoProxy,
) -> None:
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    for number in range(4):
        (tmp_path / f"disk-{number}").mkdir()
    genesis, hashes = await archive_of_a_city(tmp_path)
    (tmp_path / "tokyo.json").write_bytes(genesis)
    uri = through(mongodb_uri, mongodb_proxy.address)
    (tmp_path / "citychain.toml").write_text(
        CONFIG.replace('storage = "sqlite"', 'storage = "shared"')
        + SHARED.format(uri=uri, database=mongodb_database)
    )

    shutil.rmtree(tmp_path / "data")
    whole = await called(tmp_path, "rebuild", *GENESIS, "--json")
    assert whole.code == Exit.OK, whole.err
    assert whole.record["complete"]
    last = whole.record["round"]
    assert whole.record["checkpoint_hash"] == hashes[last].hex()
    rounds = [at for at, write in enumerate(mongodb_proxy.writes, 1) if write == "insert rounds"]
    assert len(rounds) >= 3

    shutil.rmtree(tmp_path / "data")
    mongodb_client.drop_database(mongodb_database)
    await killed_at(tmp_path, mongodb_proxy, rounds[len(rounds) // 2])
    audit = ("audit", *GENESIS, "--storage", "--json")
    audited = await called(tmp_path, *audit)
    assert audited.code == Exit.UNUSABLE
    assert "has an unfinished rebuild of it: finish it with `citychain rebuild" in audited.err
    again = await called(tmp_path, "rebuild", *GENESIS, "--json")
    assert again.code == Exit.OK, again.err
    assert again.record["complete"]
    assert again.record["checkpoint_hash"] == hashes[last].hex()
    audited = await called(tmp_path, *audit)
    assert audited.code == Exit.OK, audited.out + audited.err
    assert audited.record["rounds"] == last
    assert audited.record["checkpoint_hash"] == hashes[last].hex()
