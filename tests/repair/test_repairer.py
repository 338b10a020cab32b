"""A city's archive is repaired by the server that leads it, without a command."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruins import DAY, NAMES, SMALL, Ruin, are_whole, open_ruin, spoil

from citychain import notes
from citychain.errors import StoreUnavailable, VerificationError
from citychain.fragments.memory import MemoryStore
from citychain.fragments.pacing import Pace
from citychain.fragments.placement import Place
from citychain.ports import FragmentKey
from citychain.repair.repairer import FIRST
from citychain.testing.clock import FakeClock

HOUR = 3_600.0


async def test_a_fragment_that_was_deleted_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_ruin(tmp_path, segments=3) as ruin:
        before = ruin.content()
        file = ruin.file(ruin.segments[1], 2)
        file.unlink()
        caplog.set_level(logging.INFO)
        assert await ruin.repairer().look()
        assert ruin.content() == before
        store = file.parent.parent.name
        told = f"fragment 2 of segment {ruin.segments[1].object} was made anew in store {store}"
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [told]
        sums = ruin.numbers.outcomes
        assert (ruin.numbers.looks, sums.objects, sums.made, sums.lost) == (1, 3, 1, 0)
        assert await ruin.repairer().look()
        assert sums.made == 1, "what is whole is left alone"


async def test_a_disk_that_is_new_and_empty_is_filled_again(tmp_path: Path) -> None:
    async with open_ruin(tmp_path, segments=5) as ruin:
        before = ruin.content()
        for file in (tmp_path / "barn").glob("???/*-*"):
            file.unlink()
        assert len(ruin.content()) < len(before)
        assert await ruin.repairer().look()
        assert ruin.content() == before


async def test_only_announced_segments_are_repaired(tmp_path: Path) -> None:
    async with open_ruin(tmp_path, segments=2) as ruin:
        foreign = ruin.segments[1]
        ruin.storage._notes.pop(notes.round_name(notes.SEGMENT, foreign.last))
        ruin.file(foreign, 0).unlink()
        spoil(ruin.file(foreign, 1))
        before = ruin.content()
        one = ruin.repairer()
        assert await one.look()
        assert await one.read_next()
        assert not await one.read_next()
        assert ruin.content() == before


async def test_nothing_moves_and_no_good_copy_goes(tmp_path: Path) -> None:
    async with open_ruin(tmp_path) as ruin:
        [segment] = ruin.segments
        moved = ruin.file(segment, 0)
        other = next(name for name in NAMES if name != moved.parent.parent.name)
        target = tmp_path / other / moved.parent.name
        target.mkdir(exist_ok=True)
        shutil.move(moved, target)
        copied = ruin.file(segment, 1)
        spare = next(name for name in NAMES if name not in (other, copied.parent.parent.name))
        (tmp_path / spare / copied.parent.name).mkdir(exist_ok=True)
        shutil.copy(copied, tmp_path / spare / copied.parent.name)
        before = ruin.content()
        one = ruin.repairer()
        assert await one.look()
        assert await one.read_next()
        assert ruin.content() == before


@pytest.mark.parametrize("gone", ["folder", "closed"])
async def test_a_store_that_is_away_has_lost_nothing(tmp_path: Path, gone: str) -> None:
    async with open_ruin(tmp_path, segments=4) as ruin:
        before = ruin.content()
        barn = ruin.stores["barn"]
        if gone == "folder":
            (tmp_path / "barn").rename(tmp_path.parent / "unmounted")
        else:
            del ruin.stores["barn"]
        one = ruin.repairer()
        for _ in range(3):
            assert not await one.look()
        left = ruin.content()
        assert left.items() <= before.items()
        assert ruin.numbers.away == ["barn"]
        assert ruin.numbers.outcomes.made == 0
        # It is back, and has lost one indeed.
        if gone == "folder":
            (tmp_path.parent / "unmounted").rename(tmp_path / "barn")
        else:
            ruin.stores["barn"] = barn
        next((tmp_path / "barn").glob("???/*-*")).unlink()
        assert await one.look()
        assert ruin.content() == before
        assert (ruin.numbers.away, ruin.numbers.outcomes.made) == ([], 1)


async def test_what_a_store_had_that_is_no_store_any_more_is_made_elsewhere(tmp_path: Path) -> None:
    async with open_ruin(tmp_path, segments=4) as ruin:
        del ruin.stores["barn"]
        left = [Place(name, 1, name) for name in ruin.stores]
        assert await ruin.repairer(places=left).look()
        assert ruin.numbers.outcomes.made == 4
        await are_whole(ruin.stores, *ruin.segments)


async def test_what_is_lost_is_told_and_keeps_nothing_from_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_ruin(tmp_path, segments=3) as ruin:
        gone, halved, other = ruin.segments
        for index in range(4):
            ruin.file(gone, index).unlink()
        for index in range(3):
            ruin.file(halved, index).unlink()
        ruin.file(other, 3).unlink()
        one = ruin.repairer()
        for _ in range(2):
            assert await one.look()
        assert ruin.numbers.lost == sorted([gone.object, halved.object])
        await are_whole(ruin.stores, other)
        warned = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
        assert len(warned) == 2, "each once"
        assert any(f"no store has segment {gone.object} any more" in it for it in warned)
        assert any(f"segment {halved.object} cannot be restored: " in it for it in warned)


# --- reading


async def test_what_is_spoilt_is_found_by_reading_and_made_anew(tmp_path: Path) -> None:
    async with open_ruin(tmp_path, segments=2) as ruin:
        before = ruin.content()
        for segment in ruin.segments:
            spoil(ruin.file(segment, 3))
        assert await ruin.repairer().look()
        assert ruin.content() != before, "nobody has read it yet"
        one = ruin.repairer()
        assert [await one.read_next() for _ in range(3)] == [True, True, False]
        assert ruin.content() == before
        assert ruin.numbers.read == 2


async def read_now(ruin: Ruin) -> list[int]:
    """Whose fragments a new repairer reads, by number, until it has nothing to read; each was
    spoilt for that."""
    order = []
    before = ruin.content()
    names = [str(ruin.file(it, 0).relative_to(ruin.folder)) for it in ruin.segments]
    for segment in ruin.segments:
        spoil(ruin.file(segment, 0))
    one = ruin.repairer()
    while await one.read_next():
        there = ruin.content()
        for number, name in enumerate(names):
            if number not in order and there[name] == before[name]:
                order.append(number)
        ruin.clock.jump(1)
    for number, segment in enumerate(ruin.segments):
        if number not in order:
            spoil(ruin.file(segment, 0))
    assert ruin.content() == before
    return order


async def test_what_was_read_longest_ago_is_read_first_also_after_a_restart(
    tmp_path: Path,
) -> None:
    async with open_ruin(tmp_path, segments=3) as ruin:
        assert await read_now(ruin) == [0, 1, 2]
        ruin.clock.jump(29 * 86_400)
        assert await read_now(ruin) == [], "each was read lately"
        await ruin.archive()
        assert await read_now(ruin) == [3], "what was never read comes first"
        ruin.clock.jump(86_400 + 1)
        assert await read_now(ruin) == [0, 1, 2]
        ruin.clock.jump(29 * 86_400)
        one = ruin.repairer()
        assert await one.read_next(), "the fourth"
        ruin.clock.jump(86_400)
        assert await read_now(ruin) == [0, 1, 2], "the rest, by another repairer"


async def test_what_could_not_be_read_everywhere_is_read_again_a_day_later(
    tmp_path: Path,
) -> None:
    async with open_ruin(tmp_path) as ruin:
        barn = ruin.stores.pop("barn")
        assert await read_now(ruin) == [0]
        ruin.stores["barn"] = barn
        assert await read_now(ruin) == []
        ruin.clock.jump(DAY.total_seconds())
        assert await read_now(ruin) == [0]
        ruin.clock.jump(DAY.total_seconds())
        assert await read_now(ruin) == []


async def test_reading_goes_at_its_pace(tmp_path: Path) -> None:
    async with open_ruin(tmp_path, segments=2) as ruin:
        size = sum(map(len, ruin.content().values()))
        pace = Pace(ruin.clock, 1_000)
        one = ruin.repairer(read_pace=pace)

        async def read() -> None:
            while await one.read_next():
                pass

        await ruin.clock.advance_until(read(), step=1.0)
        assert ruin.numbers.read == 2
        # What was taken last goes at once, and its time is waited for by whoever comes next.
        assert ruin.clock.monotonic() >= (size - 4 * SMALL) / 1_000


class Refusing(MemoryStore):
    """A store that gives nothing that can be read while it is ill, and takes nothing."""

    is_ill = True

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        if self.is_ill:
            raise StoreUnavailable("the disk makes noises")
        return await super().read(key, offset, length)


async def test_a_store_that_cannot_be_read_is_read_again_a_day_later(tmp_path: Path) -> None:
    barn = Refusing()
    stores = {name: barn if name == "barn" else MemoryStore() for name in NAMES}
    ruin = Ruin(tmp_path, stores)
    barn.is_ill = False
    await ruin.archive()
    barn.is_ill = True
    one = ruin.repairer()
    assert await one.read_next()
    assert not await one.read_next()
    barn.is_ill = False
    ruin.clock.jump(DAY.total_seconds())
    assert await one.read_next()
    ruin.clock.jump(DAY.total_seconds())
    assert not await one.read_next()


async def test_a_segment_that_fails_keeps_no_other_from_repair(tmp_path: Path) -> None:
    async with open_ruin(tmp_path, segments=3) as ruin:
        whole = ruin.content()
        for segment in ruin.segments:
            spoil(ruin.file(segment, 2))
            ruin.file(segment, 1).unlink()
        broken = notes.round_name(notes.SEGMENT, 5)
        await ruin.storage.keep({broken: b"\0" * 32 + b"no segment"})
        one = ruin.repairer()
        await one.look()
        assert ruin.numbers.outcomes.made == 3
        with pytest.raises(VerificationError):
            await one.read_next()
        while await one.read_next():
            pass
        assert ruin.content() == whole


# --- running


class Timed(MemoryStore):
    """A store that is away, and notes when it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.asked: list[float] = []
        self.is_down = True

    async def find(self, object_id: bytes) -> Any:
        self.asked.append(self._clock.monotonic())
        if self.is_down:
            raise StoreUnavailable("it is switched off")
        return await super().find(object_id)


