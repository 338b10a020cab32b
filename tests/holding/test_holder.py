"""A holder with a real server: what it says, answers, takes back and renews."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from citychain.client.city import CityClient
from citychain.client.transactions import sign_transaction
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, StoreUnavailable
from citychain.fragments.layout import Shape
from citychain.fragments.memory import MemoryStore
from citychain.fragments.writing import survey_object, write_fragments
from citychain.genesis import Genesis
from citychain.holding.deeds import Answered, Claimed, Deed, Missed, Refused, TakenBack, Unproven
from citychain.holding.holder import Holder
from citychain.holding.kept import load_recount, save_recount
from citychain.holding.recount import Recount
from citychain.holding.shelves import Shelves
from citychain.ports import FragmentKey
from citychain.statements import HoldingRules, Segment, Statement
from citychain.types import Presence, State

OPERATOR, KEY = SigningKey(b"\1" * 32), SigningKey(b"\2" * 32)
EVERY, WITHIN = 12, 8
RULES = HoldingRules(challenge_rounds=EVERY, answer_rounds=WITHIN, receipts=1)
TERM = timedelta(days=3)
PATIENCE = timedelta(seconds=120)
CHUNK = 16 << 10
CONTENT = bytes(range(256)) * 640
"""Five whole stripes: all chunks are of one size, whichever are asked for."""


class Shelf(MemoryStore):
    """A store that can be switched off, and whose fragments can be looked at."""

    is_down = False

    @property
    def content(self) -> dict[FragmentKey, bytes]:
        return self._fragments

    async def size(self, key: FragmentKey) -> int | None:
        self._answer()
        return await super().size(key)

    async def keys(self, after: FragmentKey | None, limit: int) -> Any:
        self._answer()
        return await super().keys(after, limit)

    def _answer(self) -> None:
        if self.is_down:
            raise StoreUnavailable("it is switched off")


class HangingShelf(Shelf):
    """A store that never answers."""

    lists = False
    asked = 0

    async def size(self, key: FragmentKey | None) -> int | None:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def keys(self, after: FragmentKey | None, limit: int) -> Any:
        return await super().keys(after, limit) if self.lists else await self.size(after)


@dataclass
class Place:
    """A city with a segment, and a holder of it."""

    client: CityClient
    genesis: Genesis
    stores: Mapping[str, Shelf]
    segment: Segment
    compute: Executor
    told: list[Deed] = field(default_factory=list)

    def holder(self, term: timedelta = TERM, **kept: Any) -> Holder:
        """A new one, which knows nothing but what was kept: as after a restart."""
        others: dict[str, Any] = {"stores": self.stores, "clock": SystemClock()}
        return Holder(
            genesis=self.genesis,
            key=KEY,
            client=self.client,
            compute=self.compute,
            term=term,
            told=self.told.append,
            **(others | kept),
        )

    async def state(self, *statements: Statement) -> None:
        """By the operator, each approved before the next."""
        for each in statements:
            await self.submit(each.encode(), each.CONTENT_TYPE)

    async def submit(self, data: bytes, content_type: str = "") -> None:
        signed = sign_transaction(
            OPERATOR, genesis=self.genesis.id, data=data, content_type=content_type
        )
        await self.client.submit([signed], timeout=PATIENCE)
        await self.client.wait([signed.tx_id], timeout=PATIENCE)

    async def be_present(self, key: SigningKey) -> None:
        """Where the city is, from its last round on."""
        head = (await self.client.info()).head
        anchor = head.checkpoint_hash or self.genesis.id
        presence = Presence(0, 0, 10, head.round, head.round + 100, anchor, ())
        signed = sign_transaction(
            key, genesis=self.genesis.id, action=presence, with_public_key=True
        )
        await self.client.submit([signed], timeout=PATIENCE)
        events = await self.client.wait([signed.tx_id], timeout=PATIENCE)
        assert events[signed.tx_id].state == State.APPROVED, events

    async def round(self) -> int:
        return (await self.client.info()).head.certified_round

    async def seal_until(self, last: int) -> None:
        """Rounds of other people's up to this one."""
        while await self.round() < last:
            await self.submit(b"%d" % await self.round())

    async def challenge(self) -> int:
        """Go on to the next round whose checkpoint asks; returns it."""
        due = (await self.round() // EVERY + 1) * EVERY
        await self.seal_until(due)
        assert await self.round() == due, "more was sealed than this test submits"
        return due


class StoppedClock(SystemClock):
    """No pause is ever over."""

    def monotonic(self) -> float:
        return 1_000.0


@pytest.fixture
async def place(city_server: Any) -> AsyncIterator[Place]:
    async with _place(city_server, ["tokyo"]) as there:
        yield there


@asynccontextmanager
async def _place(city_server: Any, cities: Any, first: Any = None) -> AsyncIterator[Place]:
    async with (
        Executor(2) as compute,
        city_server(cities, operator=OPERATOR) as server,
        server.client("tokyo", timeout=PATIENCE) as client,
    ):
        stores = {"cellar": Shelf(), "attic": Shelf()}
        source, shape = io.BytesIO(CONTENT), Shape(2, 1, CHUNK)
        survey = await survey_object(source, shape, compute)
        places = {0: stores["cellar"], 1: stores["attic"], 2: stores["attic"]}
        await write_fragments(source, survey, places, compute)
        segment = Segment(
            first=1,
            last=9,
            object=survey.manifest.object_id.hex(),
            root=survey.manifest.root.hex(),
            data=2,
            parity=1,
            chunk=CHUNK,
            size=len(CONTENT),
        )
        genesis = Genesis.from_bytes((await client.info()).genesis_file)
        there = Place(client, genesis, stores, segment, compute)
        if first is not None:
            await first(there)
        await there.state(RULES, segment)
        yield there


async def test_it_says_what_it_has_once_and_answers_once(place: Place) -> None:
    assert await place.holder().once(PATIENCE)
    [claimed] = place.told
    assert isinstance(claimed, Claimed)
    assert claimed.fragments == 3
    challenge = await place.challenge()
    assert await place.holder().once(PATIENCE)
    # Two chunks of 16 KiB fit into a transaction.
    assert place.told[1:] == [Answered(challenge, 2), Answered(challenge, 1)]
    last = place.holder()
    assert await last.once(PATIENCE)
    assert len(place.told) == 3, "all was said and answered"
    await place.seal_until(challenge + WITHIN)
    await last.once(PATIENCE)
    assert last.recount.availability(last.key_id, 1, last.recount.round) == 1
    assert last.recount.proven(last.key_id, claimed.until_ms - 1) == {*place.segment.keys}
    assert last.key_id == key_id(KEY.public_key)


async def test_what_is_gone_is_not_proven_and_taken_back(place: Place) -> None:
    await place.holder().once(PATIENCE)
    challenge = await place.challenge()
    gone = place.segment.keys[0]
    [name] = [name for name, shelf in place.stores.items() if gone in shelf.content]
    kept = place.stores[name].content.pop(gone)
    holder = place.holder()
    assert not await holder.once(PATIENCE)
    [_, unproven, answered, taken] = place.told
    assert isinstance(unproven, Unproven)
    assert (unproven.round, unproven.key, unproven.lost) == (challenge, gone, True)
    assert f"store {name}: there is no fragment 0" in unproven.detail
    assert (answered, taken) == (Answered(challenge, 2), TakenBack(1))
    await place.seal_until(challenge + WITHIN)
    await holder.once(PATIENCE)
    recount = holder.recount
    assert recount.availability(holder.key_id, 1, recount.round) == Fraction(2, 3)
    assert recount.lacking(0) == {gone: 0}
    # It is there again: said anew, and proven when it is asked for.
    place.stores[name].content[gone] = kept
    again = place.holder()
    assert await again.once(PATIENCE)
    assert isinstance(place.told[-1], Claimed)
    assert place.told[-1].fragments == 1
    challenge = await place.challenge()
    await again.once(PATIENCE)
    await place.seal_until(challenge + WITHIN)
    await again.once(PATIENCE)
    assert again.recount.lacking(0) == {}


async def test_what_was_missed_is_told_until_it_is_answered_for(place: Place) -> None:
    await place.holder().once(PATIENCE)
    over = await place.challenge() + WITHIN
    await place.seal_until(over)
    late = place.holder()
    for _ in range(2):
        assert await late.once(PATIENCE), "nothing is left to do"
    assert place.told[1:] == [Missed(over, 3, silent=True)]
    # Of a restart it is told anew.
    await place.holder().once(PATIENCE)
    assert place.told[2:] == [Missed(over, 3, silent=True)]
    again = await place.challenge()
    await late.once(PATIENCE)
    await place.seal_until(again + WITHIN)
    place.told.clear()
    await place.holder().once(PATIENCE)
    assert place.told == []


async def test_a_wrong_byte_is_found_when_it_is_asked_for(place: Place) -> None:
    await place.holder().once(PATIENCE)
    challenge = await place.challenge()
    for shelf in place.stores.values():
        for key, content in shelf.content.items():
            shelf.content[key] = bytes(len(content) - 200) + content[-200:]
    holder = place.holder()
    assert not await holder.once(PATIENCE)
    unproven = [it for it in place.told if isinstance(it, Unproven)]
    assert {it.key for it in unproven} == {*place.segment.keys}
    assert all(it.lost and it.round == challenge for it in unproven)
    assert place.told[-1] == TakenBack(3)


async def test_what_is_wrong_from_the_beginning_is_not_signed_for(place: Place) -> None:
    wrong = place.segment.keys[1]
    [shelf] = [shelf for shelf in place.stores.values() if wrong in shelf.content]
    right = shelf.content[wrong]
    shelf.content[wrong] = bytes((right[0] ^ 1,)) + right[1:]
    holder = place.holder()
    assert not await holder.once(PATIENCE)
    [unproven, claimed] = place.told
    assert isinstance(unproven, Unproven)
    assert isinstance(claimed, Claimed)
    assert (unproven.round, unproven.key, unproven.lost) == (0, wrong, True)
    assert claimed.fragments == 2
    assert not await holder.once(PATIENCE)
    shelf.content[wrong] = right
    assert await holder.once(PATIENCE)
    assert place.told[-1] == Claimed(1, place.told[-1].until_ms)  # type: ignore[union-attr]


async def test_a_store_that_is_away_has_lost_nothing(place: Place) -> None:
    await place.holder().once(PATIENCE)
    challenge = await place.challenge()
    place.stores["attic"].is_down = True
    holder = place.holder()
    assert not await holder.once(PATIENCE)
    unproven = [it for it in place.told if isinstance(it, Unproven)]
    assert {it.key.index for it in unproven} == {1, 2}
    assert not any(it.lost for it in unproven)
    assert not any(isinstance(it, TakenBack) for it in place.told)
    assert Answered(challenge, 1) in place.told
    place.stores["attic"].is_down = False
    assert await holder.once(PATIENCE)
    assert place.told[-1] == Answered(challenge, 2)


async def test_a_store_that_cannot_be_opened_has_lost_nothing(place: Place) -> None:
    """Its disk is not mounted, say. What others say to be missing may be there."""
    await place.holder().once(PATIENCE)
    challenge = await place.challenge()
    cellar = {"cellar": place.stores["cellar"]}
    holder = place.holder(stores=cellar, closed={"attic": "no such folder"})
    assert not await holder.once(PATIENCE)
    unproven = [it for it in place.told if isinstance(it, Unproven)]
    assert {it.key.index for it in unproven} == {1, 2}
    assert not any(it.lost for it in unproven)
    assert all("store attic: no such folder" in it.detail for it in unproven)
    assert not any(isinstance(it, TakenBack) for it in place.told)
    assert place.told[-1] == Answered(challenge, 1)


async def test_a_store_that_hangs_stops_no_answer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citychain.holding.shelves.READ_SECONDS", 0.05)
    monkeypatch.setattr("citychain.holding.shelves.LIST_SECONDS", 0.05)
    await place.holder().once(PATIENCE)
    challenge = await place.challenge()
    hanging = HangingShelf()
    holder = place.holder(stores={"bay": hanging, **place.stores}, clock=StoppedClock())
    assert not await holder.once(PATIENCE), "it may have more"
    assert place.told[1:] == [Answered(challenge, 2), Answered(challenge, 1)]
    assert hanging.asked == 1, "it is left alone for a while"


async def test_an_answer_that_is_full_waits_for_no_other_chunk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One chunk fills it here, and each is proven once the one before is sent."""
    monkeypatch.setattr("citychain.holding.parcels.ANSWERS_MAX", 1)
    await place.holder().once(PATIENCE)
    challenge = await place.challenge()
    told_before: list[int] = []

    class Watched(Shelf):
        async def size(self, key: FragmentKey) -> int | None:
            told_before.append(len(place.told))
            return await super().size(key)

    watched = Watched()
    for shelf in place.stores.values():
        watched.content.update(shelf.content)
    assert await place.holder(stores={"all": watched}).once(PATIENCE)
    assert told_before == [1, 1, 2]
    assert place.told[1:] == [Answered(challenge, 1)] * 3


async def test_what_is_found_somewhere_is_asked_for_there_first(place: Place) -> None:
    hanging = HangingShelf()
    shelves = Shelves({"bay": hanging, **place.stores}, {}, place.compute, SystemClock())
    hanging.lists = True
    await shelves.find(place.segment.keys)
    for key in place.segment.keys:
        await shelves.prove(key, 0)
    assert hanging.asked == 0


async def test_what_the_ledger_rejects_is_told_and_not_repeated_at_once(city_server: Any) -> None:
    """A presence was over before the challenge: each answer would make a round, which is news."""
    options = {
        "policy": "claimed",
        "place": {"disc": {"latitude_e7": 0, "longitude_e7": 0, "radius_m": 1_000}},
        "validity_rounds": WITHIN,
    }
    tokyo = {"consensus": "poh-pop", "num_hashes": 10, "consensus_options": options}

    async def be_present(place: Place) -> None:
        await place.be_present(OPERATOR)

    async with _place(city_server, {"tokyo": tokyo}, be_present) as place:
        await place.be_present(KEY)
        assert await place.holder().once(PATIENCE)
        challenge = await place.challenge()
        await place.seal_until(challenge + 3)
        holder = place.holder(clock=StoppedClock())
        assert not await holder.once(PATIENCE)
        [_, *answered, refused, again] = place.told
        assert answered == [Answered(challenge, 2), Answered(challenge, 1)]
        for rejected in (refused, again):
            assert isinstance(rejected, Refused)
            assert rejected.code == "PRESENCE_EXPIRED"
        before = await place.round()
        assert not await holder.once(PATIENCE)
        assert len(place.told) == 5
        assert await place.round() == before


async def test_what_is_not_announced_is_nobodys(place: Place) -> None:
    """Neither a file of one's own, nor a segment that somebody else announces."""
    await place.holder().once(PATIENCE)
    stranger = Segment(**(place.segment.model_dump() | {"root": "ab" * 32}))
    for key in stranger.keys:
        place.stores["attic"].content[key] = b"whatever"
    signed = sign_transaction(
        KEY,
        genesis=place.genesis.id,
        data=stranger.encode(),
        content_type=Segment.CONTENT_TYPE,
    )
    await place.client.submit([signed])
    await place.client.wait([signed.tx_id], timeout=PATIENCE)
    assert await place.holder().once(PATIENCE)
    assert len(place.told) == 1


async def test_receipts_are_renewed_before_they_are_over(place: Place) -> None:
    """Those of a term that is a third of the new one, or less."""
    await place.holder(TERM).once(PATIENCE)
    assert await place.holder(3 * TERM - timedelta(hours=1)).once(PATIENCE)
    assert len(place.told) == 1, "more than a third of the new term is left"
    assert await place.holder(3 * TERM + timedelta(hours=1)).once(PATIENCE)
    assert isinstance(place.told[-1], Claimed)
    assert place.told[-1].fragments == 3


async def test_it_goes_on_from_where_it_was(place: Place, tmp_path: Path) -> None:
    file, own = tmp_path / "state", key_id(KEY.public_key)

    def again() -> Holder:
        known = load_recount(file, place.genesis.id, place.genesis.operator_id, own)
        return place.holder(recount=known, keep=partial(save_recount, file, place.genesis.id, own))

    await again().once(PATIENCE)
    challenge = await place.challenge()
    holder = again()
    known = holder.recount.round
    assert challenge > known > 0
    assert await holder.once(PATIENCE)
    assert place.told[1:] == [Answered(challenge, 2), Answered(challenge, 1)]
    await place.seal_until(challenge + WITHIN)
    holder, fresh = again(), place.holder()
    assert holder.recount.round >= challenge
    for each in (holder, fresh):
        await each.once(PATIENCE)
        assert each.recount.availability(own, 1, challenge + WITHIN) == 1
    assert len(place.told) == 3


async def test_it_keeps_how_far_it_is_before_it_says_anything(place: Place) -> None:
    """The city may approve nothing in time: each run would follow it from its beginning."""
    kept: list[tuple[int, int]] = []
    holder = place.holder(keep=lambda recount: kept.append((recount.round, len(place.told))))
    await holder.once(PATIENCE)
    [(round, told)] = kept
    assert round >= 2
    assert (told, len(place.told)) == (0, 1)


async def test_a_state_of_another_history_is_refused(place: Place) -> None:
    """The server went back to an old copy, say."""
    await place.holder().once(PATIENCE)
    for round in (1, 1 << 40):
        recount = Recount(place.genesis.operator_id)
        recount.round, recount.checkpoint_hash = round, b"x" * 32
        holder = place.holder(recount=recount)
        with pytest.raises(ConfigurationError, match="is not the one that was followed"):
            await holder.once(PATIENCE)
        with pytest.raises(ConfigurationError, match="remove its file"):
            await holder.run()


async def test_it_goes_on_until_it_is_told_to_stop(place: Place) -> None:
    """By the city's rounds alone: it says what it has, and answers as it is asked."""
    news: asyncio.Queue[Deed] = asyncio.Queue()
    holder = place.holder()
    holder._told = news.put_nowait
    async with running(holder):
        assert isinstance(await news.get(), Claimed)
        await place.submit(b"what came before this is approved as well")
        challenge = await place.challenge()
        answered = [await news.get(), await news.get()]
        assert answered == [Answered(challenge, 2), Answered(challenge, 1)]


@asynccontextmanager
async def running(holder: Holder) -> AsyncIterator[None]:
    work = asyncio.create_task(holder.run())
    try:
        yield
        assert not work.done()
    finally:
        work.cancel()
        await asyncio.wait({work})
