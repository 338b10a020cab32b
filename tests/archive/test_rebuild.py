"""A city is rebuilt from its genesis and whatever fragments are left, and from nothing else."""

from __future__ import annotations

import io
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from archive.conftest import (
    announced,
    archive,
    archived_up_to,
    archiver,
    at_once,
    busy_city,
    more,
    stores,
)
from following.test_audit import audit

from citychain import notes
from citychain.archive import rebuilding
from citychain.archive.rebuilding import Rebuilding, Rebuilt
from citychain.archive.segment import Header, decode, header_bytes
from citychain.city.pipeline import City
from citychain.clock import SystemClock
from citychain.config_archive import ArchiveSettings
from citychain.errors import InvalidRequest, NotFound, StoreUnavailable
from citychain.following.source import StorageSource
from citychain.fragments.layout import Shape
from citychain.fragments.memory import MemoryStore
from citychain.fragments.placement import Place
from citychain.fragments.restoring import restore_object
from citychain.fragments.storing import store_object
from citychain.moving.comparing import Comparison
from citychain.moving.opening import home_note
from citychain.ports import CityStorage, FragmentStore, StorageContext
from citychain.statements import Segment as Announcement
from citychain.storage.memory import MemoryBackend
from citychain.testing.server import CityServerFactory


@dataclass
class Archived:
    """A city with an archive of a few segments."""

    city: City
    stores: dict[str, FragmentStore]
    segments: list[Announcement]
    folder: Path

    async def target(self) -> CityStorage:
        backend = MemoryBackend(StorageContext(self.folder, at_once, SystemClock()))
        genesis = self.city.genesis
        return await backend.city(genesis.id, genesis.file, genesis.initial_objects())

    def rebuilding(
        self, target: CityStorage, there: Mapping[str, FragmentStore] | None = None
    ) -> Rebuilding:
        return Rebuilding(
            self.city.genesis,
            self.stores if there is None else there,
            target,
            folder=self.folder / "segments",
            compute=at_once,
        )

    async def check(self, target: CityStorage) -> None:
        """Hold a rebuilt city to the one that was archived, and to all rules."""
        last = self.segments[-1].last
        head = await target.head()
        assert (head.round, head.certified_round) == (last, last)
        [stored] = await self.city.storage.rounds(last, 1)
        assert (head.checkpoint_hash, head.size) == (stored.checkpoint_hash, stored.size)
        genesis = self.city.genesis
        await Comparison(self.city.storage, target, genesis.initial_objects(), at_once).rounds()
        result = await audit(StorageSource(target), genesis)
        assert (result.rounds, result.certified_round) == (last, last)
        assert await home_note(target) is None


@asynccontextmanager
async def archived(city_server: CityServerFactory, folder: Path) -> AsyncIterator[Archived]:
    async with busy_city(city_server, settled=1) as city:
        there = stores()
        one = archiver(city, archive(folder, there))
        for seed in (1, 2, 3):
            await more(city, seed)
            await archived_up_to(one, city, (await city.head()).certified_round)
        segments = await announced(city)
        assert len(segments) >= 3
        yield Archived(city, there, segments, folder)


PAIRS = list(itertools.combinations(range(4), 2))


