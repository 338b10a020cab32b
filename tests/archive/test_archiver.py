"""What is approved is archived, each round once, whatever fails on the way."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from archive.conftest import (
    OPERATOR,
    announced,
    archive,
    archived_up_to,
    archiver,
    at_once,
    busy_city,
    last_note,
    restored,
    stores,
)

from citychain import notes, record
from citychain._native.transactions import decode_batch
from citychain.archive import archiver as archiving
from citychain.archive.archiver import SEGMENT_CHUNK
from citychain.city.pipeline import City
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.clock import SystemClock
from citychain.config_archive import ArchiveSettings
from citychain.errors import CitychainError, StorageError, StoreUnavailable
from citychain.fragments.checking import State as Condition
from citychain.fragments.checking import check_object
from citychain.fragments.inventory import every_object
from citychain.fragments.memory import MemoryStore
from citychain.ports import FragmentStore
from citychain.statements import Holding
from citychain.statements import Segment as Announcement
from citychain.testing.server import CityServerFactory
from citychain.types import State


async def announcements(city: City) -> list[Announcement]:
    """All that stand in the ledger, in order."""
    found = []
    for stored in await city.storage.rounds(1, 1_000):
        tx_ids = record.decode(stored.record).tx_ids
        raw = await city.storage.raw(tx_ids)
        for item in decode_batch([raw[tx_id].envelope for tx_id in tx_ids]):
            if item.content_type == Announcement.CONTENT_TYPE:
                assert item.author == city.genesis.operator_id
                assert item.content is not None
                found.append(Announcement.from_bytes(item.content))
    return found


async def write(city: City, text: str, content_type: str = "") -> None:
    """One more transaction, approved."""
    signed = sign_transaction(
        OPERATOR,
        genesis=city.genesis.id,
        data=text.encode(),
        content_type=content_type,
        with_public_key=True,
    )
    await city.submit([signed.envelope])
    async with asyncio.timeout(120):
        while (await city.status([signed.tx_id]))[signed.tx_id].state != State.APPROVED:
            await asyncio.wait({asyncio.shield(city.progress())}, timeout=0.05)


async def whole(city: City, there: dict[str, FragmentStore], folder: Path) -> list[Announcement]:
    """Hold the archive to what it promises; its segments."""
    segments = await announced(city)
    assert await announcements(city) == segments
    after, previous = 0, bytes(32)
    for announcement in segments:
        assert announcement.first == after + 1
        segment = await restored(announcement, there, folder)
        assert (segment.header.first, segment.header.last) == (after + 1, announcement.last)
        assert segment.header.previous == previous
        after, previous = announcement.last, bytes.fromhex(announcement.object)
    note = await last_note(city)
    assert note == (after, previous)
    return segments


async def test_rounds_are_archived_and_announced(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    there = stores()
    async with busy_city(city_server) as city:
        one = archiver(city, archive(tmp_path / "spool", there))
        upto = (await city.head()).certified_round
        await archived_up_to(one, city, upto)
        await write(city, "more")
        await archived_up_to(one, city, (await city.head()).certified_round)
        segments = await whole(city, there, tmp_path)
        assert len(segments) == 2
        assert {(it.data, it.parity, it.chunk) for it in segments} == {(2, 2, SEGMENT_CHUNK)}
        assert not list((tmp_path / "spool").iterdir())
        async for sources in every_object(there, at_once, failed=fail):
            [checked] = await check_object(sources, at_once)
            assert checked.state == Condition.WHOLE


def fail(fault: Any) -> None:
    raise AssertionError(fault)


async def test_an_announcement_alone_makes_no_segment(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    there = stores()
    async with busy_city(city_server, settled=1) as city:
        one = archiver(city, archive(tmp_path, there))
        await archived_up_to(one, city, (await city.head()).certified_round)
        head = await city.head()
        assert (await last_note(city)).round < head.certified_round  # The announcement's own round.
        for _ in range(5):
            await asyncio.sleep(0.002)
            await one.look()
        assert (await city.head()).round == head.round
        # Nor does what its holders say of the segment.
        [announced_one] = await announcements(city)
        holding = Holding.of(1 << 50, announced_one.keys)
        await write(city, holding.encode().decode(), holding.CONTENT_TYPE)
        head = await city.head()
        for _ in range(5):
            await asyncio.sleep(0.002)
            await one.look()
        assert (await city.head()).round == head.round
        # What somebody writes then takes it along.
        await write(city, "reason")
        await archived_up_to(one, city, (await city.head()).certified_round)
        assert len(await whole(city, there, tmp_path)) == 2


async def test_a_segment_waits_until_it_is_old_or_full(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    there = stores()
    async with busy_city(city_server, settled=1) as city:
        patient = archive(tmp_path, there, every=timedelta(hours=1))
        one = archiver(city, patient)
        await one.look()
        assert await city.storage.notes(notes.ARCHIVE_NEXT) == {}
        small = replace(patient, settings=Small(every=timedelta(hours=1)))
        await archived_up_to(archiver(city, small), city, 1)
        first, *_ = await announced(city)
        assert first.first == 1
        assert first.last < (await city.head()).certified_round


class Small(ArchiveSettings):
    """Every round fills a segment."""

    @property
    def segment_bytes(self) -> int:
        return 1


class Resting:
    """A clock on which each step takes a second, and that notes how long somebody rests."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def time_ms(self) -> int:
        return 1 << 42

    def monotonic(self) -> float:
        self.now += 1
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)


