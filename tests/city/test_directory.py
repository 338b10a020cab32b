"""Names to open cities; a broken city hurts nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from citychain.city.directory import CityDirectory
from citychain.city.listing import CityState
from citychain.client.transactions import sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.errors import CityUnavailable, ConfigurationError, NotFound
from citychain.handler import CityHandler
from citychain.testing.clock import FakeClock
from citychain.testing.faults import FailingStorage
from citychain.types import State

OpenCities = Callable[..., AbstractAsyncContextManager[CityDirectory]]
CITIES = {
    "tokyo": {"storage": "memory", "aliases": ["東京", "Edo"]},
    "osaka": {"storage": "memory"},
}


async def test_every_name_of_a_city_is_the_same_city(open_cities: OpenCities) -> None:
    async with open_cities(cities=CITIES) as directory:
        city = await directory.handler("tokyo")
        for name in ("TOKYO", " tokyo ", "東京", "EDO", "ｔｏｋｙｏ"):
            assert await directory.handler(name) is city


async def test_an_unknown_name_suggests_near_ones(open_cities: OpenCities) -> None:
    async with open_cities(cities=CITIES) as directory:
        with pytest.raises(NotFound) as unknown:
            await directory.handler("tokio")
        assert unknown.value.kind == "city"
        assert unknown.value.suggestions == ("tokyo",)


async def test_a_city_is_opened_once_however_many_ask(open_cities: OpenCities) -> None:
    opened = []

    def storage(real: Any) -> Any:
        opened.append(real)
        return real

    async with open_cities({"tokyo": {"storage": storage}}, cities=CITIES) as directory:
        assert directory.open_cities() == {}
        handlers = await asyncio.gather(*(directory.handler("tokyo") for _ in range(20)))
        assert len(set(map(id, handlers))) == 1
        assert len(opened) == 1
        assert set(directory.open_cities()) == {"tokyo"}


async def test_a_city_that_cannot_be_opened_is_tried_again_later_and_others_are_untouched(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    failing = FailingStorage("acquire_lease", times=2)
    async with open_cities(
        {"tokyo": {"storage": failing}}, clock=clock, cities=CITIES
    ) as directory:
        with caplog.at_level(logging.ERROR), pytest.raises(CityUnavailable) as first:
            await directory.handler("tokyo")
        assert first.value.error_id in caplog.text
        assert "on purpose" in caplog.text
        assert "on purpose" not in str(first.value)
        with pytest.raises(CityUnavailable) as meanwhile:
            await directory.handler("tokyo")
        assert meanwhile.value.error_id == first.value.error_id
        assert failing.calls["acquire_lease"] == 1
        assert (await directory.listing("tokyo")).state is CityState.FAILED
        assert await directory.handler("osaka")
        await clock.advance(first.value.retry_after.total_seconds())
        with pytest.raises(CityUnavailable) as second:
            await directory.handler("tokyo")
        assert second.value.retry_after > first.value.retry_after
        await clock.advance(second.value.retry_after.total_seconds())
        assert await directory.handler("tokyo")
        assert (await directory.listing("tokyo")).state is CityState.OPEN


async def test_a_part_that_does_not_exist_makes_one_city_unavailable(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    cities = CITIES | {"nara": {"dag": "no-such-rule"}}
    async with open_cities(cities=cities) as directory:
        with pytest.raises(CityUnavailable):
            await directory.handler("nara")
        assert "no-such-rule" in caplog.text
        assert await directory.handler("osaka")


async def test_a_city_with_a_history_keeps_its_rule(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cities(cities=CITIES) as directory:
        await directory.handler("tokyo")
    changed = CITIES | {"tokyo": {"storage": "memory", "dag": "dependencies-only"}}
    async with open_cities(cities=changed) as directory:
        with pytest.raises(CityUnavailable):
            await directory.handler("tokyo")
        assert "dependencies-only/1" in caplog.text
        assert "sealed-rounds/1" in caplog.text


async def test_an_override_of_an_unknown_part_is_refused_with_the_known_ones(
    open_cities: OpenCities,
) -> None:
    with pytest.raises(ConfigurationError, match="storage, dag, consensus"):
        async with open_cities({"tokyo": {"storge": object()}}):
            pass


async def test_a_whole_handler_can_be_replaced(open_cities: OpenCities) -> None:
    class Mock:
        pass

    mock = Mock()
    async with open_cities({"tokyo": mock}, cities=CITIES) as directory:
        assert await directory.handler("tokyo") is mock


async def test_draining_finishes_what_was_accepted(open_cities: OpenCities) -> None:
    pacer = {"min_seconds": 60, "max_seconds": 60}
    cities = {"tokyo": {"storage": "sqlite"}}
    async with open_cities(cities=cities, pacer=pacer) as directory:
        city = await directory.handler("tokyo")
        transactions = [_sign(city) for _ in range(3)]
        for transaction in transactions:
            await city.submit([transaction.envelope])
        async with asyncio.timeout(120):
            await directory.drain()
        assert city.pending == 0
        with pytest.raises(CityUnavailable):
            await city.submit([_sign(city).envelope])
    async with open_cities(cities=cities) as directory:
        city = await directory.handler("tokyo")
        status = await city.status([transaction.tx_id for transaction in transactions])
        assert {found.state for found in status.values()} == {State.APPROVED}


def _sign(city: CityHandler) -> Any:
    return sign_transaction(
        SigningKey(bytes(32)), genesis=city.genesis.id, data=b"x", with_public_key=True
    )
