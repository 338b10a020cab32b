"""A server's stores: those that come late are used, and one that fails keeps nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from citychain.errors import StoreUnavailable
from citychain.fragments.memory import MemoryStore
from citychain.hooks.definitions import FragmentStoreDefinition
from citychain.keeping.server_stores import RETRY_SECONDS, keep_stores
from citychain.keeping.stores import StorePlan
from citychain.ports import StorageContext
from citychain.testing.clock import FakeClock


class Options(BaseModel):
    pass


class Moody(MemoryStore):
    """A store that opens when it is let, and knows whether it is open."""

    def __init__(self, open: Callable[[], Any]) -> None:
        super().__init__()
        self._open = open
        self.is_open = False

    async def __aenter__(self) -> Moody:
        await self._open()
        self.is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.is_open = False


def plan(name: str, open: Callable[[], Any], made: list[Moody]) -> StorePlan:
    def factory(options: Options, context: StorageContext) -> Moody:
        assert context.directory == Path("stores") / name
        made.append(Moody(open))
        return made[-1]

    definition: Any = FragmentStoreDefinition(name="moody", factory=factory, options=Options)
    return StorePlan(name, definition, Options(), 1.0, name)


async def at_once() -> None:
    return None


async def compute(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


async def test_a_store_that_failed_is_tried_again() -> None:
    made: list[Moody] = []
    answers = iter([StoreUnavailable("it is away"), ValueError("it is broken"), None])
    clock = FakeClock()

    async def open() -> None:
        if (error := next(answers)) is not None:
            raise error

    plans = [plan("good", at_once, made), plan("moody", open, made)]
    async with keep_stores(plans, directory=Path("stores"), compute=compute, clock=clock) as there:
        assert set(there.stores) == {"good"}
        assert str(there.failed["moody"]) == "it is away"
        assert [place.name for place in there.places] == ["good"]
        await clock.advance(RETRY_SECONDS)
        assert str(there.failed["moody"]) == "ValueError: it is broken"
        assert isinstance(there.failed["moody"], StoreUnavailable)
        await clock.advance(RETRY_SECONDS)
        async with asyncio.timeout(120):
            while "moody" not in there.stores:
                await asyncio.sleep(0)
        assert there.failed == {}
        assert sorted(place.name for place in there.places) == ["good", "moody"]
        assert sum(store.is_open for store in made) == 2
    assert not any(store.is_open for store in made)


async def test_a_store_that_hangs_keeps_nobody_waiting_and_comes_late() -> None:
    made: list[Moody] = []
    answers = asyncio.Event()
    plans = [plan("slow", answers.wait, made), plan("good", at_once, made)]
    async with keep_stores(
        plans, directory=Path("stores"), compute=compute, clock=FakeClock(), first_seconds=0.01
    ) as there:
        assert set(there.stores) == {"good"}
        answers.set()
        async with asyncio.timeout(120):
            while "slow" not in there.stores:
                await asyncio.sleep(0)
    assert not any(store.is_open for store in made)


async def test_one_that_hangs_for_ever_is_left_behind() -> None:
    made: list[Moody] = []
    plans = [plan("slow", asyncio.Event().wait, made)]
    async with asyncio.timeout(120):
        async with keep_stores(
            plans, directory=Path("stores"), compute=compute, clock=FakeClock(), first_seconds=0.01
        ) as there:
            assert there.stores == {}
        with pytest.raises(RuntimeError, match="over"):
            async with keep_stores(
                [], directory=Path("stores"), compute=compute, clock=FakeClock()
            ):
                raise RuntimeError("over")
