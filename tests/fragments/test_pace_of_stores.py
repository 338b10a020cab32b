"""What goes to and from stores keeps its pace, and is counted."""

from __future__ import annotations

import asyncio

import pytest
from shelves import SMALL, Shelf, noise, shelves, store

from citychain.compute import Executor
from citychain.errors import FragmentMissing
from citychain.fragments.inventory import every_object
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import fragment_bytes
from citychain.fragments.pacing import Pace, PacedReads
from citychain.fragments.patience import Patient
from citychain.fragments.placement import Place
from citychain.fragments.rebalancing import rebalance_objects
from citychain.fragments.relocating import Means
from citychain.ports import FragmentKey

KEY = FragmentKey(bytes(32), bytes(32), 0)


class Hands:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def time_ms(self) -> int:
        return round(self.now * 1_000)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


async def test_bytes_take_their_time_however_many_ask() -> None:
    clock = Hands()
    pace = Pace(clock, 1_000)
    await asyncio.gather(*(pace.take(500) for _ in range(10)))
    # The last one goes when the nine before have had their time.
    assert clock.now == pytest.approx(104.5)
    await pace.take(1)
    assert clock.now == pytest.approx(105.0)
    clock.now = 200.0
    await pace.take(1_000_000)
    assert clock.now == 200.0, "nothing is saved up, and nothing was owed"
    await pace.take(1)
    assert clock.now == pytest.approx(1_200.0)


async def test_reads_wait_outside_of_the_time_that_a_store_may_take() -> None:
    clock, shelf = Hands(), Shelf()
    shelf.content[KEY] = bytes(3_000)
    pace = Pace(clock, 1_000)
    reads = PacedReads(Patient(shelf, seconds=60), pace)
    await pace.take(600_000)
    assert await reads.read(KEY, 0, 3_000) == bytes(3_000)
    assert clock.now == pytest.approx(700.0)
    await reads.read(KEY, 0, 1)
    assert clock.now == pytest.approx(703.0)
    assert pace.read == 3_001
    assert await reads.size(KEY) == 3_000
    assert await reads.find(KEY.object_id) == await reads.keys(None, 10) == [KEY]
    with pytest.raises(FragmentMissing):
        await reads.read(KEY, 0, 4_000)


async def test_what_is_made_anew_is_made_at_a_pace() -> None:
    clock, stores, content = Hands(), shelves(3), noise(40 * SMALL)
    async with Executor(2) as compute:
        survey = await store(content, Shape(2, 1, SMALL), stores.values(), compute)
        stores["shelf-0"].drop()
        pace = Pace(clock, 1_000)
        places = [Place(name, 1.0, name) for name in stores]
        means = Means(stores, places, (), compute, pace)
        objects = every_object(stores, compute, lambda fault: None)
        [outcome] = [it async for it in rebalance_objects(objects, means)]
    assert outcome.is_settled
    size = fragment_bytes(survey.manifest.layout)
    assert pace.written == size
    assert 2 * survey.manifest.layout.tail_at <= pace.read < 3 * size
    # The last read or write need not be waited for.
    assert clock.now - 100.0 == pytest.approx((pace.read + pace.written) / 1_000, rel=0.4)
