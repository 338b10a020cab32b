"""A server put together: what it opens at start, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from citychain.city.listing import CityState
from citychain.client import retries
from citychain.client.city import CityClient
from citychain.config import Settings
from citychain.containers import CoreContainer, open_server
from citychain.errors import CityUnavailable, ConfigurationError
from citychain.testing.server import CityServerFactory


async def _state(city: CityClient, name: str) -> CityState:
    from citychain.client.listing import list_cities

    listings = {listing.slug: listing async for listing in list_cities(city._channels, "")}
    return listings[name].state


async def test_cities_are_opened_at_start_only_where_it_is_asked_for(
    city_server: CityServerFactory,
) -> None:
    cities = {"early": {"open": "eager"}, "late": {}}
    async with city_server(cities, plugins={"allow": ()}) as server, server.client("early") as city:
        assert await _state(city, "early") is CityState.OPEN
        assert await _state(city, "late") is CityState.REGISTERED
        async with server.client("late") as late:
            await late.info()
        assert await _state(city, "late") is CityState.OPEN


async def test_a_city_that_fails_at_start_stops_neither_the_server_nor_the_others(
    city_server: CityServerFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cities = {"broken": {"dag": "no-such-rule", "open": "eager"}, "sound": {"open": "eager"}}
    async with city_server(cities, plugins={"allow": ()}) as server, server.client("sound") as city:
        assert (await city.info()).listing.slug == "sound"
        assert await _state(city, "broken") is CityState.FAILED
        # Longer than a client has.
        monkeypatch.setattr(retries, "BACKOFF_SECONDS", (3_600.0, 3_600.0))
        async with server.client("broken") as broken:
            with pytest.raises(CityUnavailable) as told:
                await broken.info()
        assert told.value.error_id in caplog.text


async def test_without_an_operator_key_the_server_does_not_start(tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path, operator_key=tmp_path / "no.key")
    with pytest.raises(ConfigurationError, match=r"no\.key: cannot be read"):
        async with open_server(settings):
            pass


def test_a_container_shares_its_parts_and_two_containers_share_none(tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path, plugins={"allow": ()})
    one, other = CoreContainer(settings=settings), CoreContainer(settings=settings)
    assert one.registry() is one.registry()
    assert one.registry() is not other.registry()
    assert set(one.registry().storage_backends) == {"memory", "mongodb", "sqlite"}
    assert set(one.registry().dag_handlers) == {
        "dependencies-only",
        "random-tips",
        "sealed-rounds",
    }
    assert set(one.registry().consensus_steps) == {"solo", "poh-pop"}
    assert set(one.registry().fragment_stores) == {"directory", "ipfs", "remote", "s3"}
