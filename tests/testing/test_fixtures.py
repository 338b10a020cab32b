"""The fixtures that installing citychain gives pytest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from citychain.errors import CityUnavailable, ConfigurationError, DirectoryInUse
from citychain.following.representative import Representative
from citychain.handler import Received
from citychain.testing import FailingStorage, FakeClock, StallingConsensus
from citychain.types import State

pytest_plugins = ["pytester"]


async def test_a_server_takes_transactions(city_client: Any, signed_transactions: Any) -> None:
    async with city_client("tokyo") as city:
        transactions = await signed_transactions(city, 3)
        await city.submit(transactions)
        events = await city.wait([transaction.tx_id for transaction in transactions])
        assert {event.state for event in events.values()} == {State.APPROVED}


async def test_a_failing_storage_is_told(city_server: Any, signed_transactions: Any) -> None:
    failing = FailingStorage()
    async with (
        city_server(overrides={"tokyo": {"storage": failing}}) as server,
        server.client("tokyo") as city,
    ):
        transactions = await signed_transactions(city)
        with pytest.raises(CityUnavailable):
            await city.submit(transactions, timeout=timedelta(seconds=5))
        assert failing.calls["append"] >= 1


async def test_a_whole_handler_is_replaced(city_server: Any) -> None:
    class Mock:
        async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Received]:
            return [Received(bytes(32), State.APPROVED, False) for _ in envelopes]

    async with (
        city_server(overrides={"tokyo": Mock()}) as server,
        server.client("tokyo") as city,
    ):
        assert await city.submit([b"anything"]) == [Received(bytes(32), State.APPROVED, False)]


async def test_a_fake_clock_decides_when_rounds_close(
    city_server: Any, signed_transactions: Any
) -> None:
    clock = FakeClock()
    stalling = StallingConsensus("judge", first=2)
    async with (
        city_server(
            overrides={"tokyo": {"consensus": stalling}},
            clock=clock,
            pacer={"min_seconds": 60, "max_seconds": 60},
        ) as server,
        server.client("tokyo") as city,
    ):
        [first] = await signed_transactions(city)
        await city.submit([first])
        await city.wait([first.tx_id])
        [second] = await signed_transactions(city, key=1)
        await city.submit([second])
        assert (await city.info()).pending == 1
        await clock.advance(60)
        await stalling.reached()
        stalling.release()
        await city.wait([second.tx_id])


async def test_a_fake_clock_moves_on_until_something_is_done() -> None:
    clock = FakeClock(1_000)

    async def work() -> str:
        for _ in range(3):
            await asyncio.to_thread(lambda: None)
            await clock.sleep(2)
        return "done"

    assert await clock.advance_until(work(), step=0.5) == "done"
    assert clock.monotonic() >= 6
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await clock.advance_until(asyncio.Event().wait())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_fake_clock_jumps_without_waking_anybody() -> None:
    clock = FakeClock(10_000)
    sleeping = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    clock.jump(-5)
    assert (clock.time_ms(), clock.monotonic()) == (5_000, 0)
    clock.jump(60)
    await asyncio.sleep(0)
    assert (clock.time_ms(), clock.sleepers) == (65_000, 1)
    await clock.advance(1)
    await sleeping


async def test_who_leaves_a_representative_can_be_cancelled_meanwhile(
    city_server: Any, signed_transactions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving, left = asyncio.Event(), asyncio.Event()

    async def slow_to_end(representative: Representative) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            leaving.set()
            await left.wait()

    monkeypatch.setattr(Representative, "run", slow_to_end)
    went_on = False

    async def visit(server: Any) -> None:
        nonlocal went_on
        async with server.representative("tokyo", signed_transactions.key(1)):
            await asyncio.sleep(0)
        went_on = True

    async with city_server(["tokyo"]) as server:
        visiting = asyncio.create_task(visit(server))
        await leaving.wait()
        visiting.cancel()
        await asyncio.wait({visiting})
        left.set()
        assert (visiting.cancelled(), went_on) == (True, False)


async def test_a_part_of_the_servers_table_leaves_the_rest(city_client: Any) -> None:
    async with city_client(server={"max_message_mib": 1}) as city:
        assert (await city.info()).head.round == 0


def test_the_plugin_imports_nothing_heavy_and_its_fixtures_work_in_a_fresh_project(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(
        test_light="""
        import sys

        def test_nothing_heavy_is_loaded():
            heavy = {"grpc", "apsw", "pydantic", "dependency_injector", "citychain._native"}
            assert not heavy & set(sys.modules)
        """,
        test_used="""
        import pytest

        @pytest.mark.asyncio
        async def test_a_city(city_client, signed_transactions):
            async with city_client("nara") as city:
                [transaction] = await signed_transactions(city)
                await city.submit([transaction])
                await city.wait([transaction.tx_id])
        """,
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=2)


async def test_a_representative_goes_on_where_it_was_and_stands_in_one_place_alone(
    city_server: Any, signed_transactions: Any, tmp_path: Any
) -> None:
    key = signed_transactions.key(1)
    seat = {"public_key": key.public_key.hex(), "stake": 1}
    cities = {"tokyo": {"storage": "sqlite", "consensus": "poh-pop", "committee": [seat]}}
    for time in (1, 2):
        async with (
            city_server(cities, directory=tmp_path) as server,
            server.client("tokyo") as city,
            server.representative("tokyo", key),
        ):
            [sent] = await signed_transactions(city)
            await city.submit([sent])
            await city.wait([sent.tx_id])
            assert (await city.info()).head.certified_round == time
            with pytest.raises(DirectoryInUse, match="a representative has one state directory"):
                async with server.representative("tokyo", key):
                    pass
    assert len([*(tmp_path / "representatives").iterdir()]) == 1


async def test_a_representatives_directory_is_of_one_city(
    city_server: Any, signed_transactions: Any, tmp_path: Any
) -> None:
    key = signed_transactions.key(1)
    seat = {"public_key": key.public_key.hex(), "stake": 1}
    table = {"storage": "memory", "consensus": "poh-pop", "committee": [seat]}
    async with (
        city_server({"tokyo": {**table, "num_hashes": 10}}, directory=tmp_path) as server,
        server.representative("tokyo", key),
    ):
        pass
    [genesis] = tmp_path.rglob("genesis/tokyo.json")
    genesis.unlink()
    # Founded anew, and its representative has what it did in the city before.
    async with city_server({"tokyo": {**table, "num_hashes": 20}}, directory=tmp_path) as server:
        with pytest.raises(ConfigurationError, match="a state directory of its own"):
            async with server.representative("tokyo", key):
                pass


async def test_a_representative_that_breaks_off_is_told_when_it_is_left(
    city_server: Any, signed_transactions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(self: Representative) -> None:
        raise RuntimeError("broke off")

    monkeypatch.setattr(Representative, "run", run)
    async with city_server(["tokyo"]) as server:
        with pytest.raises(RuntimeError, match="broke off"):
            async with server.representative("tokyo", signed_transactions.key(1)):
                await asyncio.sleep(0)
