"""City tests: several servers at once over one storage, for cities whose storage is ``shared``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from citychain.handler import EventBatch, Received
from citychain.testing.conformance._city_history import History, sealed_ids
from citychain.testing.conformance._city_session import AT_ONCE, City, Serving, Sign
from citychain.testing.crashes import CrashingStorage
from citychain.types import State

__all__ = ["ServersTests"]

COUNTS = (1, 4, 2)


class ServersTests:
    """Part of `CitySuite`."""

    async def test_every_server_accepts_and_tells_of_everything(
        self, city: City, transactions: Sign
    ) -> None:
        _skip_alone(city)
        history = History()
        async with city.serve() as one, city.serve() as two:
            watchers = _watchers(one, two)
            for count in COUNTS:
                for serving in (one, two):
                    await history.submit(serving.client, await transactions(serving.client, count))
                    elsewhere = one if serving is two else two
                    # At once: it is received wherever it was.
                    known = await elsewhere.client.status(list(history.sent))
                    assert known.keys() == history.sent.keys(), (
                        "a server does not know what another one acknowledged"
                    )
                    await history.finish(elsewhere.client)
            await asyncio.gather(*(history.settle(serving, city.cities) for serving in (one, two)))
            sealed = await sealed_ids(one.client)
            for watcher in watchers:
                await watcher.was_told(sealed)

    async def test_a_transaction_sent_to_two_servers_is_one(
        self, city: City, transactions: Sign
    ) -> None:
        _skip_alone(city)
        history = History()
        async with city.serve() as one, city.serve() as two:
            for count in COUNTS:
                batch = await transactions(one.client, count)
                history.sent.update({signed.tx_id: signed for signed in batch})
                answers = await asyncio.gather(
                    *(serving.client.submit(batch) for serving in (one, two, one, two))
                )
                for results in answers:
                    for signed, result in zip(batch, results, strict=True):
                        assert isinstance(result, Received), f"it was refused: {result}"
                        assert result.tx_id == signed.tx_id
                history.acknowledged.update(signed.tx_id for signed in batch)
                await history.finish(two.client)
            await history.settle(one, city.cities)

    @pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
    async def test_another_server_goes_on_when_one_closes(
        self, city: City, transactions: Sign, first: bool
    ) -> None:
        _skip_alone(city)
        history = History()
        async with AsyncExitStack() as stay:
            leaving = city.serve()
            if first:
                left = await leaving.__aenter__()
                staying = await stay.enter_async_context(city.serve())
            else:
                staying = await stay.enter_async_context(city.serve())
                left = await leaving.__aenter__()
            watchers = _watchers(staying)
            for serving in (left, staying):
                await history.submit(serving.client, await transactions(serving.client, 3))
            await leaving.__aexit__(None, None, None)
            await history.submit(staying.client, await transactions(staying.client, 2))
            await history.finish(staying.client)
            await history.settle(staying, city.cities)
            sealed = await sealed_ids(staying.client)
            for watcher in watchers:
                await watcher.was_told(sealed)

    async def test_another_server_goes_on_when_one_dies(
        self, city: City, transactions: Sign
    ) -> None:
        """Whoever leads: one dies, another comes, and the other one dies too."""
        _skip_alone(city)
        history = History()
        async with _mortal(city) as (one, kill_one), _mortal(city) as (two, kill_two):
            for serving in (one, two, one):
                await history.submit(serving.client, await transactions(serving.client, 2))
            await history.finish(two.client)
            watchers = _watchers(two)
            await history.submit(one.client, await transactions(one.client, 2))
            kill_one()
            await history.submit(two.client, await transactions(two.client, 2))
            await history.finish(two.client)
            sealed = await sealed_ids(two.client)
            for watcher in watchers:
                await watcher.was_told(sealed)
            async with city.serve() as three:
                watchers = _watchers(three)
                await history.submit(two.client, await transactions(two.client, 2))
                kill_two()
                await history.submit(three.client, await transactions(three.client, 2))
                await history.finish(three.client)
                await history.settle(three, city.cities)
                sealed = await sealed_ids(three.client)
                for watcher in watchers:
                    await watcher.was_told(sealed)


def _skip_alone(city: City) -> None:
    if not city.plan.storage.definition.shared:
        pytest.skip(f"the storage {city.plan.storage.definition.name!r} says shared=False")


@asynccontextmanager
async def _mortal(city: City) -> AsyncIterator[tuple[Serving, Callable[[], None]]]:
    """A server, and what kills it: from then on it writes nothing and answers nobody."""
    crash = CrashingStorage(0)
    async with city.serve(server=AT_ONCE, storage=crash) as serving:
        try:
            yield serving, crash.die
        finally:
            crash.abandon()


class _Watcher:
    """Of everything, on one server, from the beginning."""

    def __init__(self, serving: Serving, from_state: State) -> None:
        self._ids: list[bytes] = []
        self._positions: list[int] = []
        self._patience = serving.patience.total_seconds()
        self._told = asyncio.Event()
        self._task = asyncio.create_task(
            self._watch(serving.events(from_state=from_state, after=0))
        )

    async def _watch(self, events: AsyncGenerator[EventBatch, None]) -> None:
        async with aclosing(events):
            async for batch in events:
                self._ids += [event.tx_id for event in batch.events]
                self._positions.append(batch.position)
                self._told.set()

    async def was_told(self, sealed: Sequence[bytes]) -> None:
        """Assert that it is told of these, in this order, and of no round twice."""
        try:
            async with asyncio.timeout(self._patience):
                while len(self._ids) < len(sealed) and not self._task.done():
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            pass  # Then it lacks some.
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})
        assert self._ids == list(sealed), (
            "a watcher must be told of every transaction once, in the order of the ledger, "
            "whichever server it asks and whichever seals"
        )
        assert self._positions == sorted(set(self._positions)), "a round was told twice"


def _watchers(*servers: Serving) -> list[_Watcher]:
    return [
        _Watcher(serving, state) for serving in servers for state in (State.SEALED, State.APPROVED)
    ]
