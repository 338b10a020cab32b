"""A city with every kind of round, and archivers that are moved step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from following.test_representative import KEYS, RICH, claim, entangled, settle

from citychain import notes
from citychain.archive.archiver import Archive, Archiver
from citychain.archive.segment import Segment, decode
from citychain.city.pipeline import City
from citychain.client.city import CityClient
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.clock import SystemClock
from citychain.config_archive import ArchiveSettings
from citychain.crypto.signatures import SigningKey
from citychain.fragments.memory import MemoryStore
from citychain.fragments.placement import Place
from citychain.fragments.restoring import restore_object
from citychain.ports import Clock, FragmentStore
from citychain.statements import Segment as Announcement
from citychain.testing.server import CityServerFactory
from citychain.types import State

OPERATOR = SigningKey(b"o" * 32)
TOKYO: dict[str, Any] = {
    "consensus": "poh-pop",
    "num_hashes": 10,
    "hold_rounds": 3,
    "balances": RICH,
    "consensus_options": {
        "place": {"disc": {"latitude_e7": 0, "longitude_e7": 0, "radius_m": 1_000}},
        "policy": "claimed",
    },
}


async def at_once(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """A `Compute` of the test's own thread."""
    return function(*args, **kwargs)


@asynccontextmanager
async def busy_city(city_server: CityServerFactory, settled: int = 3) -> AsyncIterator[City]:
    """A city with a few rounds of transactions that depend on each other; nobody archives it."""
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server({"tokyo": TOKYO}, {"tokyo": {"handler": caught}}, operator=OPERATOR) as server,
        server.client("tokyo") as client,
    ):
        genesis = (await client.info()).genesis
        claims = [claim(genesis, key) for key in (*KEYS, OPERATOR)]
        await client.submit(claims)
        await client.wait([one.tx_id for one in claims])
        for seed in range(settled):
            await settle(client, seed)
        await hold(client)
        yield found[0]


async def hold(client: CityClient) -> None:
    """Have a transaction wait a round for another one."""
    genesis = (await client.info()).genesis
    awaited, other = (
        sign_transaction(OPERATOR, genesis=genesis, data=data, with_public_key=True)
        for data in (b"awaited", b"other")
    )
    waiting = sign_transaction(
        OPERATOR,
        genesis=genesis,
        data=b"waits",
        depends_on=[awaited.tx_id],
        with_public_key=True,
    )
    await client.submit([waiting, other])
    await client.wait([other.tx_id])
    await client.submit([awaited])
    await client.wait([awaited.tx_id, waiting.tx_id])


async def more(city: City, seed: int) -> None:
    """More rounds, approved."""
    sent = entangled(city.genesis.id, seed)
    await city.submit([one.with_public_key() for one in sent])
    tx_ids = [one.tx_id for one in sent]
    async with asyncio.timeout(120):
        while {it.state for it in (await city.status(tx_ids)).values()} - {
            State.APPROVED,
            State.REJECTED,
        }:
            await asyncio.wait({asyncio.shield(city.progress())}, timeout=0.05)


def stores(count: int = 4) -> dict[str, FragmentStore]:
    return {f"store-{number}": MemoryStore() for number in range(count)}


def archive(
    folder: Path, there: Mapping[str, FragmentStore], every: timedelta = timedelta(milliseconds=1)
) -> Archive:
    """Archives what is a millisecond old."""

    async def sign(content: bytes, content_type: str) -> SignedTransaction:
        return sign_transaction(
            OPERATOR,
            genesis=GENESIS[-1],
            data=content,
            content_type=content_type,
            with_public_key=True,
        )

    return Archive(
        settings=ArchiveSettings(every=every),
        stores=lambda: (there, [Place(name, 1, name) for name in there]),
        data=2,
        parity=2,
        round_transactions=2_000,
        folder=folder,
        sign=sign,
    )


GENESIS: list[bytes] = []
"""Of the city that a test has open."""
ARCHIVERS: list[Archiver] = []


def archiver(city: Any, given: Archive, clock: Clock | None = None) -> Archiver:
    GENESIS.append(city.genesis.id)
    ARCHIVERS.append(
        Archiver(
            city, given, compute=at_once, clock=clock or SystemClock(), archived=lambda _: None
        )
    )
    return ARCHIVERS[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """What was not run to its end leaves no file open."""
    yield
    while ARCHIVERS:
        ARCHIVERS.pop()._drop()


async def archived_up_to(one: Archiver, city: City, round: int) -> None:
    """Have an archiver look until a round is archived."""
    async with asyncio.timeout(120):
        while (await last_note(city)).round < round:
            progress = city.progress()
            await one.look()
            await asyncio.wait({asyncio.shield(progress)}, timeout=0.05)


async def last_note(city: City) -> notes.ArchivedNote:
    there = await city.storage.notes(notes.ARCHIVE_LAST)
    return notes.decode_archived(there.get(notes.ARCHIVE_LAST, b""))


async def announced(city: City) -> list[Announcement]:
    """Segments by the notes of them, each held to its approved transaction."""
    found = []
    for name, note in (await city.storage.notes(notes.SEGMENT)).items():
        announcement = Announcement.from_bytes(note[32:])
        assert notes.round_of(name) == announcement.last
        status = await city.status([note[:32]])
        assert status[note[:32]].state == State.APPROVED
        found.append(announcement)
    return found


async def restored(
    announcement: Announcement, there: Mapping[str, FragmentStore], folder: Path
) -> Segment:
    target = folder / announcement.object
    await restore_object(bytes.fromhex(announcement.object), there, target, at_once)
    assert target.stat().st_size == announcement.size
    return decode(target.read_bytes())
