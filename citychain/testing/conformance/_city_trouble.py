"""City tests: calls that are cut short, servers that stop or die, and who comes after them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import pytest

from citychain.client.city import CityClient
from citychain.testing.conformance._city_history import History, audited, verify
from citychain.testing.conformance._city_session import AT_ONCE, Cities, City, Serving, Sign
from citychain.testing.conformance._elsewhere import Elsewhere
from citychain.testing.crashes import CrashingStorage
from citychain.types import State

__all__ = ["TroubleTests"]

TURNS_MAX: Final = 300
"""Turns of the event loop after which a call is left to itself."""
WRITES_MAX: Final = 100
"""More than a small history takes."""
SECOND_MAX: Final = 4
"""Writes that a city has that goes on: the lease, a round and its certificate, notes."""
BUSY: Final = 40
"""Transactions acknowledged before a busy server is closed."""


class TroubleTests:
    """Part of `CitySuite`."""

    async def test_calls_that_are_cancelled_at_any_await_leave_the_city_working(
        self, city: City, transactions: Sign
    ) -> None:
        history = History()
        async with city.serve() as serving:
            client = serving.client
            await history.submit(client, await transactions(client, 2))
            known = list(history.sent)
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "status": lambda: client.status(known),
                "receipts": lambda: client.receipts(known),
                "wait": lambda: client.wait(known),
                "watch": lambda: _first(client.watch(from_state=State.SEALED, after=0)),
                "rounds": lambda: client.rounds(1, 10),
                "proof": lambda: client.consistency_proof(1, 1),
            }
            for call in calls.values():
                await _cancel_everywhere(call)
            for turns in _turns():
                batch = await transactions(client, 2)
                history.sent.update({signed.tx_id: signed for signed in batch})
                if await _cancelled_after(client.submit(batch), turns) is False:
                    history.acknowledged.update(signed.tx_id for signed in batch)
                    break
            await history.settle(serving, city.cities)

    async def test_what_was_acknowledged_outlives_closing_while_busy(
        self, city: City, transactions: Sign
    ) -> None:
        history = History()
        enough = asyncio.Event()

        async def send(serving: Serving, key: int) -> None:
            async with serving.named(city.plan.slug) as client:
                while True:
                    await history.submit(client, await transactions(client, 2, key=key))
                    if len(history.acknowledged) >= BUSY:
                        enough.set()

        async with city.serve() as serving:
            reached = asyncio.create_task(enough.wait())
            sending = [asyncio.create_task(send(serving, key)) for key in range(4)]
            await asyncio.wait({reached, *sending}, return_when=asyncio.FIRST_COMPLETED)
        # They still try to reach it.
        for task in (reached, *sending):
            task.cancel()
        await asyncio.wait({reached, *sending})
        for task in sending:
            if not task.cancelled():
                task.result()
        async with city.serve() as serving:
            await history.settle(serving, city.cities)

    @pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
    async def test_what_was_acknowledged_outlives_a_crash_between_any_two_writes(
        self, cities: Cities, transactions: Sign, before: bool
    ) -> None:
        """And another crash of who comes after it, at one of its first writes."""
        for write in range(1, WRITES_MAX):
            city, history = cities(), History()
            first = CrashingStorage(write, before=before)
            second = CrashingStorage(1 + write % SECOND_MAX, before=before)

            async def live(client: CityClient, history: History = history) -> None:
                for number in (1, 3, 2):
                    await history.submit(client, await transactions(client, number))
                    await history.finish(client)

            try:
                await _until_it_crashes(city, first, live)
                await _until_it_crashes(city, second, history.finish)
                async with city.serve() as serving:
                    await history.settle(serving, cities)
            except AssertionError as error:
                when = "before" if before else "after"
                places = [" > ".join(crash.writes) for crash in (first, second)]
                raise AssertionError(
                    f"after crashes {when} the last of these writes: {places[0]}; then "
                    f"{places[1]}: {error}"
                ) from error
            finally:
                await city.close()
            if len(first.writes) < write:
                return
        pytest.fail(f"a few transactions took more than {WRITES_MAX} writes")

    def test_a_second_event_loop_serves_as_the_first_did(
        self, cities: Cities, transactions: Sign
    ) -> None:
        """Parts may keep nothing of a loop outside of themselves."""
        history = History()
        city = cities()

        async def live(city: City, history: History) -> None:
            async with city.serve() as serving:
                await history.submit(serving.client, await transactions(serving.client, 2))
                await history.settle(serving, cities)
            await city.close()

        for _ in range(2):
            if not cities.durable:
                city, history = cities(), History()
            asyncio.run(live(city, history))

    async def test_a_replay_equals_the_original_wherever_it_runs(
        self, cities: Cities, city: City, transactions: Sign, rejected: Sign | None,
        elsewhere: Elsewhere, tmp_path: Path,
    ) -> None:  # fmt: skip
        if elsewhere.place is not None:
            address = _address_of(elsewhere.place).read_text()
            serving = Serving(address, cities)
            async with serving.named(cities.slug) as serving.client:
                result = await audited(cities, serving)
            elsewhere.place.write_text(result.checkpoint_hash.hex())
            return
        history = History()
        async with city.serve() as serving:
            client = serving.client
            for number in (1, 4, 2):
                await history.submit(client, await transactions(client, number, key=number))
                if rejected is not None:
                    refused = await rejected(client)
                    await client.submit(refused)
                    await client.wait([signed.tx_id for signed in refused])
            await history.finish(client)
            nodes = await client.status(list(history.sent))
            first = await audited(cities, serving)
            place = tmp_path / "elsewhere"
            _address_of(place).write_text(serving.address)
            assert await elsewhere.result(place) == first.checkpoint_hash.hex(), (
                "another process replays the rounds to another checkpoint"
            )
        async with city.serve() as serving:
            assert (await audited(cities, serving)).checkpoint_hash == first.checkpoint_hash
            again = await serving.client.status(list(history.sent))
            assert again == nodes, "after a restart the server shows other nodes"
            verify(history.receipts, await serving.genesis())


def _address_of(place: Path) -> Path:
    """Where the server's address is for the process that puts its result in ``place``."""
    return place.with_suffix(".address")


async def _until_it_crashes(
    city: City, crash: CrashingStorage, live: Callable[[CityClient], Coroutine[Any, Any, None]]
) -> None:
    """Serve a city until its storage dies, or nothing is left to do."""
    async with city.serve(server=AT_ONCE, storage=crash) as serving:
        life = asyncio.create_task(live(serving.client))
        death = asyncio.create_task(crash.crashed())
        await asyncio.wait({life, death}, return_when=asyncio.FIRST_COMPLETED)
        crash.abandon()
        for task in (life, death):  # Nobody answers any more.
            task.cancel()
        await asyncio.wait({life, death})
        if not life.cancelled():
            life.result()


def _turns() -> Any:
    """Numbers of turns of the event loop: each at first, then ever farther apart."""
    turns = 0
    while turns < TURNS_MAX:
        yield turns
        turns += 1 + turns // 8


async def _cancel_everywhere(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    for turns in _turns():
        if await _cancelled_after(call(), turns) is False:
            return


async def _cancelled_after(call: Coroutine[Any, Any, Any], turns: int) -> bool:
    """Whether a call was cut off after so many turns of the loop; it may have ended by itself."""
    task = asyncio.create_task(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    return task.cancelled()


async def _first(batches: Any) -> Any:
    try:
        return await anext(batches)
    finally:
        await batches.aclose()
