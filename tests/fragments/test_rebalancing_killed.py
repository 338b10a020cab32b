"""A rebalancing that is killed anywhere loses nothing, and what it foretells is what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest
from balance import (
    CONTENT,
    SHAPE,
    are_whole,
    can_be_restored,
    damaged,
    learn_the_truth,
    rebalance,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from shelves import SMALL, Shelf, store

from citychain.compute import Executor
from citychain.fragments import layout
from citychain.fragments.placement import Place
from citychain.fragments.relocating import Outcome
from citychain.ports import FragmentKey


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture(autouse=True)
async def _short_runs(monkeypatch: pytest.MonkeyPatch, compute: Executor) -> None:
    monkeypatch.setattr(layout, "RUN_BYTES", 4 * SMALL)
    await learn_the_truth(compute)


class Mortal(Shelf):
    """Ends at a given write of any store, before or after it."""

    left = 1 << 30
    all: Sequence[Shelf] = ()

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        self.live()
        await super().put(key, size, parts)
        self.live()

    async def delete(self, key: FragmentKey) -> bool:
        self.live()
        deleted = await super().delete(key)
        if Mortal.all:
            assert can_be_restored(Mortal.all), "too little is left"
        self.live()
        return deleted

    @classmethod
    def live(cls) -> None:
        cls.left -= 1
        if cls.left <= 0:
            raise Dead


class Dead(BaseException):
    """The process is killed: nothing catches it, and nothing more is done."""


conditions = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 4.0]),
        st.sampled_from(["x", "y", "z"]),
        st.dictionaries(
            st.integers(0, 3), st.sampled_from(["whole", "whole", "nick", "spoilt"]), max_size=3
        ),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=80, deadline=None)
@given(conditions, st.lists(st.integers(1, 12), max_size=3))
async def test_wherever_it_is_killed_nothing_is_lost_and_the_next_one_goes_on(
    given_: list[tuple[float, str, dict[int, str]]], kills: list[int]
) -> None:
    async with Executor(2) as compute:
        Mortal.left, Mortal.all = 1 << 30, []
        whole = Shelf()
        await store(CONTENT, SHAPE, [whole] * 4, compute)
        stores: dict[str, Shelf] = {}
        where = []
        for number, (weight, domain, has) in enumerate(given_):
            name = str(number)
            where.append(Place(name, weight, domain))
            stores[name] = Mortal()
            for key, content in whole.content.items():
                if how := has.get(key.index):
                    stores[name].content[key] = damaged(content, how, (number + key.index) % 3)
        is_restorable = can_be_restored(list(stores.values()))
        Mortal.all = list(stores.values()) if is_restorable else []
        for kill in kills:
            Mortal.left = kill
            with suppress(Dead):
                await rebalance(stores, compute, where, check=True)
            assert not is_restorable or can_be_restored(list(stores.values()))
        Mortal.left = 1 << 30
        outcomes = await rebalance(stores, compute, where, check=True)
        usable = [place for place in where if place.weight]
        if not is_restorable or not usable:
            assert not any(it.made for it in outcomes)
            return
        if len(usable) > 1 and all(it.is_settled for it in outcomes):
            await are_whole(stores, compute, where)
            assert await rebalance(stores, compute, where, check=True) == []
        elif len(usable) > 1:
            # What is in the way of itself has no other store to go to meanwhile.
            assert len(stores) < SHAPE.fragments + 1


@settings(max_examples=40, deadline=None)
@given(conditions)
async def test_what_is_foretold_is_done(given_: list[tuple[float, str, dict[int, str]]]) -> None:
    async with Executor(2) as compute:
        Mortal.left, Mortal.all = 1 << 30, []
        whole = Shelf()
        await store(CONTENT, SHAPE, [whole] * 4, compute)
        stores = {str(number): Shelf() for number in range(len(given_))}
        where = [Place(str(i), weight, domain) for i, (weight, domain, _) in enumerate(given_)]
        for shelf, (*_, has) in zip(stores.values(), given_, strict=True):
            shelf.content.update({key: it for key, it in whole.content.items() if key.index in has})
        before = {name: dict(shelf.content) for name, shelf in stores.items()}
        foretold = await rebalance(stores, compute, where, dry_run=True)
        assert {name: shelf.content for name, shelf in stores.items()} == before
        assert not any(shelf.puts for shelf in stores.values())
        outcomes = await rebalance(stores, compute, where)
        # Where it is all the same which of two copies stays, another one may.
        assert [told(it) for it in foretold] == [told(it) for it in outcomes]


def told(outcome: Outcome) -> tuple[object, ...]:
    return set(outcome.made), set(outcome.moved), len(outcome.removed), outcome.missing