@pytest.mark.parametrize(("pending", "rest"), [(0, 1.0), (1_999, 1.0), (2_000, 9.0)])
async def test_it_rests_the_longer_the_more_the_city_has_to_do(
    city_server: CityServerFactory, tmp_path: Path, pending: int, rest: float
) -> None:
    async with busy_city(city_server, settled=1) as city:
        busy = Mortal(city, Life(0, before=False), pending=pending)
        clock = Resting()
        one = archiver(busy, archive(tmp_path, stores()), clock)
        await one.look()
        assert len(clock.rests) >= 2
        assert set(clock.rests) == {rest}


class Died(BaseException):
    """The process is gone."""


class Life:
    """Steps that leave a trace, of one process, until it dies before or after one of them."""

    def __init__(self, at: int, *, before: bool) -> None:
        self._left, self._before = at, before
        self.dead = False

    async def step(self, call: Any) -> Any:
        if self.dead:
            raise Died
        self._left -= 1
        if self._left == 0:
            self.dead = True
            if self._before:
                raise Died
        result = await call()
        if self.dead:
            raise Died
        return result


class Mortal:
    """An object whose calls of some names are steps of a life."""

    def __init__(self, real: Any, life: Life, *names: str, **replaced: Any) -> None:
        self._real, self._life, self._names, self._replaced = real, life, names, replaced

    def __getattr__(self, name: str) -> Any:
        if name in self._replaced:
            return self._replaced[name]
        method = getattr(self._real, name)
        if name not in self._names:
            return method
        return lambda *args: self._life.step(lambda: method(*args))


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_a_death_between_any_two_steps_loses_and_doubles_nothing(
    city_server: CityServerFactory, tmp_path: Path, before: bool
) -> None:
    deaths, at = 0, 0
    async with busy_city(city_server, settled=1) as city:
        there = stores()
        while True:
            at += 1
            await write(city, f"{before} {at}")
            life = Life(at, before=before)
            mortal_stores = {name: Mortal(store, life, "put") for name, store in there.items()}
            storage = Mortal(city.storage, life, "keep")
            given = archive(tmp_path, mortal_stores)  # type: ignore[arg-type]
            one = archiver(Mortal(city, life, "submit", storage=storage), given)
            upto = (await city.head()).certified_round
            try:
                await archived_up_to(one, city, upto)
            except Died:
                deaths += 1
            # Whoever leads next goes on with it, and what came meanwhile is another segment.
            await write(city, f"meanwhile {at}")
            again = archiver(city, archive(tmp_path, there))
            await archived_up_to(again, city, (await city.head()).certified_round)
            await whole(city, there, tmp_path)
            if not life.dead:
                break
        objects = [sources async for sources in every_object(there, at_once, fail)]
        segments = await announced(city)
    # Noted, four fragments, noted with the announcement, submitted, noted as done.
    assert deaths == at - 1 >= 8
    # Whatever was stored is announced, but for what died before any note of it.
    assert {sources[0].key.object_id.hex() for sources in objects} == {it.object for it in segments}


