"""What the holder of a store is not proven to have any more is made elsewhere by the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from archive.conftest import OPERATOR, at_once
from ruins import Ruin, are_whole, open_ruin

from citychain import notes
from citychain.archive.resting import Rests
from citychain.city.pipeline import City
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import Pruned
from citychain.holding import stored as counting
from citychain.holding.stored import StoredRecounts
from citychain.ports import can_prune
from citychain.repair.repairer import Repairer
from citychain.statements import Holding, HoldingRules, Statement
from citychain.testing.clock import FakeClock
from citychain.testing.server import CityServerFactory
from citychain.types import State

HOLDER = SigningKey(b"h" * 32)
HOLDER_ID = key_id(HOLDER.public_key)
RULES = HoldingRules(challenge_rounds=5, answer_rounds=2, receipts=1)
HOUR_MS = 3_600_000


@dataclass
class Held:
    """A city whose operator announced the segments of a ruin, and the holder of one store."""

    city: City
    ruin: Ruin
    folder: Path
    store: str = ""
    """Of the first segment's fragment 2, which `HOLDER` holds."""

    async def state(self, key: SigningKey, *statements: Statement) -> None:
        """Each approved before the next."""
        for each in statements:
            await self.write(key, each.encode(), each.CONTENT_TYPE)

    async def write(self, key: SigningKey, data: bytes, content_type: str = "") -> int:
        signed = sign_transaction(
            key,
            genesis=self.city.genesis.id,
            data=data,
            content_type=content_type,
            with_public_key=True,
        )
        await self.city.submit([signed.envelope])
        async for batch in self.city.watch_transactions([signed.tx_id], State.APPROVED):
            [event] = batch.events
            assert event.state == State.APPROVED, batch
        return (await self.city.head()).certified_round

    async def hold(self, until_ms: int) -> None:
        """Have the holder say that it has the fragment."""
        await self.state(HOLDER, Holding.of(until_ms, [self.ruin.segments[0].keys[2]]))

    async def miss_a_challenge(self) -> None:
        """Rounds until one that asked is over, and nothing was answered."""
        asked = None
        while True:
            round = await self.write(OPERATOR, b"more")
            if asked is None and round % RULES.challenge_rounds == 0:
                asked = round
            elif asked is not None and round >= asked + RULES.answer_rounds:
                return

    def recounts(self, rests: Any = None, archived: Any = None) -> StoredRecounts:
        async def none(_: Any) -> Any:
            raise AssertionError("nothing was pruned")

        return StoredRecounts(
            genesis=self.city.genesis,
            storage=self.city.storage,
            holders=[HOLDER_ID],
            archived=archived or none,
            folder=self.folder,
            compute=at_once,
            monotonic=self.ruin.clock.monotonic,
            rest=Rests(lambda: 0, 1, self.ruin.clock).after,
        )

    def repairer(self) -> Repairer:
        self.ruin.storage = self.city.storage
        holders = {self.store: HOLDER_ID}
        return self.ruin.repairer(holders=holders, recounts=self.recounts)

    def places(self) -> dict[int, set[str]]:
        """The folders that have each fragment of the first segment."""
        return {
            index: {it.parent.parent.name for it in self.ruin.files(self.ruin.segments[0], index)}
            for index in range(4)
        }


@asynccontextmanager
async def held(city_server: CityServerFactory, folder: Path) -> AsyncIterator[Held]:
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server({"nara": {}}, {"nara": {"handler": caught}}, operator=OPERATOR) as server,
        server.client("nara") as client,
        open_ruin(folder, segments=2) as ruin,
    ):
        await client.info()
        city = Held(found[0], ruin, folder / "recounts")
        await city.city.storage.keep(ruin.storage._notes)
        await city.state(OPERATOR, RULES, *ruin.segments)
        [city.store] = city.places()[2]
        # The time of the city is that of its rounds.
        [last] = await city.city.storage.rounds((await city.city.head()).round, 1)
        ruin.clock = FakeClock(last.time_ms)
        yield city


@pytest.mark.parametrize("trouble", ["expired", "failed", "taken back"])
async def test_what_is_not_proven_any_more_is_made_elsewhere(
    city_server: CityServerFactory, tmp_path: Path, trouble: str
) -> None:
    async with held(city_server, tmp_path) as city:
        await city.hold(city.ruin.clock.time_ms() + HOUR_MS)
        before, one = city.places(), city.repairer()
        for _ in range(3):
            assert await one.look()
        assert city.places() == before, "it is proven"
        match trouble:
            case "expired":
                city.ruin.clock.jump(3_601)
            case "failed":
                await city.miss_a_challenge()
            case "taken back":
                await city.hold(1)
        assert await one.look()
        assert city.places() == before, "it may be proven again until the next look"
        assert await one.look()
        after = city.places()
        assert after[2] > before[2] == {city.store}
        assert {index: it for index, it in after.items() if index != 2} == {
            index: it for index, it in before.items() if index != 2
        }
        for _ in range(2):
            assert await one.look()
            assert await city.repairer().look()
        assert city.places() == after, "once"
        await are_whole(city.ruin.stores, *city.ruin.segments)


