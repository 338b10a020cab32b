"""What comes next is asked for meanwhile, and nothing is left under way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from shelves import SMALL, Shelf, noise, shelves, store

from citychain.compute import Executor
from citychain.fragments import layout
from citychain.fragments.ahead import ahead
from citychain.fragments.checking import State, check_object, check_objects
from citychain.fragments.inventory import every_object
from citychain.fragments.layout import Shape
from citychain.fragments.sources import find_sources
from citychain.ports import FragmentKey

SHAPE = Shape(1, 1, SMALL)


class Steps:
    """Calls that end when they are told to."""

    def __init__(self, number: int) -> None:
        self.begun: list[int] = []
        self.ends = [asyncio.Event() for _ in range(number)]

    async def calls(self, first: int = 0) -> AsyncIterator[Coroutine[Any, Any, int]]:
        for number in range(first, len(self.ends)):
            yield self.step(number)

    async def step(self, number: int) -> int:
        self.begun.append(number)
        await self.ends[number].wait()
        return number


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_so_many_more_are_under_way(number: int) -> None:
    steps = Steps(6)
    given: list[int] = []

    async def take() -> None:
        async with aclosing(ahead(steps.calls(), number)) as results:
            async for result in results:
                given.append(result)

    taking = asyncio.create_task(take())
    for step in range(6):
        while len(steps.begun) < min(6, step + 1 + number):
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert steps.begun == [*range(min(6, step + 1 + number))]
        assert given == [*range(step)]
        steps.ends[step].set()
    await taking
    assert given == [*range(6)]


async def test_who_stops_or_is_stopped_leaves_nothing_under_way() -> None:
    steps = Steps(6)
    steps.ends[0].set()
    async with aclosing(ahead(steps.calls(), 2)) as results:
        assert await anext(results) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}

    async def fails() -> AsyncIterator[Coroutine[Any, Any, int]]:
        yield steps.step(1)
        raise KeyError("no more")

    with pytest.raises(KeyError):
        await anext(ahead(fails(), 2))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    waiting = asyncio.create_task(anext(ahead(steps.calls(1), 2)))
    while steps.begun[-3:] != [1, 2, 3]:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Waiting:
    """Lets nothing be computed on, of some name, before a store was asked for more."""

    def __init__(self, compute: Executor, name: str, until: asyncio.Event) -> None:
        self._compute = compute
        self._name = name
        self._until = until

    async def __call__(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if getattr(function, "__name__", "") == self._name:
            async with asyncio.timeout(120):
                await self._until.wait()
        return await self._compute(function, *args, **options)


class Telling(Shelf):
    """Tells when one of its bytes is read."""

    def __init__(self, key_begins: str = "", at: int = 0) -> None:
        super().__init__()
        self.key_begins, self.at = key_begins, at
        self.was_read = asyncio.Event()

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        if key.object_id.hex().startswith(self.key_begins) and offset == self.at:
            self.was_read.set()
        return await super().read(key, offset, length)


async def test_while_a_stretch_is_checked_the_next_one_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layout, "RUN_BYTES", 2 * SMALL)
    content = noise(5 * SMALL)
    telling = Telling(at=SMALL)
    stores: dict[str, Shelf] = {"telling": telling, **shelves(1)}
    async with Executor(2) as compute:
        await store(content, SHAPE, stores.values(), compute)
        sources, _ = await find_sources(hashlib.sha256(content).digest(), stores, compute)
        waiting = Waiting(compute, "take", telling.was_read)
        [checked] = await check_object(sources, waiting)
    assert checked.state is State.WHOLE


async def test_while_an_object_is_checked_the_next_one_is_read() -> None:
    contents = [noise(SMALL, seed) for seed in range(4)]
    ids = sorted(hashlib.sha256(content).hexdigest() for content in contents)
    telling = Telling(ids[1])
    stores: dict[str, Shelf] = {"telling": telling, **shelves(1)}
    async with Executor(2) as compute:
        for content in contents:
            await store(content, SHAPE, stores.values(), compute)
        waiting = Waiting(compute, "take", telling.was_read)
        objects = every_object(stores, compute, lambda fault: None)
        checked = [some async for some in check_objects(objects, waiting)]
    assert [it.object_id.hex() for [it] in checked] == ids
    assert all(it.state is State.WHOLE for [it] in checked)