async def pass_time(clock: FakeClock, seconds: float) -> None:
    """Minute by minute, with turns enough for whatever is due."""
    for _ in range(round(seconds / 60)):
        await clock.advance(60)
        for _ in range(200):
            await asyncio.sleep(0)


async def test_looks_come_ever_later_while_a_store_is_away(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Timed(clock)
    ruin = Ruin(tmp_path, {name: MemoryStore() for name in NAMES}, clock=clock)
    await ruin.archive()
    ruin.stores["barn"] = store
    # It was read a moment ago.
    name = notes.round_name(notes.SEGMENT_READ, ruin.segments[0].last)
    await ruin.storage.keep({name: notes.number_bytes(clock.time_ms())})
    running = asyncio.create_task(ruin.repairer().run())
    await asyncio.sleep(0)
    await pass_time(clock, 30 * HOUR)
    first = FIRST.total_seconds()
    assert store.asked == [first + HOUR * hours for hours in (0, 2, 6, 14, 22)]
    store.is_down = False
    await pass_time(clock, 4 * HOUR)
    assert store.asked[5:] == [first + HOUR * hours for hours in (30, 31, 32, 33)]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


class Stuck(MemoryStore):
    """A store whose puts never end."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = asyncio.Event()

    async def put(self, key: Any, size: int, parts: Any) -> None:
        self.puts.set()
        await asyncio.Event().wait()


async def test_who_is_stopped_stops_in_the_middle(tmp_path: Path) -> None:
    ruin = Ruin(tmp_path, {name: MemoryStore() for name in NAMES})
    for _ in range(6):
        await ruin.archive()
    stuck = ruin.stores["barn"] = Stuck()
    others = asyncio.all_tasks()
    running = asyncio.create_task(ruin.repairer().run())
    await ruin.clock.advance_until(stuck.puts.wait(), step=60.0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == others, "nothing is at work any more"


async def test_a_reading_that_is_broken_off_counts_as_none(tmp_path: Path) -> None:
    ruin = Ruin(tmp_path, {name: MemoryStore() for name in NAMES})
    await ruin.archive()
    stuck = ruin.stores["barn"] = Stuck()  # What it had is to be made anew.
    reading = asyncio.create_task(ruin.repairer().read_next())
    await stuck.puts.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await ruin.storage.notes(notes.SEGMENT_READ) == {}


async def test_what_fails_is_tried_again_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ruin = Ruin(tmp_path, {name: MemoryStore() for name in NAMES})
    await ruin.archive()
    good = dict(ruin.stores)
    ruin.stores["barn"] = MemoryStore()
    fails = True

    def stores() -> Any:
        if fails:
            raise ValueError("it is anybody's")
        return ruin.stores

    running = asyncio.create_task(ruin.repairer(stores=stores).run())
    await pass_time(ruin.clock, 3 * HOUR)
    assert not running.done()
    assert "its archive is not repaired for now: ValueError" in caplog.text
    fails = False
    await pass_time(ruin.clock, 8 * HOUR)
    assert ruin.numbers.outcomes.made == 1
    assert ruin.stores["barn"]._fragments == good["barn"]._fragments  # type: ignore[attr-defined]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


class Resting(FakeClock):
    """Notes how long somebody rests, which takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.rests: list[float] = []

    def passes(self, seconds: float) -> None:
        """Time that nobody rests."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)


class Slow(MemoryStore):
    """A store that takes five seconds to read something."""

    def __init__(self, clock: Resting) -> None:
        super().__init__()
        self._clock = clock
        self.took = 0.0

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        self._clock.passes(5)
        self.took += 5
        return await super().read(key, offset, length)


class Waiting(Pace):
    """A pace at which everything is waited for."""

    def __init__(self, clock: Resting) -> None:
        super().__init__(clock)
        self._resting = clock

    async def take(self, count: int) -> None:
        self._resting.passes(1_000)


@pytest.mark.parametrize(("pending", "rest"), [(0, 1.0), (2_000, 9.0)])
async def test_it_rests_the_longer_the_more_the_city_has_to_do(
    tmp_path: Path, pending: int, rest: float
) -> None:
    clock = Resting()
    store = Slow(clock)
    stores = {**{name: MemoryStore() for name in NAMES[1:]}, NAMES[0]: store}
    ruin = Ruin(tmp_path, stores, clock=clock, pending=pending)
    await ruin.archive()
    await ruin.archive()
    store.took = 0.0
    one = ruin.repairer(pace=Waiting(clock), read_pace=Waiting(clock))
    await one.look()
    assert len(clock.rests) == 2, "after each segment"
    assert await one.read_next()
    # A store's own time is the city's; what the pace makes wait is not.
    assert sum(clock.rests) == rest * store.took


class Died(BaseException):
    """The process is gone."""


class Life:
    """Calls of one process, until it dies before one of them."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        if self._left == 0:
            raise Died
        self._left -= 1


class Mortal:
    """An object whose calls are steps of a life."""

    def __init__(self, real: Any, life: Life) -> None:
        self._real, self._life = real, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        async def called(*args: Any) -> Any:
            self._life.step()
            return await method(*args)

        return called


async def test_killed_before_any_call_and_started_again_it_ends_whole(tmp_path: Path) -> None:
    ruin = Ruin(tmp_path, {name: MemoryStore() for name in NAMES})
    for _ in range(2):
        await ruin.archive(3 * SMALL)
    good = {name: dict(store._fragments) for name, store in ruin.stores.items()}  # type: ignore[attr-defined]
    storage, deaths = ruin.storage, 0
    while True:
        # One is lost of each, and one spoilt.
        for name, store in ruin.stores.items():
            store._fragments = dict(good[name])  # type: ignore[attr-defined]
            for key, content in good[name].items():
                if key.index == 1:
                    del store._fragments[key]  # type: ignore[attr-defined]
                elif key.index == 2:
                    store._fragments[key] = content[:9] + b"?" + content[10:]  # type: ignore[attr-defined]
        storage._notes = {k: v for k, v in storage._notes.items() if k.startswith(notes.SEGMENT)}
        life = Life(deaths)
        ruin.storage = Mortal(storage, life)
        mortal: Any = {name: Mortal(store, life) for name, store in ruin.stores.items()}
        one = ruin.repairer(stores=lambda there=mortal: there)
        try:
            await one.look()
            while await one.read_next():
                pass
        except Died:
            deaths += 1
        else:
            break
        ruin.storage = storage
        one = ruin.repairer()
        assert await one.look()
        while await one.read_next():
            pass
        assert {n: s._fragments for n, s in ruin.stores.items()} == good, deaths  # type: ignore[attr-defined]
    assert deaths > 50
    assert {n: s._fragments for n, s in ruin.stores.items()} == good  # type: ignore[attr-defined]