async def test_what_is_proven_again_meanwhile_is_left_alone(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with held(city_server, tmp_path) as city:
        await city.hold(city.ruin.clock.time_ms() + HOUR_MS)
        city.ruin.clock.jump(3_601)
        before, one = city.places(), city.repairer()
        assert await one.look()
        await city.hold(city.ruin.clock.time_ms() + HOUR_MS)
        for _ in range(3):
            assert await one.look()
        assert city.places() == before


@pytest.mark.parametrize("is_proven", [True, False])
async def test_a_store_that_is_away_has_lost_what_its_holder_does_not_prove(
    city_server: CityServerFactory, tmp_path: Path, is_proven: bool
) -> None:
    async with held(city_server, tmp_path) as city:
        await city.hold(city.ruin.clock.time_ms() + HOUR_MS)
        if not is_proven:
            city.ruin.clock.jump(3_601)
        before, one = city.places(), city.repairer()
        del city.ruin.stores[city.store]
        for _ in range(3):
            assert not await one.look()
        after = city.places()
        assert (after[2] > before[2]) is not is_proven
        # Of what nobody signed for nothing is said.
        assert sum(map(len, after.values())) - 4 == (not is_proven)


async def test_the_recount_goes_on_where_it_was_and_begins_anew_where_it_must(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held(city_server, tmp_path) as city:
        read: list[int] = []
        real = city.city.storage.rounds

        async def rounds(first: int, limit: int) -> Any:
            read.append(first)
            return await real(first, limit)

        monkeypatch.setattr(city.city.storage, "rounds", rounds)
        monkeypatch.setattr(counting, "ROUNDS_PAGE", 2)
        await city.hold(city.ruin.clock.time_ms() + HOUR_MS)
        state = (await city.recounts().follow())[HOLDER_ID]
        last = (await city.city.head()).certified_round
        assert (state.round, read) == (last, list(range(1, last + 1, 2)))
        assert state.proven(HOLDER_ID, city.ruin.clock.time_ms())
        # Another process, after one more round.
        await city.write(OPERATOR, b"more")
        read.clear()
        again = (await city.recounts().follow())[HOLDER_ID]
        assert read == [last + 1]
        assert again.states[HOLDER_ID].receipts == state.states[HOLDER_ID].receipts
        # A file that nobody can read, and one of rounds that were given up.
        [file] = city.folder.glob("*.json")
        kept = file.read_text()
        checkpoint_hash = again.checkpoint_hash.hex()
        for spoilt in ("{", kept.replace(checkpoint_hash, checkpoint_hash[::-1])):
            file.write_text(spoilt)
            read.clear()
            anew = (await city.recounts().follow())[HOLDER_ID]
            assert read[0] == 1
            assert anew.states[HOLDER_ID].receipts == again.states[HOLDER_ID].receipts
            assert file.read_text() == kept


async def test_what_was_pruned_is_counted_from_the_archive(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with held(city_server, tmp_path) as city:
        await city.hold(city.ruin.clock.time_ms() + HOUR_MS)
        whole = (await city.recounts().follow())[HOLDER_ID]
        for file in city.folder.glob("*.json"):
            file.unlink()
        storage: Any = city.city.storage
        sealed = dict(storage._raw)
        retention = can_prune(storage)
        assert retention is not None
        await retention.prune(list(sealed))
        assert not await storage.raw(list(sealed))

        async def archived(tx_ids: Any) -> Any:
            return {tx_id: sealed[tx_id] for tx_id in tx_ids}

        again = (await city.recounts(archived=archived).follow())[HOLDER_ID]
        assert again.states == whole.states

        async def gone(tx_ids: Any) -> Any:
            raise Pruned(1, "no segment of the archive has it")

        for file in city.folder.glob("*.json"):
            file.unlink()
        with pytest.raises(Pruned):
            await city.recounts(archived=gone).follow()
        # What is lost is made anew all the same.
        city.ruin.file(city.ruin.segments[0], 0).unlink()
        one = city.repairer()
        one._recounts = city.recounts(archived=gone)
        assert await one.look()
        await are_whole(city.ruin.stores, *city.ruin.segments)
        assert city.ruin.numbers.outcomes.made == 1


async def test_a_server_repairs_the_cities_that_it_leads(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    tables = {
        name: {"kind": "directory", "path": str(tmp_path / name)} for name in ("a", "b", "c", "d")
    }
    for table in tables.values():
        Path(table["path"]).mkdir()
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server(
            {"nara": {}},
            {"nara": {"handler": caught}},
            operator=OPERATOR,
            fragments={"stores": tables},
            archive={"every": "1s", "repair_every": "1s"},
        ) as server,
        server.client("nara") as client,
    ):
        await client.info()
        [city] = found
        there = Held(city, Ruin(tmp_path, {}), tmp_path)
        await there.write(OPERATOR, b"one")

        def fragments() -> dict[str, Path]:
            return {it.name: it for it in tmp_path.glob("?/???/*-*")}

        async with asyncio.timeout(600):
            while not await city.storage.notes(notes.SEGMENT_READ):
                await asyncio.sleep(0.05)
            [lost, *others] = fragments().values()
            assert len(others) >= 3
            content = lost.read_bytes()
            lost.unlink()
            # In whatever store: one that opened late may be given it now.
            while lost.name not in fragments():
                await asyncio.sleep(0.05)
        assert fragments()[lost.name].read_bytes() == content
        running = [str(task.get_coro()) for task in asyncio.all_tasks()]
        assert [it for it in running if "Repairer" in it]
    running = [str(task.get_coro()) for task in asyncio.all_tasks()]
    assert not [it for it in running if "Repairer" in it], "it ends with its term"


async def test_a_server_can_be_told_not_to(city_server: CityServerFactory, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server(
            {"nara": {"archive": {"repair": False}}},
            {"nara": {"handler": caught}},
            operator=OPERATOR,
            fragments={"stores": {"disk": {"kind": "directory", "path": str(tmp_path / "disk")}}},
        ) as server,
        server.client("nara") as client,
    ):
        await client.info()
        assert found[0]._leading_parts.repair is None
        assert found[0]._leading_parts.archive is not None
