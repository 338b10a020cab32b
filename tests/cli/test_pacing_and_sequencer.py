"""The rounds of ``citychain batch --simulate`` are those that a city's sequencer closes."""

import asyncio
import heapq
from datetime import timedelta
from itertools import count, takewhile
from types import SimpleNamespace
from typing import Any, cast

import pytest

from citychain.city.metering import UNMETERED
from citychain.city.sequencer import Sequencer
from citychain.cli.pacing import simulate
from citychain.config import PacerSettings
from citychain.types import Head

SECONDS = 12.0


async def settled() -> None:
    """Whoever can go on has gone on."""
    for _ in range(30):
        await asyncio.sleep(0)


class StepClock:
    """Stands still while anybody has something to do."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), sleeper))
        await sleeper

    async def go_to(self, time: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= time:
            self.now, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)
            await settled()
        self.now = time


class CountedPool:
    """So many transactions, of which nobody asks what they say."""

    def __init__(self, waiting: int, *, holding: bool) -> None:
        self.waiting = waiting
        self.holding = holding
        self._came = asyncio.Event()

    def come(self) -> None:
        self.waiting += 1
        self._came.set()

    async def filled(self, count: int) -> None:
        while self.waiting < count:
            self._came.clear()
            await self._came.wait()

    def candidates(self, limit: int) -> int:
        return min(self.waiting, limit)

    def decided(self, candidates: int, *rest: object) -> None:
        self.waiting -= candidates


class Paced(Sequencer):
    """A sequencer whose rounds take no time and have nothing in them."""

    def __init__(self, pool: CountedPool, clock: StepClock, pacer: PacerSettings) -> None:
        nothing = cast("Any", SimpleNamespace())
        self.closed: list[tuple[float, int, int, float]] = []
        super().__init__(
            slug="tokyo", genesis=bytes(32), operator=bytes(32), epoch=1, storage=nothing, rule="",
            dag=nothing, consensus=nothing, pool=cast("Any", pool),
            state=cast("Any", SimpleNamespace(apply=lambda sealed: [])),
            standing=cast("Any", SimpleNamespace(head=Head(), sealed=lambda head, nodes: None)),
            replay=None, pacer=pacer, compute=nothing, clock=cast("Any", clock),
            committed=self._note, sealed=self._ignore, meter=UNMETERED,
        )  # fmt: skip
        self._counted = pool

    def begin(self, current: float) -> None:
        """A round closed just now."""
        self._interval, self._closed_at = timedelta(seconds=current), 0.0

    async def _make_round(self, candidates: Any) -> Any:
        return SimpleNamespace(transactions=(), held=(), round=1, count=candidates)

    async def _examine(self, sealed: Any) -> None:
        pass

    async def _commit(self, sealed: Any) -> None:
        pass

    def _head_after(self, sealed: Any) -> Head:
        return Head()

    def _note(self, sealed: Any) -> None:
        interval = self.interval.total_seconds()
        self.closed.append((self._closed_at, sealed.count, self._counted.waiting, interval))

    async def _ignore(self, sealed: Any) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("holding", [False, True])
@pytest.mark.parametrize(
    ("pending", "current", "rate"),
    [
        (0, 0.25, 0.0),
        (7, 1.9, 0.0),
        (95, 0.7, 0.0),
        (0, 2.0, 0.37),
        (3, 2.0, 1.31),
        (0, 0.25, 7.3),
        (250, 1.7, 13.7),
        (0, 2.0, 133.7),
    ],
)
async def test_they_are_the_same(pending: int, current: float, rate: float, holding: bool) -> None:
    pacer = PacerSettings(min_seconds=0.25, max_seconds=2.0, max_tx=40)
    clock, pool = StepClock(), CountedPool(pending, holding=holding)
    sequencer = Paced(pool, clock, pacer)
    sequencer.begin(current)
    running = asyncio.create_task(sequencer.run())
    try:
        await settled()
        for number in range(1, int(rate * SECONDS) + 1):
            await clock.go_to(number / rate)
            pool.come()
            await settled()
        await clock.go_to(SECONDS)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    every = simulate(
        pacer, pending=pending, current=timedelta(seconds=current), rate=rate, holding=holding
    )
    expected = list(takewhile(lambda it: it.seconds <= SECONDS - 1e-6, every))
    closed = [it for it in sequencer.closed if it[0] <= SECONDS - 1e-6]
    assert bool(closed) == (pending > 0 or rate > 0 or holding)
    assert [(it[0], it[3]) for it in closed] == [
        (pytest.approx(it.seconds), pytest.approx(it.interval)) for it in expected
    ]
    assert [it[1:3] for it in closed] == [(it.sealed, it.pending) for it in expected]
