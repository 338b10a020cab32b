"""Any sequence of what befalls servers that share a city: each transaction that was acknowledged is
final once, and every server tells of every round once, in order."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from city.sharing import Link, PausableClock, Server, Servers, final, sign
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from citychain.city.pipeline import City
from citychain.client.transactions import SignedTransaction
from citychain.errors import CitychainError
from citychain.handler import Received
from citychain.testing.conformance._city_installed import install
from citychain.testing.shared import SharedMemory
from citychain.types import State

T = TypeVar("T")

LEASE = timedelta(seconds=0.1)
"""So short that a busy machine passes the lead on by itself."""
SERVERS = 3
HELD = ("append", "commit", "certify", "pending_ids", "raw", "find", "head", "renew_lease")


class SlowLink(Link):
    """Whose calls overtake each other."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def _pass(self, method: str, *, after: bool) -> None:
        await super()._pass(method, after=after)
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.random() / 100)


class Watched:
    """A watcher of everything on one server, from the beginning until it closes."""

    def __init__(self, city: City, from_state: State) -> None:
        self.ids: list[bytes] = []
        self.positions: list[int] = []
        self.task = asyncio.create_task(self._run(city, from_state))

    async def _run(self, city: City, from_state: State) -> None:
        try:
            async for batch in city.watch(None, from_state, 0):
                self.positions.append(batch.position)
                self.ids += [event.tx_id for event in batch.events]
        except CitychainError:
            return  # It closed.

    def check(self) -> None:
        assert self.positions == list(range(1, len(self.positions) + 1))
        assert len(set(self.ids)) == len(self.ids)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.sent: list[SignedTransaction] = []
        self.acknowledged: set[bytes] = set()
        self.waiting: list[asyncio.Task[None]] = []
        self.watched: list[Watched] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.run(self._begin())

    async def _begin(self) -> None:
        self.servers = Servers(Path(self.folder.name))
        self.servers.lease = LEASE
        self.live: list[tuple[Server, City, SlowLink, PausableClock]] = []
        for _ in range(SERVERS):
            self.live.append(await self._start())

    async def _start(self) -> tuple[Server, City, SlowLink, PausableClock]:
        link, clock = SlowLink(self.chance), PausableClock()
        server = await self.servers.start(storage=link, clock=clock)
        city = await server.city()
        self.watched += [Watched(city, state) for state in (State.SEALED, State.APPROVED)]
        return server, city, link, clock

    # --- what people do

    @rule(count=st.integers(1, 5), where=st.sets(st.integers(0, SERVERS - 1), min_size=1))
    def submit(self, count: int, where: set[int]) -> None:
        """To one server or to several at once."""
        self.run(self._submit(count, where))

    async def _submit(self, count: int, where: set[int]) -> None:
        batch = sign(self.live[0][1], count)
        self.sent += batch
        for number in where:
            self.waiting.append(asyncio.create_task(self._acknowledge(batch, number)))
        await asyncio.sleep(0.03)

    @rule(number=st.integers(0, SERVERS - 1), data=st.data())
    def submit_again(self, number: int, data: st.DataObject) -> None:
        if self.sent:
            at = data.draw(st.integers(0, len(self.sent) - 1))
            self.run(self._again(self.sent[at : at + 3], number))

    async def _again(self, batch: list[SignedTransaction], number: int) -> None:
        self.waiting.append(asyncio.create_task(self._acknowledge(batch, number)))
        await asyncio.sleep(0)

    async def _acknowledge(self, batch: list[SignedTransaction], number: int) -> None:
        city = self.live[number][1]
        try:
            results = await city.submit([signed.envelope for signed in batch])
        except CitychainError:
            return  # Nothing is promised.
        for signed, result in zip(batch, results, strict=True):
            assert isinstance(result, Received)
            self.acknowledged.add(signed.tx_id)

    # --- what befalls servers

    @rule(
        number=st.integers(0, SERVERS - 1),
        mishap=st.sampled_from(["stopped", "cut off", *HELD]),
        after=st.booleans(),
    )
    def befall(self, number: int, mishap: str, after: bool) -> None:
        """A server is stopped as by SIGSTOP, or cut off from the storage, or one kind of call
        waits, before its effect or after it."""
        self.run(self._befall(number, mishap, after))

    async def _befall(self, number: int, mishap: str, after: bool) -> None:
        _, _, link, clock = self.live[number]
        if mishap in HELD:
            link.hold(mishap, after=after)
        else:
            link.pause()
            if mishap == "stopped":
                clock.pause()
        await asyncio.sleep(0.02)

    @rule()
    def recover(self) -> None:
        self.run(self._recover())

    async def _recover(self) -> None:
        for number in range(SERVERS):
            self._go_on(number)
        await asyncio.sleep(0.05)

    def _go_on(self, number: int) -> None:
        _, _, link, clock = self.live[number]
        link.release()
        link.go_on()
        clock.go_on()

    @rule(number=st.integers(0, SERVERS - 1), drain=st.booleans())
    def restart(self, number: int, drain: bool) -> None:
        self.run(self._restart(number, drain))

    async def _restart(self, number: int, drain: bool) -> None:
        self._go_on(number)
        server = self.live[number][0]
        if drain:
            await server.directory.drain()
        await server.close()
        self.live[number] = await self._start()

    @rule()
    def pass_on(self) -> None:
        """Whoever leads steps down."""
        self.run(self._pass_on())

    async def _pass_on(self) -> None:
        for number, (_, city, _, _) in enumerate(self.live):
            if city.leads:
                self._go_on(number)
                if (epoch := await city.step_down()) is not None:
                    await city.storage.release_lease(epoch)

    @rule(leases=st.sampled_from([0.3, 1.3]))
    def wait(self, leases: float) -> None:
        self.run(asyncio.sleep(LEASE.total_seconds() * leases))

    # --- what must hold then

    def teardown(self) -> None:
        try:
            if hasattr(self, "servers"):
                self.run(self._settle())
        finally:
            self.runner.close()
            self.folder.cleanup()

    async def _settle(self) -> None:
        try:
            for number in range(SERVERS):
                self._go_on(number)
            await asyncio.gather(*self.waiting)
            # Whatever was not acknowledged is now.
            for number in range(SERVERS):
                await self._acknowledge(self.sent, number)
            assert self.acknowledged == {signed.tx_id for signed in self.sent}
            if self.sent:
                await asyncio.gather(*(final(city, self.sent) for _, city, _, _ in self.live))
            await self.servers.check(self.live[0][1], self.sent)
            for _, city, _, _ in self.live:
                assert city.pending == 0
        finally:
            await self.servers.close()
            await asyncio.gather(*(watched.task for watched in self.watched))
        for watched in self.watched:
            watched.check()
        for watched in self.watched[-2:]:
            assert set(watched.ids) == self.acknowledged


def test_any_sequence_of_mishaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "site", [], [SharedMemory().definition])
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=30,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # To shrink a run of seconds takes minutes.
            suppress_health_check=list(HealthCheck),
        ),
    )
