"""The door of a city that is closed for a while, or slowed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from citychain.city import door
from citychain.city.door import Door
from citychain.errors import MoveFailed
from citychain.handler import CityHandler


class City:
    """Takes calls until it is told to let them go."""

    voting = None

    def __init__(self) -> None:
        self.calls: list[Sequence[bytes]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[bytes]:
        self.calls.append(envelopes)
        await self.free.wait()
        return envelopes


def handler(city: City) -> CityHandler:
    return cast(CityHandler, city)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_wait_while_it_is_held_and_go_to_the_city_that_is_opened() -> None:
    old, new = City(), City()
    before = Door(handler(old))
    old.free.clear()
    inside = asyncio.create_task(before.submit([b"inside"]))
    await turns()
    held = before.held()
    entering = asyncio.create_task(held.__aenter__())
    await turns()
    waiting = asyncio.create_task(before.submit([b"waiting"]))
    await turns()
    assert not entering.done(), "a call is inside"
    old.free.set()
    await entering
    assert await inside == [b"inside"]
    assert not waiting.done()
    before.lead_to(handler(new))
    await held.__aexit__(None, None, None)
    assert await waiting == [b"waiting"]
    assert (old.calls, new.calls) == ([[b"inside"]], [[b"waiting"]])


async def test_calls_that_do_not_end_keep_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "INSIDE_SECONDS", 0.01)
    city = City()
    before = Door(handler(city))
    city.free.clear()
    inside = asyncio.create_task(before.submit([b"x"]))
    await turns()
    with pytest.raises(MoveFailed, match="calls under way do not end"):
        async with before.held():
            pass
    assert not before.is_held
    city.free.set()
    await inside


async def test_a_slowed_city_takes_calls_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SHUT_SECONDS", 0.01)
    city = City()
    before = Door(handler(city))
    async with before.slowed():
        answers: Any = [before.submit([b"%d" % number]) for number in range(10)]
        assert len(await asyncio.gather(*answers)) == 10
        async with before.held():
            assert before.is_held
            late = asyncio.create_task(before.submit([b"late"]))
            await asyncio.sleep(0.05)
            assert not late.done(), "held, whatever its turns"
        assert await late == [b"late"]
    assert not before.is_held
    assert await before.submit([b"at once"]) == [b"at once"]
