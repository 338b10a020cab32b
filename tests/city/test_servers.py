"""Several servers share a city: each accepts and tells of everything, one leads."""

from __future__ import annotations

import asyncio

import pytest
from city.sharing import (
    Servers,
    final,
    leader,
    sign,
    submit,
)

from citychain.errors import CityUnavailable


async def test_every_server_accepts_and_every_server_tells(servers: Servers) -> None:
    cities = await servers.cities(3)
    sent = []
    for _ in range(4):
        for city in cities:
            batch = sign(city, 3)
            await submit(city, batch)
            sent += batch
    await asyncio.gather(*(final(city, sent) for city in cities))
    assert sum(city.leads for city in cities) == 1
    await servers.check(cities[0], sent)
    for city in cities:
        assert city.pending == 0
        assert (await city.receipts([signed.tx_id for signed in sent])).keys() == {
            signed.tx_id for signed in sent
        }


async def test_a_city_is_open_while_another_server_has_the_lease(servers: Servers) -> None:
    [first] = await servers.cities(1)
    await leader(first)
    [second] = await servers.cities(1)
    await submit(second, batch := sign(second))
    await final(second, batch)
    assert first.leads
    assert not second.leads


async def test_a_server_that_closes_lets_another_lead_at_once(servers: Servers) -> None:
    one = await servers.start()
    first = await one.city()
    await leader(first)
    second = await (await servers.start()).city()
    await submit(first, batch := sign(first, 5))
    await one.directory.drain()
    await final(second, batch)
    await leader(second)
    with pytest.raises(CityUnavailable):
        await submit(first, sign(first))
    await submit(second, after := sign(second))
    await final(second, after)
    await final(first, after)
    await servers.check(second, batch + after)
