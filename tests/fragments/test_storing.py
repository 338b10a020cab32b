"""What a store does not take goes where placement says, and is told."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shelves import SMALL, Shelf, noise, restore, shelves, store

from citychain.compute import Executor
from citychain.errors import StoreFull, StoreUnavailable
from citychain.fragments.layout import Shape
from citychain.fragments.placement import Place, placed
from citychain.fragments.storing import Stored, store_object
from citychain.ports import FragmentKey

CONTENT = noise(3 * 2 * SMALL + 777)
OBJECT_ID = hashlib.sha256(CONTENT).digest()
SHAPE = Shape(2, 2, SMALL)
FRAGMENT_BYTES_MIN = 3 * SMALL


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


def places(stores: dict[str, Shelf], *left_out: str) -> list[Place]:
    return [Place(name, 1.0, name) for name in stores if name not in left_out]


async def stored(stores: dict[str, Shelf], compute: Executor) -> Stored:
    return await store_object(io.BytesIO(CONTENT), SHAPE, stores, places(stores), compute)


def agrees(result: Stored, stores: dict[str, Shelf]) -> None:
    """What is said to be in a store is there."""
    keys = result.manifest.fragment_keys()
    for index, name in result.stores.items():
        assert keys[index] in stores[name].content
    assert sorted([*result.stores, *result.missing]) == list(range(SHAPE.fragments))


async def test_each_store_gets_what_placement_says(compute: Executor) -> None:
    stores = shelves(7)
    result = await stored(stores, compute)
    names = placed(OBJECT_ID, places(stores), 4)
    assert result.written == dict(enumerate(names))
    assert (result.present, result.refusals, result.missing) == ({}, [], [])
    agrees(result, stores)
    assert sum(len(shelf.content) for shelf in stores.values()) == 4


@pytest.mark.parametrize("index", range(4))
async def test_what_a_full_store_does_not_take_goes_to_the_next(
    index: int, compute: Executor
) -> None:
    stores = shelves(6)
    full = placed(OBJECT_ID, places(stores), 4)[index]
    stores[full] = Shelf(limit=FRAGMENT_BYTES_MIN - 1)
    result = await stored(stores, compute)
    [refusal] = result.refusals
    assert (refusal.fragment, refusal.store, type(refusal.error)) == (index, full, StoreFull)
    before, after = placed(OBJECT_ID, places(stores), 4), placed(OBJECT_ID, places(stores, full), 4)
    [heir] = set(after) - set(before)
    assert result.stores == {**dict(enumerate(before)), index: heir}
    agrees(result, stores)
    # Again it is refused again, and found where it is.
    again = await stored(stores, compute)
    assert (again.written, again.present) == ({}, result.stores)
    assert [it.store for it in again.refusals] == [full]
    assert sum(len(shelf.content) for shelf in stores.values()) == 4


class Tiring(Shelf):
    """Stops to answer in the middle of what it is given."""

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        async for _ in parts:
            raise StoreUnavailable("its disk fell off")


async def test_a_store_that_fails_half_way_is_replaced(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(6)
    first, second, *_ = placed(OBJECT_ID, places(stores), 4)
    stores |= {first: Tiring(), second: Tiring()}
    result = await stored(stores, compute)
    assert {(it.fragment, it.store) for it in result.refusals} == {(0, first), (1, second)}
    assert set(result.stores.values()) == set(stores) - {first, second}
    agrees(result, stores)
    await restore(CONTENT, stores, tmp_path, compute)


async def test_without_another_store_a_second_fragment_goes_into_one(compute: Executor) -> None:
    stores = shelves(4)
    stores["shelf-2"].is_down = True
    result = await stored(stores, compute)
    assert result.missing == []
    assert sorted(len(shelf.content) for shelf in stores.values()) == [0, 1, 1, 2]


async def test_where_none_takes_it_that_is_told(compute: Executor) -> None:
    stores = {f"shelf-{number}": Shelf(limit=FRAGMENT_BYTES_MIN - 1) for number in range(5)}
    stores["shelf-3"] = Shelf(limit=2 * FRAGMENT_BYTES_MIN - 1)
    result = await stored(stores, compute)
    assert set(result.stores.values()) == {"shelf-3"}
    assert len(result.missing) == 3
    assert not result.is_restorable
    assert {it.store for it in result.refusals} == set(stores)
    agrees(result, stores)
    nothing = await store_object(
        io.BytesIO(CONTENT), SHAPE, stores, [Place(name, 0.0, name) for name in stores], compute
    )
    assert (nothing.missing, nothing.refusals) == ([0, 1, 2, 3], [])


async def test_a_fragment_that_is_wrong_is_written_again_where_it_is(compute: Executor) -> None:
    stores = shelves(5)
    result = await stored(stores, compute)
    spoilt = stores[result.stores[1]]
    key, content = spoilt.only()
    spoilt.flip(100)
    again = await stored(stores, compute)
    assert (set(again.present), again.written) == ({0, 2, 3}, {1: result.stores[1]})
    assert (again.replaced, again.refusals) == ([1], [])
    assert spoilt.only() == (key, content)


async def test_what_is_elsewhere_comes_where_it_belongs(compute: Executor) -> None:
    """A copy in a store that gets nothing more does not count for ever."""
    stores = shelves(5)
    old = await store(CONTENT, SHAPE, [stores["shelf-0"]] * 4, compute)
    some = [place for place in places(stores) if place.name != "shelf-0"]
    retired = [*some, Place("shelf-0", 0.0, "shelf-0")]
    result = await store_object(io.BytesIO(CONTENT), SHAPE, stores, retired, compute)
    assert result.manifest == old.manifest
    assert sorted(result.written) == [0, 1, 2, 3]
    assert "shelf-0" not in result.stores.values()


conditions = st.lists(
    st.tuples(
        st.sampled_from(["good", "good", "full", "down", "tiring"]),
        st.sampled_from([0.0, 0.5, 1.0, 4.0]),
        st.sampled_from(["x", "y", "z"]),
        st.sets(st.integers(0, 3), max_size=2),
    ),
    max_size=8,
)


TWICE_IN_ONE = [
    ("good", 0.5, "x", set[int]()),
    ("good", 0.0, "x", set()),
    ("good", 0.5, "x", set()),
    ("good", 0.5, "x", set()),
    ("good", 0.5, "x", {0, 1}),
    ("full", 0.5, "x", set()),
]
"""Fragments 0 and 1 are in one store, and what is full is asked first: 1 goes elsewhere, and then 0
is to stay rather than 1, which has another place."""


@settings(max_examples=60)
@example(TWICE_IN_ONE)
@given(conditions)
async def test_whatever_fails_all_is_stored_while_a_store_is_left(
    given: list[tuple[str, float, str, set[int]]],
) -> None:
    make = {"good": Shelf, "full": lambda: Shelf(limit=0), "down": Shelf, "tiring": Tiring}
    stores = {str(number): make[kind]() for number, (kind, *_) in enumerate(given)}
    where = [Place(str(i), weight, domain) for i, (_, weight, domain, _) in enumerate(given)]
    async with Executor(2) as compute:
        shelf = Shelf()
        whole = await store(CONTENT, SHAPE, [shelf] * 4, compute)
        keys = whole.manifest.fragment_keys()
        for name, (kind, _, _, there) in zip(stores, given, strict=True):
            stores[name].content.update(
                {keys[index]: shelf.content[keys[index]] for index in there}
            )
            stores[name].is_down = kind == "down"
        result = await store_object(io.BytesIO(CONTENT), SHAPE, stores, where, compute)
        agrees(result, stores)
        usable = [
            place
            for place, (kind, *_) in zip(where, given, strict=True)
            if kind == "good" and place.weight
        ]
        assert not result.missing or not usable
        assert all(place.weight for place in where if place.name in result.stores.values())
        assert not {name for name in result.written.values() if given[int(name)][0] != "good"}
        if len(usable) >= SHAPE.fragments:
            assert len(set(result.stores.values())) == SHAPE.fragments
        again = await store_object(io.BytesIO(CONTENT), SHAPE, stores, where, compute)
        assert again.missing == result.missing
        if len(usable) >= SHAPE.fragments and not again.refusals:
            assert again.written == {}
        if result.is_restorable:
            with TemporaryDirectory() as folder:
                await restore(CONTENT, stores, Path(folder), compute)


async def test_what_has_its_place_is_not_joined_by_what_lost_its_own(compute: Executor) -> None:
    """Fragment 0 is in two stores, of which one fails and the other is fragment 1's."""
    stores: dict[str, Shelf] = {**shelves(4), "tiring": Tiring()}
    whole = await store(CONTENT, SHAPE, [shelf := Shelf()] * 4, compute)
    zero, one, *_ = whole.manifest.fragment_keys()
    stores["shelf-0"].content.update({key: shelf.content[key] for key in (zero, one)})
    stores["tiring"].content[zero] = shelf.content[zero]
    liked = ("shelf-0", "tiring")
    where = [Place(name, 1e6 if name in liked else 1.0, name) for name in stores]
    result = await store_object(io.BytesIO(CONTENT), SHAPE, stores, where, compute)
    assert [refusal.store for refusal in result.refusals] == ["tiring"]
    assert sorted(result.stores.values()) == [f"shelf-{number}" for number in range(4)]


async def test_progress_of_each_phase_grows_to_the_size(compute: Executor) -> None:
    stores = shelves(4)
    seen: list[tuple[str, int, int]] = []
    await store_object(
        io.BytesIO(CONTENT),
        SHAPE,
        stores,
        places(stores),
        compute,
        lambda *told: seen.append(told),
    )
    for phase in ("reading", "writing"):
        done = [done for name, done, of in seen if name == phase]
        assert done == sorted(done)
        assert done[-1] == len(CONTENT)
    assert {of for *_, of in seen} == {len(CONTENT)}


async def test_whoever_stops_waiting_stops_the_stores(compute: Executor) -> None:
    class Waiting(Shelf):
        begun = asyncio.Event()

        async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
            self.begun.set()
            await asyncio.Event().wait()

    stores: dict[str, Shelf] = {**shelves(3), "waiting": Waiting()}
    task = asyncio.create_task(stored(stores, compute))
    await Waiting.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(shelf.content for shelf in stores.values())