async def test_any_two_of_four_stores_are_enough(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        for pair in PAIRS:
            left = {name: it.stores[name] for name in (f"store-{number}" for number in pair)}
            target = await it.target()
            result = await it.rebuilding(target, left).run()
            assert not result.lost
            assert result.segments == len(it.segments)
            assert result.round == it.segments[-1].last
            await it.check(target)


async def test_the_archive_goes_on_where_it_was(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        target = await it.target()
        await it.rebuilding(target).run()
        there = await target.notes(notes.SEGMENT)
        # The last one was announced in a round that is not archived.
        assert [Announcement.from_bytes(note[32:]) for note in there.values()] == it.segments[:-1]
        last = notes.decode_archived((await target.notes(notes.ARCHIVE_LAST))[notes.ARCHIVE_LAST])
        assert last == (it.segments[-2].last, bytes.fromhex(it.segments[-2].object))

        sent: list[bytes] = []

        class Led:
            genesis, storage, progress = it.city.genesis, target, it.city.progress
            pending = 0

            async def head(self) -> Any:
                return await target.head()

            async def submit(self, envelopes: Any) -> Any:
                sent.extend(envelopes)
                return [None]

        # It does not wait until they are old once more: they were announced.
        await archiver(Led(), archive(tmp_path, it.stores, every=timedelta(hours=1))).look()
        # The same segment, packed from what was rebuilt, so that nothing was stored once more.
        following = notes.decode_archiving((await target.notes(notes.ARCHIVE_NEXT))["archive/next"])
        assert following is not None
        assert Announcement.from_bytes(following.content) == it.segments[-1]
        assert sent == [following.envelope]


class Died(BaseException):
    """The process is gone."""


class Mortal:
    """A storage that is gone after so many writes."""

    def __init__(self, real: Any, writes: int, *, before: bool) -> None:
        self._real, self._left, self._before = real, writes, before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name not in ("append", "commit", "certify", "keep"):
            return method

        async def call(*args: Any) -> Any:
            self._left -= 1
            if self._left < 0 or (self._left == 0 and self._before):
                raise Died
            result = await method(*args)
            if self._left == 0:
                raise Died
            return result

        return call


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_what_is_broken_off_goes_on_where_it_ended(
    city_server: CityServerFactory, tmp_path: Path, before: bool
) -> None:
    async with archived(city_server, tmp_path) as it:
        target = await it.target()
        deaths, writes = 0, 0
        while True:
            # Longer each time, so that it comes to its end, and dies at ever other steps.
            writes += 1
            mortal: Any = Mortal(target, writes, before=before)
            try:
                await it.rebuilding(mortal).run()
                break
            except Died:
                deaths += 1
                if (await target.head()).round and await home_note(target) is None:
                    break  # It died when all was done.
        assert deaths >= 4
        await it.check(target)


async def test_a_storage_that_has_the_city_is_left_alone(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        with pytest.raises(InvalidRequest, match="the storage has this city already, up to round"):
            await it.rebuilding(it.city.storage).run()
        assert await home_note(it.city.storage) is None


async def test_without_a_segment_there_is_nothing_to_rebuild(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        target = await it.target()
        with pytest.raises(NotFound):
            await it.rebuilding(target, stores()).run()
        # A server would begin the city anew; only the operator's word lets it.
        assert await home_note(target) is not None
        result = await it.rebuilding(target, stores()).run(incomplete=True)
        assert (result.round, result.lost) == (0, "no store has a segment of it")
        assert await home_note(target) is None


async def test_servers_are_kept_away_while_stores_are_still_listed(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        raise Died

    async with archived(city_server, tmp_path) as it:
        target = await it.target()
        with monkeypatch.context() as patched:
            patched.setattr(rebuilding, "find_segments", dies)
            with pytest.raises(Died):
                await it.rebuilding(target).run()
        assert await home_note(target) is not None
        assert not (await it.rebuilding(target).run()).lost
        await it.check(target)


async def test_a_lease_that_servers_took_is_told(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        target = await it.target()
        for _ in range(2):
            await target.acquire_lease("server", timedelta(seconds=10))
        with pytest.raises(InvalidRequest, match="servers have had the city open"):
            await it.rebuilding(target).run()


async def drop(there: Mapping[str, FragmentStore], announcement: Announcement, first: int) -> None:
    """Lose a segment's fragments from this one on."""
    for key in announcement.keys[first:]:
        for store in there.values():
            await store.delete(key)


@pytest.mark.parametrize(
    ("first", "told"), [(0, "no store has rounds"), (1, "cannot be restored: ")]
)
async def test_a_lost_segment_is_told_and_keeps_servers_away(
    city_server: CityServerFactory, tmp_path: Path, first: int, told: str
) -> None:
    async with archived(city_server, tmp_path) as it:
        kept = {name: MemoryStore() for name in it.stores}
        for name, store in it.stores.items():
            kept[name]._fragments = dict(store._fragments)  # type: ignore[attr-defined]
        await drop(it.stores, it.segments[1], first)
        target = await it.target()
        result = await it.rebuilding(target).run()
        assert result.round == it.segments[0].last
        assert told in result.lost
        note = await home_note(target)
        assert note is not None
        # The stores come back, and the rest is added.
        assert not (await it.rebuilding(target, kept).run()).lost
        await it.check(target)
        # Or nobody has it any more.
        target = await it.target()
        result = await it.rebuilding(target).run(incomplete=True)
        assert result.lost
        assert await home_note(target) is None


# --- what is in the stores and is not what it says


async def put(it: Archived, content: bytes) -> str:
    """Store an object; its id."""
    places = [Place(name, 1, name) for name in it.stores]
    shape = Shape(2, 2, 4 << 10)
    await store_object(io.BytesIO(content), shape, it.stores, places, at_once)
    return sha256(content).hexdigest()


async def content_of(it: Archived, announcement: Announcement) -> bytes:
    target = it.folder / announcement.object
    await restore_object(bytes.fromhex(announcement.object), it.stores, target, at_once)
    return target.read_bytes()


async def rebuilt(it: Archived, lost: str = "") -> Rebuilt:
    target = await it.target()
    result = await it.rebuilding(target).run(incomplete=bool(lost))
    assert lost in result.lost
    assert bool(lost) == bool(result.lost)
    await it.check(target)
    return result


async def test_what_only_begins_as_a_segment_is_left_out(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        genesis = it.city.genesis.id
        await put(it, b"a file of somebody's")
        await put(it, header_bytes(Header(genesis, 1, 1 << 60, bytes(32), 0, b"")) + bytes(9_999))
        first = decode(await content_of(it, it.segments[0])).header
        await put(it, header_bytes(first._replace(last=first.last + 500)) + bytes(50))
        other = header_bytes(Header(bytes(32), 1, 2, bytes(32), 0, b""))
        await put(it, other + bytes(5_000))
        # Who put it there is not known: that no rounds are lost is the operator's word.
        result = await rebuilt(it, "are claimed, and not had: object ")
        assert len([fault for fault in result.faults if "is no segment" in fault]) == 2


async def test_rounds_without_their_certificate_are_left_out(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        content = await content_of(it, it.segments[1])
        [vote] = decode(content).rounds[0].stored.certificate.votes  # type: ignore[union-attr]
        at = content.index(vote.signature)
        wrong = content[: at + 9] + bytes((content[at + 9] ^ 1,)) + content[at + 10 :]
        decode(wrong)
        await put(it, wrong)
        await drop(it.stores, it.segments[1], 0)
        target = await it.target()
        result = await it.rebuilding(target).run()
        assert result.round == it.segments[0].last
        assert any("quorum" in fault for fault in result.faults)
        assert "no store has rounds" in result.lost


async def test_a_signature_that_was_changed_is_left_out(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    """No hash has it: not the transaction's id, and so none of the round."""
    async with archived(city_server, tmp_path) as it:
        content = await content_of(it, it.segments[0])
        envelope = decode(content).rounds[0].transactions[-1].envelope
        at = content.index(envelope) + len(envelope) - 200
        wrong = bytearray(content)
        # Of two that lead equally far the one with the greater id is tried first.
        for changed in itertools.count():
            wrong[at : at + 8] = changed.to_bytes(8)
            if sha256(wrong).hexdigest() > it.segments[0].object:
                break
        decode(bytes(wrong))
        await put(it, bytes(wrong))
        result = await rebuilt(it)
        [fault] = [fault for fault in result.faults if "BAD_SIGNATURE" in fault]
        assert sha256(wrong).hexdigest() in fault


# --- what may be lost, though nothing says so


class Away(MemoryStore):
    """Opens, and then does not answer."""

    async def keys(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    async def find(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")


async def test_a_last_segment_that_may_be_elsewhere_keeps_servers_away(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        whole = {name: MemoryStore() for name in it.stores}
        for name, store in it.stores.items():
            whole[name]._fragments = dict(store._fragments)  # type: ignore[attr-defined]
        await drop(it.stores, it.segments[-1], 0)
        target = await it.target()
        left: dict[str, FragmentStore] = {**it.stores, "elsewhere": Away()}
        result = await it.rebuilding(target, left).run()
        assert result.round == it.segments[-2].last
        assert "may be in stores that do not answer: elsewhere" in result.lost
        assert await home_note(target) is not None
        # So it is with one that could not even be opened.
        folder, genesis = it.folder / "segments", it.city.genesis
        closed = Rebuilding(
            genesis, it.stores, target, folder=folder, compute=at_once, away=["closed"]
        )
        assert "do not answer: closed" in (await closed.run()).lost
        # All stores are there, and nothing speaks for more rounds; or it is found after all.
        assert not (await it.rebuilding(await it.target()).run()).lost
        assert not (await it.rebuilding(target, whole).run()).lost
        await it.check(target)


async def test_an_unreadable_object_may_be_the_last_segment(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        key, *others = it.segments[-1].keys
        for store in it.stores.values():
            for other in (key, *others[:-1]):
                await store.delete(other)
        target = await it.target()
        result = await it.rebuilding(target).run()
        assert "may be in 1 objects of which not even the beginning can be read" in result.lost
        assert await home_note(target) is not None


async def test_a_last_segment_that_does_not_hold_keeps_servers_away(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with archived(city_server, tmp_path) as it:
        last = it.segments[-1]
        content = await content_of(it, last)
        [vote] = decode(content).rounds[-1].stored.certificate.votes  # type: ignore[union-attr]
        at = content.index(vote.signature)
        await put(it, content[: at + 9] + bytes((content[at + 9] ^ 1,)) + content[at + 10 :])
        await drop(it.stores, last, 0)
        target = await it.target()
        result = await it.rebuilding(target).run()
        assert f"rounds {last.first} to {last.last} are claimed, and not had" in result.lost
        assert await home_note(target) is not None


class Small(ArchiveSettings):
    @property
    def segment_bytes(self) -> int:
        return 1


async def test_an_archive_that_lagged_is_not_packed_into_one_segment(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with busy_city(city_server, settled=3) as city:
        for seed in range(10, 18):
            await more(city, seed)
        there = stores()
        given = archive(tmp_path, there)
        given = replace(given, settings=Small(every=timedelta(milliseconds=1)))
        await archived_up_to(archiver(city, given), city, (await city.head()).certified_round)
        it = Archived(city, there, await announced(city), tmp_path)
        assert len(it.segments) >= 3
        target = await it.target()
        result = await it.rebuilding(target).run()
        noted = await target.notes("archive/")
        last = notes.decode_archived(noted.get(notes.ARCHIVE_LAST, b"")).round
        following = notes.decode_archiving(noted[notes.ARCHIVE_NEXT])
        assert following is not None
        assert following.round == min(one.last for one in it.segments if one.last > last)
        assert following.round < result.round
