"""A city is anchored where its parent takes little at a time, and sends little that is rejected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from exchange.test_steps import KEYS, Asked, another
from exchange.towns import OPERATOR, Town, id_of, peered

from citychain.compute import Executor
from citychain.exchange.anchors import Anchorer
from citychain.exchange.neighbour import Signed
from citychain.genesis import Genesis
from citychain.receipt import Receipt
from citychain.testing.clock import FakeClock
from citychain.types import Handover


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


class Parent(Asked):
    """A town as the `PeerCity` that an `Anchorer` asks."""

    async def genesis(self) -> Genesis:
        return self.town.genesis

    async def pinned(self, network: str, slug: str) -> bytes | None:
        return self.child

    async def anchored(self, city: bytes) -> int:
        return 0

    async def receipts(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, Receipt]:
        return await self.town.proofs.receipts(list(tx_ids), 0)

    child = b""


class Home:
    """As much of a city's handler."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.genesis = town.genesis
        self.storage = town.rounds.storage

    async def head(self) -> Any:
        return await self.storage.head()

    async def handovers(self, known_round: int) -> Sequence[Handover]:
        return await self.town.proofs.handovers(known_round)

    async def stream_rounds(self, first: int, *, sealed: bool) -> AsyncIterator[None]:
        yield None


class Ended(Exception):
    """The clock has been asked often enough."""


class Slept(FakeClock):
    """Notes the pauses, which take no time, until it ends the work."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) >= self.times:
            raise Ended


def anchorer(child: Town, parent: Parent, clock: FakeClock) -> Any:
    parent.child = child.id

    async def sign(genesis: bytes, actions: Sequence[Any], _: object) -> list[Signed]:
        signed = [parent.town.sign(OPERATOR, action) for action in actions]
        return [Signed(one.tx_id, one.envelope) for one in signed]

    @asynccontextmanager
    async def connect() -> AsyncIterator[Parent]:
        yield parent

    async def find() -> Any:
        return SimpleNamespace(slug="parent", genesis=parent.town.genesis, connect=connect)

    home: Any = Home(child)
    return Anchorer(
        slug="child",
        home=home,
        parent=find,
        seconds=1.0,
        operator=id_of(OPERATOR),
        sign=sign,
        compute=child.compute,
        clock=clock,
    )


async def test_a_parent_that_takes_small_bodies_is_led_along(compute: Executor) -> None:
    child, parent = Town("aomori", compute, members=KEYS[:7]), Parent(Town("beppu", compute))
    await peered(child, parent.town)
    for number in range(5):
        child.elect(another(number, 7))
        await child.close()
    last = (await child.rounds.storage.head()).certified_round
    parent.body_bytes = 110 << 10
    work = anchorer(child, parent, FakeClock())
    neighbour = await work._find()
    assert await work._anchor(neighbour, parent) == last
    assert {*parent.codes} == {""}
    assert len(parent.anchors) > 2
    assert parent.anchors[-1].anchor is not None
    await parent.town.replay()


async def test_what_a_parent_rejects_is_sent_ever_more_seldom(compute: Executor) -> None:
    child, parent = Town("aomori", compute), Parent(Town("beppu", compute))
    await child.close()
    clock = Slept(40)
    with pytest.raises(Ended):
        await anchorer(child, parent, clock).run()
    assert {*parent.codes} == {"UNKNOWN_CITY"}
    assert len(parent.anchors) == 20
    pauses = clock.pauses[1::2]
    assert pauses[1] < 1
    assert min(pauses[-5:]) >= 0.75 * 600
