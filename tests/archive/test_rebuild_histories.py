"""Rounds that were lost come back when a rebuilt city has others in their place.

Both are certified. Where each was cut into segments follows from when it was archived, and
proves nothing, so these tests cut them anew.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.conftest import OPERATOR, TOKYO, at_once, more, stores
from archive.test_rebuild import Archived, archived, put

from citychain.archive.packing import OpenSegment
from citychain.archive.rebuilding import Rebuilt
from citychain.archive.signed import Votes
from citychain.city.pipeline import City
from citychain.fragments.memory import MemoryStore
from citychain.moving.opening import home_note
from citychain.ports import CityStorage
from citychain.testing.server import CityServerFactory


@dataclass
class Parted:
    """A city that was rebuilt without its last rounds, and went on."""

    archived: Archived
    later: CityStorage
    """Of the city that went on."""
    common: int
    """The last round of both."""

    @property
    def earlier(self) -> CityStorage:
        """Has the rounds that were lost."""
        return self.archived.city.storage

    async def cut(self, storage: CityStorage, first: int, last: int) -> str:
        """Put rounds into the stores as a segment; its object id."""
        genesis, file = self.archived.city.genesis, io.BytesIO()
        segment = await OpenSegment.begin(
            genesis=genesis.id,
            after=first - 1,
            previous=bytes(32),
            operator=genesis.operator_id,
            storage=storage,
            compute=at_once,
            votes=Votes(genesis, storage, at_once),
            file=file,
        )
        while segment.last < last:
            await segment.grow(last)
        await segment.close()
        return await put(self.archived, file.getvalue())

    async def rebuilt(self, target: CityStorage, *, incomplete: bool = False) -> Rebuilt:
        return await self.archived.rebuilding(target).run(incomplete=incomplete)

    async def asked(self, round: int, target: CityStorage | None = None) -> CityStorage:
        """Have it rebuilt: it asks about the histories that part after the common round, and has
        taken none of them."""
        target = target or await self.archived.target()
        result = await self.rebuilt(target)
        assert f"more than one history goes on from round {self.common + 1}," in result.lost
        assert result.round == round
        assert await home_note(target) is not None
        return target

    async def has(self, target: CityStorage, storage: CityStorage, round: int) -> None:
        """It has this round of this history, and servers may open it."""
        head = await target.head()
        [stored] = await storage.rounds(round, 1)
        assert (head.round, head.checkpoint_hash) == (round, stored.checkpoint_hash)
        assert await home_note(target) is None


async def grown(city: City, round: int) -> None:
    """Have a city certify rounds up to this one."""
    seed = 70
    while (await city.head()).certified_round < round:
        await more(city, seed)
        seed += 1


@asynccontextmanager
async def parted(city_server: CityServerFactory, folder: Path) -> AsyncIterator[Parted]:
    """Both histories have at least three more rounds; nothing is in the stores."""
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with archived(city_server, folder) as it:
        late = {key for segment in it.segments[2:] for key in segment.keys}
        some: dict[str, MemoryStore] = {name: MemoryStore() for name in it.stores}
        for name, store in it.stores.items():
            there = store._fragments  # type: ignore[attr-defined]
            some[name]._fragments = {key: there[key] for key in there if key not in late}
        later = await it.target()
        common = it.segments[1].last
        await grown(it.city, common + 3)
        assert (await it.rebuilding(later, some).run()).round == common
        genesis = folder / "genesis.json"
        genesis.write_bytes(it.city.genesis.file)
        handlers = {"handler": caught, "storage": lambda _: later}
        async with (
            city_server(
                {"tokyo": {**TOKYO, "genesis": str(genesis)}},
                {"tokyo": handlers},
                operator=OPERATOR,
            ) as server,
            server.client("tokyo") as client,
        ):
            await client.info()
            it.stores = stores()
            one = Parted(it, later, common)
            await grown(found[0], common + 4)
            yield one


async def test_segments_that_begin_with_other_rounds_have_none_chosen(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.earlier, 1, common)
        lost = await it.cut(it.earlier, common + 1, common + 3)
        lives = await it.cut(it.later, common + 1, common + 2)
        target = await it.asked(common)
        # By the operator's word it is the one that lives.
        result = await it.rebuilt(target, incomplete=True)
        assert f"that of object {lives} is later in time than that of object {lost};" in result.lost
        await it.has(target, it.later, common + 2)


async def test_histories_may_part_within_segments_that_begin_alike(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.earlier, 1, common - 2)
        await it.cut(it.earlier, common - 1, common)
        lost = await it.cut(it.earlier, common + 1, common + 2)
        lives = await it.cut(it.later, common - 1, common + 3)
        target = await it.asked(common - 2)
        result = await it.rebuilt(target, incomplete=True)
        assert f"that of object {lives} is later in time than that of object {lost};" in result.lost
        await it.has(target, it.later, common + 3)


async def test_the_later_history_is_taken_though_it_is_the_shorter(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.earlier, 1, common - 1)
        await it.cut(it.earlier, common, common)
        lost = await it.cut(it.earlier, common, common + 3)
        lives = await it.cut(it.later, common + 1, common + 2)
        target = await it.asked(common - 1)
        result = await it.rebuilt(target, incomplete=True)
        assert f"that of object {lives} is later in time than that of object {lost};" in result.lost
        await it.has(target, it.later, common + 2)


async def test_a_history_of_which_rounds_are_lost_is_asked_about_and_not_taken(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.earlier, 1, common)
        there = await it.cut(it.earlier, common + 1, common + 3)
        lacks = await it.cut(it.later, common + 2, common + 3)
        target = await it.asked(common)
        result = await it.rebuilt(target, incomplete=True)
        assert f"object {there} goes on from what is there, unlike that of object {lacks};" in (
            result.lost
        )
        await it.has(target, it.earlier, common + 3)


async def test_what_comes_back_after_rounds_were_taken_is_asked_about(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.later, 1, common + 1)
        await it.cut(it.later, common + 3, common + 3)
        target = await it.archived.target()
        assert f"no store has rounds {common + 2} to" in (await it.rebuilt(target)).lost
        lost = await it.cut(it.earlier, 1, common + 1)
        await it.cut(it.later, common + 2, common + 2)
        await it.asked(common + 1, target)
        result = await it.rebuilt(target, incomplete=True)
        assert lost in result.lost
        await it.has(target, it.later, common + 3)


async def test_one_history_in_segments_that_overlap_is_nothing_to_ask_about(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        for first, last in ((1, common), (common - 1, common + 2), (common + 2, common + 3)):
            await it.cut(it.later, first, last)
        target = await it.archived.target()
        assert not (await it.rebuilt(target)).lost
        await it.has(target, it.later, common + 3)


async def test_a_segment_that_follows_on_lost_rounds_is_asked_about(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.later, 1, common + 1)
        lives = await it.cut(it.later, common + 2, common + 2)
        # It leads further, and is the first one to be looked at.
        lost = await it.cut(it.earlier, common + 2, common + 3)
        target = await it.asked(common + 1)
        result = await it.rebuilt(target, incomplete=True)
        assert f"that which is there already is not that of object {lost};" in result.lost
        assert lives not in result.lost
        await it.has(target, it.later, common + 2)


async def test_rounds_are_taken_though_no_store_has_those_before_them_any_more(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.later, 1, common)
        await it.cut(it.later, common + 2, common + 2)
        target = await it.archived.target()
        assert f"no store has rounds {common + 1} to" in (await it.rebuilt(target)).lost
        it.archived.stores = stores()
        await it.cut(it.later, common + 1, common + 3)
        assert not (await it.rebuilt(target)).lost
        await it.has(target, it.later, common + 3)


async def test_what_alone_is_left_of_another_history_is_asked_about(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    async with parted(city_server, tmp_path) as it:
        common = it.common
        await it.cut(it.later, 1, common + 2)
        await it.cut(it.later, common + 4, common + 4)
        target = await it.archived.target()
        assert f"no store has rounds {common + 3} to" in (await it.rebuilt(target)).lost
        it.archived.stores = stores()
        await it.cut(it.earlier, common + 1, common + 1)
        await it.asked(common + 2, target)
