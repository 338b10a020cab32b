"""A city's storage is pruned when the archive is proven to have what goes, and never before."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
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
    stores,
)
from following.test_audit import audit
from history import History

from citychain import notes, record
from citychain._native.transactions import decode_batch
from citychain.archive import packing
from citychain.archive.passing import passing_folder
from citychain.archive.signed import Votes
from citychain.between_cities import RemittanceState, anchor_object, outbox_object
from citychain.checkpoint import checkpoint_hash
from citychain.city.pipeline import City
from citychain.client.transactions import sign_transaction
from citychain.clock import SystemClock
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRound, Pruned, StoreUnavailable
from citychain.following.source import StorageSource
from citychain.fragments.memory import MemoryStore
from citychain.fragments.sources import ROOTS_MAX
from citychain.keeping.stores import OpenStores
from citychain.moving.copying import CityCopy
from citychain.ports import FragmentKey, FragmentStore, can_prune
from citychain.receipt import ReceiptVerifier
from citychain.retention import pruner as pruning
from citychain.retention import segments as reading
from citychain.retention import stated
from citychain.retention.composing import city_retention
from citychain.retention.pruner import Portion, Pruner
from citychain.retention.segments import ArchivedTransactions, Segments
from citychain.statements import Retention
from citychain.statements import Segment as Announcement
from citychain.storage.memory import MemoryCity, PrunableCity
from citychain.testing.server import CityServerFactory
from citychain.types import ObjectWrite, RawTransaction, State

KEEPS = timedelta(days=180)


class Later(SystemClock):
    """So many days later."""

    def __init__(self, days: float) -> None:
        self.days = days

    def time_ms(self) -> int:
        return super().time_ms() + round(self.days * 86_400_000)


@dataclass
class Place:
    """A city that is archived, and what prunes it."""

    city: City
    stores: dict[str, FragmentStore]
    folder: Path
    clock: Later = field(default_factory=lambda: Later(181))

    @property
    def segments(self) -> Segments:
        genesis, storage = self.city.genesis, self.city.storage
        return Segments(genesis, storage, self.stores, self.folder / "restored", at_once)

    def pruner(self) -> Pruner:
        retention = can_prune(self.city.storage)
        assert retention is not None
        return Pruner(
            genesis=self.city.genesis,
            storage=self.city.storage,
            retention=retention,
            segments=self.segments,
            keeps=KEEPS,
            compute=at_once,
            clock=self.clock,
        )

    async def prune(self, *, dry: bool = False) -> list[Portion]:
        return [portion async for portion in self.pruner().prune(dry=dry)]

    async def there(self) -> dict[bytes, bytes]:
        """Envelopes of sealed transactions that the storage has."""
        found: dict[bytes, bytes] = {}
        for stored in await self.city.storage.rounds(1, 1_000):
            raw = await self.city.storage.raw(record.decode(stored.record).tx_ids)
            found |= {tx_id: one.envelope for tx_id, one in raw.items()}
        return found

    async def archive(self) -> None:
        """Archive all that is approved."""
        one = archiver(self.city, archive(self.folder / "spool", self.stores))
        await archived_up_to(one, self.city, (await self.city.head()).certified_round)

    async def write(self, key: SigningKey = OPERATOR, **fields: Any) -> bytes:
        """Have one more transaction approved."""
        fields = {"data": b"more"} | fields
        signed = sign_transaction(key, genesis=self.city.genesis.id, with_public_key=True, **fields)
        await self.city.submit([signed.envelope])
        async for batch in self.city.watch_transactions([signed.tx_id], State.APPROVED):
            assert [event.state for event in batch.events] == [State.APPROVED], batch
        return signed.tx_id


@asynccontextmanager
async def place(city_server: CityServerFactory, folder: Path) -> AsyncIterator[Place]:
    async with busy_city(city_server, settled=2) as city:
        there = Place(city, stores(), folder)
        await there.archive()
        yield there


def of_round(there: Mapping[bytes, bytes], tx_ids: list[bytes]) -> set[bytes]:
    return {tx_id for tx_id in tx_ids if tx_id in there}


async def test_what_is_old_goes_and_the_ledger_stays_whole(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with place(city_server, tmp_path) as city:
        before = await city.there()
        [segment] = await announced(city.city)
        assert (await city.prune(dry=True))[0].gone > 5
        assert await city.there() == before, "--dry-run changes nothing"
        [portion] = await city.prune()
        gone = before.keys() - (await city.there()).keys()
        assert (portion.first, portion.last, portion.why_not) == (1, segment.last, "")
        assert len(gone) == portion.gone
        assert portion.bytes == sum(len(before[tx_id]) for tx_id in gone)
        assert portion.stay == 0
        # Receipts hold without what was said.
        receipts = await city.city.receipts(list(gone))
        assert receipts.keys() == gone
        verifier = ReceiptVerifier(city.city.genesis)
        for receipt in receipts.values():
            assert receipt.envelope is None
            verifier.verify(receipt)
        statuses = await city.city.status(list(gone))
        assert {one.envelope for one in statuses.values()} == {None}
        assert all(one.node is not None for one in statuses.values())
        assert await city.prune() == [], "what is done is not done again"


async def test_an_audit_reads_what_was_pruned_from_the_archive(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with place(city_server, tmp_path) as city:
        await city.prune()
        storage, genesis = city.city.storage, city.city.genesis
        archived = ArchivedTransactions(city.segments).raw
        head = await city.city.head()
        result = await audit(StorageSource(storage, archived), genesis)
        assert (result.rounds, result.checkpoint_hash) == (head.round, head.checkpoint_hash)
        with pytest.raises(InvalidRound, match="were given; were the others pruned, the archive"):
            await audit(StorageSource(storage), genesis)
        city.stores.clear()
        with pytest.raises(Pruned, match="the archive does not give segment"):
            await audit(StorageSource(storage, ArchivedTransactions(city.segments).raw), genesis)


async def test_what_is_young_stays(city_server: CityServerFactory, tmp_path: Path) -> None:
    async with place(city_server, tmp_path) as city:
        city.clock.days = 179.9
        before = await city.there()
        assert await city.prune() == []
        assert await city.there() == before


async def test_what_is_not_announced_stays(city_server: CityServerFactory, tmp_path: Path) -> None:
    async with busy_city(city_server, settled=1) as open_city:
        city = Place(open_city, stores(), tmp_path)
        before = await city.there()
        assert await city.prune() == []
        assert await city.there() == before


class Spoilt(MemoryStore):
    """A store that stops to answer, or answers with other bytes. It names more manifests than
    anybody looks at, which alone keeps nothing from being proven."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False

    async def find(self, object_id: bytes) -> Any:
        if self.is_down:
            raise StoreUnavailable("no answer")
        boasts = [FragmentKey(object_id, bytes([n]) * 32, 0) for n in range(ROOTS_MAX)]
        return [*boasts, *await super().find(object_id)]

    def spoil(self) -> None:
        for key, content in list(self._fragments.items()):
            self._fragments[key] = content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("trouble", ["down", "wrong", "lost", "gone"])
