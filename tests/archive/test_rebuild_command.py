"""A server is killed, its storage and two of four stores are gone: `citychain rebuild`."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from cli.conftest import Ran, run_here, run_process
from e2e.test_kill import serving
from free_ports import free_address
from history import History

from citychain._native.transactions import decode_batch
from citychain.cli.exits import Exit
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.moving.home import home_file
from citychain.statements import Segment as Announcement

AUTHORS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
CONFIG = """\
operator_key = "operator.key"
data_dir = "data"
[plugins]
allow = []
[pacer]
min_seconds = 0.01
max_seconds = 0.05
[archive]
every = "1s"
[storage.other]
backend = "sqlite"
[cities.tokyo]
storage = "sqlite"
num_hashes = 10
""" + "".join(
    f"""
[fragments.stores.disk-{number}]
kind = "directory"
path = "disk-{number}"
"""
    for number in range(4)
)


def signed(genesis: bytes, count: int, mark: str) -> list[SignedTransaction]:
    return [
        sign_transaction(key, genesis=genesis, data=f"{mark} {n}".encode(), with_public_key=True)
        for n in range(count)
        for key in AUTHORS
    ]


async def called(place: Path, *arguments: str | Path) -> Ran:
    config = ("--config", place / "citychain.toml")
    return await asyncio.to_thread(run_process, *arguments, *config, cwd=place)


async def announcements(client: CityClient) -> list[Announcement]:
    found = []
    async for stored, envelopes, _ in client.follow_transactions(1):
        for item in decode_batch(envelopes):
            if item.content_type == Announcement.CONTENT_TYPE:
                assert item.content is not None
                found.append(Announcement.from_bytes(item.content))
        if stored.round == (await client.info()).head.certified_round:
            return found
    raise AssertionError("the city gives no more rounds")


async def archived(client: CityClient, sent: list[SignedTransaction]) -> list[Announcement]:
    """Wait until all of these are in announced segments; the segments."""
    await client.wait([one.tx_id for one in sent], timeout=timedelta(seconds=300))
    receipts = await client.receipts([one.tx_id for one in sent])
    last = max(receipt.round for receipt in receipts.values())
    async with asyncio.timeout(120):
        while True:
            there = await announcements(client)
            if there and there[-1].last >= last:
                return there
            await asyncio.sleep(0.2)


async def test_a_city_outlives_its_storage_and_two_of_four_stores(tmp_path: Path) -> None:
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    for number in range(4):
        (tmp_path / f"disk-{number}").mkdir()
    address = free_address()
    async with serving(tmp_path, address) as process:
        address = (tmp_path / "ready").read_text().strip()
        async with CityClient("tokyo", ChannelFactory([address])) as client:
            info = await client.info()
            sent = signed(info.genesis, 20, "a")
            await client.submit(sent)
            await archived(client, sent)
            second = signed(info.genesis, 20, "b")
            await client.submit(second)
            segments = await archived(client, second)
            rounds = {stored.round: stored for stored in await client.rounds(1, 10_000)}
        process.send_signal(signal.SIGKILL)
        await process.wait()
    (tmp_path / "tokyo.json").write_bytes(info.genesis_file)
    shutil.rmtree(tmp_path / "data")
    rebuild = ("rebuild", "--city", "tokyo", "--genesis", tmp_path / "tokyo.json")
    audit = ("audit", "--city", "tokyo", "--storage", "--genesis", tmp_path / "tokyo.json")

    # The stores that have the first segment are away: the rest is no city.
    away = {path: path.read_bytes() for path in tmp_path.glob(f"disk-?/*/{segments[0].object}-*")}
    assert len(away) == 4
    for path in away:
        path.unlink()
    ran = await called(tmp_path, *rebuild, "--to", "other")
    assert ran.code == Exit.NO
    assert ran.out.startswith("INCOMPLETE  tokyo")
    assert f"no store has rounds 1 to {segments[0].last}, and there are later ones" in ran.err
    ran = await called(tmp_path, *audit)
    assert ran.code == Exit.UNUSABLE
    assert "has an unfinished rebuild of it: finish it with `citychain rebuild" in ran.err
    for path, content in away.items():
        path.write_bytes(content)
    for number in (0, 2):
        shutil.rmtree(tmp_path / f"disk-{number}")

    # What is not there is not known to have nothing; it is told that it is gone for good.
    ran = await called(tmp_path, *rebuild, "--to", "other", "--json")
    assert ran.code == Exit.NO
    record: dict[str, Any] = json.loads(ran.out)
    assert not record["complete"]
    assert "may be in stores that do not answer: disk-0, disk-2" in record["lost"]
    assert record["segments"] >= len(segments)
    left, _, gone = CONFIG.partition("\n[fragments.stores.disk-0]")
    assert gone
    disks = [part for part in gone.split("\n[fragments.") if "disk-2" not in part][1:]
    (tmp_path / "citychain.toml").write_text("\n[fragments.".join([left, *disks]))
    ran = await called(tmp_path, *rebuild, "--to", "other", "--json")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    assert ran.code == Exit.OK, ran.err
    record = json.loads(ran.out)
    assert record["complete"]
    last = record["round"]
    assert last >= segments[-1].last
    assert record["checkpoint_hash"] == rounds[last].checkpoint_hash.hex()
    ran = await called(tmp_path, *audit, "--json")
    assert ran.code == Exit.OK, ran.out + ran.err
    told = json.loads(ran.out)
    assert (told["rounds"], told["certified_round"]) == (last, last)
    assert told["checkpoint_hash"] == record["checkpoint_hash"]
    assert told["transactions"] >= len(sent) + len(second)
    again = await called(tmp_path, *rebuild)
    assert again.code == Exit.UNUSABLE
    assert "has this city already" in again.err

    # The city goes on, and so does its archive: no segment is made twice, and none is left out.
    for number in (0, 2):
        (tmp_path / f"disk-{number}").mkdir()
    async with (
        serving(tmp_path, address) as process,
        CityClient("tokyo", ChannelFactory([(tmp_path / "ready").read_text().strip()])) as client,
    ):
        assert (await client.info()).head.round >= last
        receipts = await client.receipts([one.tx_id for one in (*sent, *second)])
        assert len(receipts) == len(sent) + len(second)
        third = signed(info.genesis, 5, "c")
        await client.submit(third)
        there = await archived(client, third)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    after = 0
    for announcement in there:
        assert announcement.first == after + 1
        after = announcement.last
    assert there[: len(segments) - 1] == segments[:-1]


def test_what_cannot_be_rebuilt_is_said(tmp_path: Path) -> None:
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    genesis = tmp_path / "tokyo.json"
    genesis.write_text("{}")
    rebuild = ("rebuild", "--city", "tokyo", "--genesis", genesis, "--config", "citychain.toml")
    ran = run_here(*rebuild, cwd=tmp_path)
    assert ran.code == Exit.UNUSABLE
    assert f"{genesis}: is no genesis file: " in ran.err
    genesis.write_bytes(History({1: 1}, city="kyoto").genesis.file)
    ran = run_here(*rebuild, cwd=tmp_path)
    assert ran.code == Exit.UNAVAILABLE
    assert "no store of [fragments.stores] answers" in ran.err
    (tmp_path / "disk-0").mkdir()
    ran = run_here(*rebuild, cwd=tmp_path)
    assert ran.code == Exit.UNUSABLE
    assert "it is of city kyoto of network test, not of tokyo of network local" in ran.err
    # Where there is nothing to rebuild no server begins the city anew, but by the operator's word.
    genesis.write_bytes(
        History({1: 1}, city="tokyo").genesis.model_copy(update={"network": "local"}).to_bytes()
    )
    ran = run_here(*rebuild, "--to", "fresh", cwd=tmp_path)
    assert ran.code == Exit.UNUSABLE
    assert "--to: the configuration has no table [storage.fresh], and " in ran.err
    ran = run_here(*rebuild, "--to", "other", cwd=tmp_path)
    assert ran.code == Exit.NO, ran.err
    assert "no server opens tokyo now: repeat this when more stores answer" in ran.err
    assert home_file(tmp_path / "data", "tokyo").exists()
    ran = run_here("audit", *rebuild[1:], "--storage", cwd=tmp_path)
    assert ran.code == Exit.UNUSABLE
    assert "has an unfinished rebuild of it: finish it with `citychain rebuild" in ran.err
    ran = run_here(*rebuild, "--to", "other", "--incomplete", cwd=tmp_path)
    assert ran.code == Exit.OK, ran.err
    assert ran.out.startswith("INCOMPLETE  tokyo in storage other: 0 rounds")
    ran = run_here(*rebuild, "--to", "memory", cwd=tmp_path)
    assert ran.code == Exit.UNUSABLE
    assert "backend memory keeps nothing when this command ends" in ran.err
    assert "Traceback" not in ran.err


async def opened(place: Path) -> int:
    """Have a server open the city, and stop; the round it is at."""
    async with serving(place, free_address()) as process:
        address = (place / "ready").read_text().strip()
        async with CityClient("tokyo", ChannelFactory([address])) as client:
            round = (await client.info()).head.round
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        return round


async def test_servers_that_found_the_storage_empty_do_no_harm(tmp_path: Path) -> None:
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    for number in range(4):
        (tmp_path / f"disk-{number}").mkdir()
    async with serving(tmp_path, free_address()) as process:
        address = (tmp_path / "ready").read_text().strip()
        async with CityClient("tokyo", ChannelFactory([address])) as client:
            info = await client.info()
            sent = signed(info.genesis, 5, "a")
            await client.submit(sent)
            segments = await archived(client, sent)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    (tmp_path / "tokyo.json").write_bytes(info.genesis_file)
    for path in (tmp_path / "data").glob("*"):
        if "storage" in path.name or "sqlite" in path.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(2):
        assert await opened(tmp_path) == 0
    ran = await called(tmp_path, "rebuild", "--city", "tokyo", "--genesis", tmp_path / "tokyo.json")
    assert ran.code == Exit.OK, ran.err
    assert await opened(tmp_path) >= segments[-1].last
    # What finds nothing leaves a city that is there where it is.
    for number in range(4):
        shutil.rmtree(tmp_path / f"disk-{number}")
        (tmp_path / f"disk-{number}").mkdir()
    rebuild = ("rebuild", "--city", "tokyo", "--genesis", tmp_path / "tokyo.json")
    ran = await called(tmp_path, *rebuild, "--to", "other")
    assert ran.code == Exit.NO
    assert "tokyo stays in storage sqlite, which has it" in ran.err
    assert not home_file(tmp_path / "data", "tokyo").exists()
    assert await opened(tmp_path) >= segments[-1].last