async def test_a_rejected_announcement_is_made_anew(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    there = stores()
    async with busy_city(city_server, settled=0) as city:
        given = archive(tmp_path, there)

        async def sign(content: bytes, content_type: str) -> SignedTransaction:
            # By the time it comes, what it writes has another version.
            return sign_transaction(
                OPERATOR,
                genesis=city.genesis.id,
                data=content,
                content_type=content_type,
                writes={"object": 7},
                with_public_key=True,
            )

        one = archiver(city, replace(given, sign=sign))
        with pytest.raises(CitychainError, match="announcement of its segment was rejected: "):
            await archived_up_to(one, city, 1)
        assert (await last_note(city)).round == 0
        # Whoever leads next submits the one that was noted last, which fares no better.
        one = archiver(city, given)
        with pytest.raises(CitychainError, match="was rejected: "):
            await archived_up_to(one, city, 1)
        await archived_up_to(one, city, 1)
        assert len(await announced(city)) == 1


class Broken(MemoryStore):
    """A store that takes nothing for a while."""

    broken = True

    async def put(self, key: Any, size: int, parts: Any) -> None:
        if self.broken:
            raise StoreUnavailable("it is being repaired")
        await super().put(key, size, parts)


async def test_stores_that_take_nothing_hold_the_archive_up_and_nobody_else(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    there: dict[str, FragmentStore] = {f"broken-{number}": Broken() for number in range(4)}
    async with busy_city(city_server, settled=1) as city:
        one = archiver(city, archive(tmp_path, there))
        with pytest.raises(StorageError, match="no store takes 4 of 4 fragments of rounds 1 to"):
            await one.look()
        assert await announcements(city) == []
        await write(city, "goes on")
        for store in there.values():
            store.broken = False  # type: ignore[attr-defined]
        again = archiver(city, archive(tmp_path, there))
        await archived_up_to(again, city, (await city.head()).certified_round)
        await whole(city, there, tmp_path)


async def test_what_one_store_does_not_take_another_does(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    there: dict[str, FragmentStore] = {**stores(3), "broken": Broken()}
    async with busy_city(city_server, settled=1) as city:
        one = archiver(city, archive(tmp_path, there))
        await archived_up_to(one, city, (await city.head()).certified_round)
        await whole(city, there, tmp_path)


async def test_a_server_archives_the_city_that_it_leads(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    tables = {
        f"disk-{number}": {"kind": "directory", "path": str(tmp_path / f"disk-{number}")}
        for number in range(4)
    }
    for table in tables.values():
        Path(table["path"]).mkdir()
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server(
            {"tokyo": {}},
            {"tokyo": {"handler": caught}},
            operator=OPERATOR,
            fragments={"stores": tables},
            archive={"every": "1s"},
        ) as server,
        server.client("tokyo") as client,
    ):
        await client.info()
        [city] = found
        await write(city, "one")
        async with asyncio.timeout(120):
            while not (await last_note(city)).round:
                await asyncio.wait({asyncio.shield(city.progress())}, timeout=0.05)
        first, *_ = await announced(city)
        assert first.first == 1
        info = await client.info()
        assert first.last <= info.archived_round < info.head.certified_round
    assert len(list(tmp_path.glob("disk-*/???/*"))) >= 4


async def test_a_city_can_be_left_out(city_server: CityServerFactory, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server(
            {"tokyo": {"archive": {"enabled": False}}},
            {"tokyo": {"handler": caught}},
            operator=OPERATOR,
            fragments={"stores": {"disk": {"kind": "directory", "path": str(tmp_path / "disk")}}},
        ) as server,
        server.client("tokyo") as client,
    ):
        await client.info()
        assert found[0]._leading_parts.archive is None


async def test_a_full_disk_stops_the_archive_and_not_the_city(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = stores()

    def full(folder: Path) -> Any:
        return Path("/dev/full").open("w+b")

    async with busy_city(city_server, settled=1) as city:
        with monkeypatch.context() as patched:
            patched.setattr(archiving, "_spool", full)
            one = archiver(city, archive(tmp_path, there))
            tried = asyncio.Event()

            class Ticking(SystemClock):
                async def sleep(self, seconds: float) -> None:
                    if seconds >= archiving.FAILED_SECONDS:
                        tried.set()
                    await super().sleep(min(seconds, 0.001))

            one._clock = Ticking()
            running = asyncio.create_task(one.run())
            waiting = asyncio.create_task(tried.wait())
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            assert tried.is_set()
            assert not running.done()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        # There is room again.
        await archived_up_to(archiver(city, archive(tmp_path, there)), city, 1)
        await whole(city, there, tmp_path)


async def test_a_segment_of_which_nobody_waits_for_the_file_closes_it(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, files = threading.Event(), threading.Event(), []
    spool = archiving._spool

    def slow(folder: Path) -> Any:
        begun.set()
        go.wait()
        files.append(spool(folder))
        return files[0]

    async with busy_city(city_server, settled=1) as city:
        monkeypatch.setattr(archiving, "_spool", slow)
        one = archiver(city, archive(tmp_path, stores()))
        one._compute = asyncio.to_thread
        looking = asyncio.create_task(one.run())
        await asyncio.to_thread(begun.wait)
        looking.cancel()
        await asyncio.wait([looking])
        assert looking.cancelled()
        go.set()
        async with asyncio.timeout(120):
            while not (files and files[0].closed):
                await asyncio.sleep(0.01)