async def test_what_is_not_proven_stays(
    city_server: CityServerFactory, tmp_path: Path, trouble: str
) -> None:
    async with busy_city(city_server, settled=1) as open_city:
        city = Place(open_city, {**stores(3), "spoilt": (spoilt := Spoilt())}, tmp_path)
        await city.archive()
        before = await city.there()
        kept = dict(spoilt._fragments)
        others = dict(city.stores)
        match trouble:
            case "down":
                spoilt.is_down = True
            case "wrong":
                spoilt.spoil()
            case "lost":
                spoilt._fragments.clear()
            case "gone":
                city.stores.clear()
        [portion] = await city.prune()
        assert portion.why_not
        assert portion.gone == 0
        assert await city.there() == before
        spoilt.is_down = False
        spoilt._fragments.update(kept)
        city.stores |= others
        [portion] = await city.prune()
        assert not portion.why_not
        assert (await city.there()).keys() < before.keys()


async def test_a_transaction_that_the_archive_has_otherwise_stays(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with place(city_server, tmp_path) as city:
        raw: Any = city.city.storage._raw  # type: ignore[attr-defined]
        tx_id, other = list(raw)[:2]
        raw[tx_id] = replace(raw[tx_id], envelope=raw[other].envelope)
        [portion] = await city.prune()
        assert portion.why_not == f"the archive has another transaction {tx_id.hex()}"
        assert tx_id in raw


async def test_what_is_extended_stays_until_then(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with busy_city(city_server, settled=1) as open_city:
        city = Place(open_city, stores(), tmp_path)
        mine = await city.write()
        other = await city.write(data=b"other")
        until = city.clock.time_ms() + 86_400_000
        statement = Retention(until=until, tx_ids=(mine.hex(),))
        stating = await city.write(data=statement.encode(), content_type=statement.CONTENT_TYPE)
        await city.archive()
        [portion] = await city.prune()
        there = await city.there()
        assert of_round(there, [mine, other, stating]) == {mine, stating}
        assert portion.stay == 2
        assert await city.prune() == []
        city.clock.days += 2
        again = await city.prune()
        assert sum(portion.gone for portion in again) == 2
        assert not of_round(await city.there(), [mine, stating])
        noted = await city.city.storage.notes(notes.RETENTION_STATED)
        assert set(noted.values()) == {b""}


async def test_a_stranger_extends_nothing(city_server: CityServerFactory, tmp_path: Path) -> None:
    from following.test_representative import KEYS

    async with busy_city(city_server, settled=1) as open_city:
        city = Place(open_city, stores(), tmp_path)
        theirs = await city.write()
        statement = Retention(until=city.clock.time_ms() + 1_000_000, tx_ids=(theirs.hex(),))
        await city.write(KEYS[0], data=statement.encode(), content_type=statement.CONTENT_TYPE)
        await city.archive()
        await city.prune()
        assert theirs not in await city.there()


async def test_what_was_cut_off_is_repeated(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(city_server, tmp_path) as city:
        await city.write()
        await city.archive()
        assert len(await announced(city.city)) == 2
        real, calls = city.city.storage.prune, 0  # type: ignore[attr-defined]

        async def fails(tx_ids: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise StoreUnavailable("the disk is gone")
            await real(tx_ids)

        monkeypatch.setattr(pruning, "PRUNED_TOGETHER", 5)
        monkeypatch.setattr(city.city.storage, "prune", fails)
        with pytest.raises(StoreUnavailable):
            await city.prune()
        portions = await city.prune()
        assert [portion.why_not for portion in portions] == ["", ""]
        # Announcements, and what is not archived.
        left = await city.there()
        kept = decode_batch(list(left.values()))
        found = await city.city.storage.find(list(left))
        young = [node for node in found.values() if node.round > portions[-1].last]
        stays = [one for one in kept if one.content_type == Announcement.CONTENT_TYPE]
        assert len(young) == 1, "the second announcement"
        assert len(stays) == len(left) == 2


async def test_what_is_behind_a_lost_segment_goes_once(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with place(city_server, tmp_path) as city:
        for text in (b"second", b"third"):
            await city.write(data=text)
            await city.archive()
        first, second, third = await announced(city.city)
        kept = {name: dict(fragments_of(store)) for name, store in city.stores.items()}
        for store in city.stores.values():
            for key in list(fragments_of(store)):
                if key.object_id.hex() == first.object:
                    del fragments_of(store)[key]
        told = [(it.last, bool(it.why_not)) for it in await city.prune()]
        assert told == [(first.last, True), (second.last, False), (third.last, False)]
        assert [it.last for it in await city.prune()] == [first.last], "the others are done"
        for name, store in city.stores.items():
            fragments_of(store).update(kept[name])
        [portion] = await city.prune()
        assert (portion.last, portion.why_not) == (first.last, "")
        assert await city.prune() == []


def fragments_of(store: FragmentStore) -> dict[Any, bytes]:
    assert isinstance(store, MemoryStore)
    return store._fragments


async def test_a_pruned_city_is_not_moved(city_server: CityServerFactory, tmp_path: Path) -> None:
    async with place(city_server, tmp_path) as city:
        await city.prune()
        genesis = city.city.genesis
        target = MemoryCity(SystemClock(), genesis.file, genesis.initial_objects())
        copy = CityCopy(genesis.id, city.city.storage, target, at_once)
        await copy.begin()
        with pytest.raises(InvalidRound, match="citychain rebuild makes the city from its archive"):
            await copy.rounds()


def outgoing(state: RemittanceState) -> bytes:
    return bytes([state]) + bytes(96) + (5).to_bytes(8, "big") + b"coin"


async def test_what_the_ledger_still_needs_is_known(tmp_path: Path) -> None:
    """Remittances that wait for their answer, and the latest anchor of each city below."""
    pending, settled, latest, older, unknown = (bytes([number]) * 32 for number in range(5))
    below, other = b"b" * 32, b"o" * 32
    checkpoints = {latest: b"latest checkpoint", older: b"older checkpoint"}
    anchored = (7).to_bytes(8, "big") + checkpoint_hash(checkpoints[latest])
    storage = PrunableCity(
        SystemClock(),
        b"",
        [
            ObjectWrite(outbox_object(pending), 1, outgoing(RemittanceState.PENDING)),
            ObjectWrite(outbox_object(settled), 1, outgoing(RemittanceState.DELIVERED)),
            ObjectWrite(anchor_object(below), 1, anchored),
        ],
    )
    pruner = Pruner(
        genesis=SimpleNamespace(city="tokyo", operator_id=bytes(32)),  # type: ignore[arg-type]
        storage=storage,
        retention=storage,
        segments=Segments(History({1: 1}).genesis, storage, {}, tmp_path, at_once),
        keeps=KEEPS,
        compute=at_once,
        clock=SystemClock(),
    )

    def sends(tx_id: bytes) -> Any:
        return SimpleNamespace(tx_id=tx_id, remittance=object(), anchor=None)

    def anchors(tx_id: bytes, city: bytes) -> Any:
        anchor = SimpleNamespace(city=city, checkpoint=checkpoints[tx_id])
        return SimpleNamespace(tx_id=tx_id, remittance=None, anchor=anchor)

    transactions = [
        *(sends(tx_id) for tx_id in (pending, settled, unknown)),
        *(anchors(tx_id, below) for tx_id in (latest, older)),
        SimpleNamespace(tx_id=unknown, remittance=None, anchor=None),
    ]
    assert await pruner._needed(transactions) == {pending, latest}
    assert await pruner._needed([anchors(latest, other)]) == set()


class Resting(SystemClock):
    """Notes how long is slept, and ends the fifth sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == 5:
            raise asyncio.CancelledError


async def test_what_fails_is_tried_again_later_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = PrunableCity(clock := Resting(), b"", ())
    pruner = Pruner(
        genesis=SimpleNamespace(city="tokyo", operator_id=bytes(32)),  # type: ignore[arg-type]
        storage=storage,
        retention=storage,
        segments=Segments(History({1: 1}).genesis, storage, {}, tmp_path, at_once),
        keeps=KEEPS,
        compute=at_once,
        clock=clock,
    )
    fails = iter([True, True, True, False, False])
    notes_of = storage.notes

    async def noted(prefix: str, known: Any = None) -> Any:
        if prefix == notes.RETENTION_PRUNED and next(fails):
            raise StoreUnavailable("no disk")
        return await notes_of(prefix, known)

    monkeypatch.setattr(storage, "notes", noted)
    with pytest.raises(asyncio.CancelledError):
        await pruner.run()
    look = pruning.LOOK.total_seconds()
    assert clock.slept == [2 * look, 4 * look, 8 * look, look, look]


# --- what is damaged and no hash knows


def signature_damaged(storage: Any, tx_id: bytes) -> RawTransaction:
    """As it is with a bit of its signature the other way round."""
    kept: RawTransaction = storage._raw[tx_id]
    envelope = bytearray(kept.envelope)
    [before] = decode_batch([kept.envelope])
    at = kept.envelope.index(before.signature) + 9
    envelope[at] ^= 1
    return replace(kept, envelope=bytes(envelope))


def vote_damaged(stored: Any) -> Any:
    vote = stored.certificate.votes[0]
    wrong = vote.signature[:9] + bytes((vote.signature[9] ^ 1,)) + vote.signature[10:]
    votes = (vote._replace(signature=wrong), *stored.certificate.votes[1:])
    return replace(stored, certificate=replace(stored.certificate, votes=votes))


@pytest.mark.parametrize("damaged", ["signature", "vote", "key"])
async def test_what_nobody_could_take_is_neither_archived_nor_pruned(
    city_server: CityServerFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damaged: str,
) -> None:
    async with busy_city(city_server, settled=1) as city:
        there = Place(city, stores(), tmp_path)
        tx_id = await there.write()
        storage: Any = city.storage
        author = storage._raw[tx_id].author
        if damaged == "signature":
            monkeypatch.setitem(storage._raw, tx_id, signature_damaged(storage, tx_id))
        elif damaged == "vote":
            monkeypatch.setattr(
                storage, "_rounds", [vote_damaged(storage._rounds[0]), *storage._rounds[1:]]
            )
        else:
            monkeypatch.setattr(storage, "_keys", dict(storage._keys))
            del storage._keys[author]
        with pytest.raises(InvalidRound) as raised:
            await there.archive()
        assert raised.value.round >= 1
        assert await announced(city) == []
        if damaged == "key":
            return
        # An older release archived it all the same.
        with monkeypatch.context() as older:
            older.setattr(packing, "check_signatures", lambda *_: None)
            older.setattr(Votes, "check", no_check)
            await there.archive()
        [portion] = await there.prune()
        assert portion.gone == 0
        assert "cannot be rebuilt from: " in portion.why_not
        assert tx_id in await there.there()


async def no_check(*_: Any) -> None:
    """Takes everything."""


async def test_stores_that_open_later_are_waited_for(tmp_path: Path) -> None:
    genesis = History({1: 1}).genesis
    city: Any = SimpleNamespace(
        plan=lambda: SimpleNamespace(slug="tokyo", retention=KEEPS),
        storage=lambda: PrunableCity(SystemClock(), b"", ()),
        genesis=lambda: genesis,
        clock=SystemClock,
    )
    core: Any = SimpleNamespace(
        settings=lambda: SimpleNamespace(data_dir=tmp_path), compute=lambda: at_once
    )
    plans: Any = {"disk": None}
    closed = OpenStores(plans, {}, {"disk": StoreUnavailable("not mounted yet")})
    given = city_retention(core, city, closed)
    assert given.prune is not None
    assert given.archived is not None
    assert city_retention(core, city, OpenStores({}, {}, {})) == (None, None)


async def test_only_the_announcement_that_is_asked_for_is_read(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(city_server, tmp_path) as there:
        await there.write()
        await there.archive()
        one, two = await announced(there.city)
        other = two.model_copy(update={"first": 10_001, "last": 10_002}).encode()
        await there.city.storage.keep({notes.round_name(notes.SEGMENT, 10_002): bytes(32) + other})
        read: list[bytes] = []

        class Counted(Announcement):
            @classmethod
            def from_bytes(cls, content: bytes) -> Any:
                read.append(content)
                return Announcement.from_bytes(content)

        segments = there.segments
        monkeypatch.setattr(reading, "Announcement", Counted)
        for round in (*range(1, two.last + 1), 10_001, *range(1, two.last + 1)):
            found = await segments.of_round(round)
            assert found is not None
            assert found.first <= round <= found.last
        assert len(read) == 3
        assert await segments.of_round(two.last + 1) is None
        assert await segments.of_round(10_003) is None
        assert await segments.of_round(one.last) == one


async def test_looking_through_the_ledger_rests(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Later):
        """Each look at it is a second later."""

        now = 0.0
        slept = 0.0

        def monotonic(self) -> float:
            self.now += 1
            return self.now

        async def sleep(self, seconds: float) -> None:
            self.slept += seconds

    monkeypatch.setattr(stated, "ROUNDS_PAGE", 2)
    async with place(city_server, tmp_path) as there:
        rounds = (await there.city.head()).certified_round
        clock = Slow(181)
        look = stated.Stated(there.city.genesis, there.city.storage, at_once, clock)
        await look.extensions(clock.time_ms(), rests=1.0)
        assert clock.slept == -(-rounds // 2)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = passing_folder(tmp_path)
    young = passing_folder(tmp_path)
    (Path(left.name) / "part").write_bytes(b"8 MiB")
    os.utime(left.name, (1, 1))
    (tmp_path / "notes.txt").touch()
    os.utime(tmp_path / "notes.txt", (1, 1))
    with passing_folder(tmp_path) as now:
        there = {path.name for path in tmp_path.iterdir()}
        assert there == {Path(now).name, Path(young.name).name, "notes.txt"}
    young.cleanup()
    left.cleanup()
