"""Storage tests: who is at work on a shared storage, for backends that are `SupportsServers`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import pytest

from citychain.ports import CityStorage, StorageBackend, SupportsServers, knows_servers
from citychain.testing.conformance._storage_session import TTL, Session
from citychain.testing.conformance.ledger import Ledger

__all__ = ["ServersTests"]


class ServersTests:
    """Part of `StorageSuite`."""

    async def test_servers_say_that_they_are_at_work(self, session: Session) -> None:
        """For backends that know of servers: see `citychain.ports.SupportsServers`."""
        ledgers = [Ledger(170 + number) for number in range(3)]
        async with session.second() as backend:
            one, two = _servers(session.backend), _servers(backend)
            ids = [ledger.genesis for ledger in ledgers]
            cities = [await session.city(ledger) for ledger in ledgers]
            await one.beat("one")
            assert await two.servers(TTL) == {"one": []}, "a server that beats is seen by others"
            epochs = [await city.acquire_lease("one", TTL) for city in cities]
            await two.beat("two")
            held = await two.servers(TTL)
            assert {server: set(found) for server, found in held.items()} == {
                "one": set(ids),
                "two": set(),
            }, "each server has the cities whose leases it holds"
            assert await two.genesis_files([*ids[:2], b"?" * 32]) == dict.fromkeys(
                ids[:2], b"genesis file"
            )
            assert epochs[0] is not None
            await cities[1].release_lease(epochs[1] or 0)
            await one.hand_over(ids[0], epochs[0], "two")
            await two.handed("two", timedelta(milliseconds=50))  # In time; it need not be heard of.
            assert await cities[0].acquire_lease("three", TTL) is None, (
                "a lease that was handed over is for its successor alone"
            )
            held = await one.servers(TTL)
            assert {server: set(found) for server, found in held.items()} == {
                "one": {ids[2]},
                "two": {ids[0]},
            }, "what was handed over is the successor's; what was released is nobody's"
            taken = await (
                await backend.city(ids[0], b"genesis file", ledgers[0].initial)
            ).acquire_lease("two", TTL)
            assert taken is not None, "the successor is granted it"
            assert taken > epochs[0], "epochs must grow by each acquisition"
            await one.hand_over(ids[0], epochs[0], "one")  # Of a lost lease: does nothing.
            held = await one.servers(TTL)
            assert list(held["two"]) == [ids[0]], "a lost lease cannot be handed over"
            await two.leave("two")
            held = await one.servers(TTL)
            assert {server: set(found) for server, found in held.items()} == {
                "one": {ids[2]},
                "": {ids[0]},
            }, "the cities of a server that left stand under the empty name"

    async def test_what_a_server_hands_back_is_for_anybody(self, session: Session) -> None:
        """It stands under the empty name until then: nobody may have it open."""
        ledger = Ledger(175)
        async with session.second() as backend:
            one, two = _servers(session.backend), _servers(backend)
            city = await session.city(ledger)
            await one.beat("one")
            await two.beat("two")
            epoch = await city.acquire_lease("one", TTL)
            assert epoch is not None
            await two.hand_back(ledger.genesis, "one")
            assert list((await one.servers(TTL))["one"]) == [ledger.genesis], (
                "a lease that was taken cannot be handed back"
            )
            await city.renew_lease(epoch, TTL)
            await one.hand_over(ledger.genesis, epoch, "two")
            await two.hand_back(ledger.genesis, "three")
            assert list((await one.servers(TTL))["two"]) == [ledger.genesis], (
                "only the server that it was handed to can hand it back"
            )
            assert await city.acquire_lease("one", TTL) is None
            await two.hand_back(ledger.genesis, "two")
            held = await two.servers(TTL)
            assert {server: set(found) for server, found in held.items()} == {
                "one": set(),
                "two": set(),
                "": {ledger.genesis},
            }, "what was handed back is nobody's, and is seen to be"
            taken = await _soon_granted(city, "one")
            assert taken > epoch, "epochs must grow by each acquisition"
            await two.hand_back(ledger.genesis, "two")  # Too late: does nothing.
            await city.renew_lease(taken, TTL)
            assert list((await two.servers(TTL))["one"]) == [ledger.genesis]

    async def test_a_server_that_does_not_beat_is_missed(self, session: Session) -> None:
        ledger = Ledger(174)
        async with session.second() as backend:
            one, two = _servers(session.backend), _servers(backend)
            city = await session.city(ledger)
            short = timedelta(milliseconds=500)
            await one.beat("one")
            await two.beat("two")
            assert await city.acquire_lease("one", short) is not None
            assert set(await two.servers(TTL)) == {"one", "two"}
            missed = {"two": [], "": [ledger.genesis]}
            held: dict[str, Sequence[bytes]] = {}
            # Who beats may be missed for a moment as well, where the machine is slow.
            with suppress(TimeoutError):
                async with asyncio.timeout(30):
                    while held != missed:
                        await two.beat("two")
                        held = dict(await two.servers(short))
                        await asyncio.sleep(0.01)
            assert held == missed, (
                "a server that says nothing any more is not at work, and has left its cities"
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(30):
                    while "one" not in held:
                        await one.beat("one")
                        held = dict(await two.servers(short))
            assert "one" in held, "who beats again is at work again"


async def _soon_granted(city: CityStorage, holder: str) -> int:
    """A backend need not look at every lease at every call."""
    async with asyncio.timeout(TTL.total_seconds()):
        while (epoch := await city.acquire_lease(holder, TTL)) is None:
            await asyncio.sleep(0.01)
    return epoch


def _servers(backend: StorageBackend) -> SupportsServers:
    if (servers := knows_servers(backend)) is None:
        names = [name for name in vars(SupportsServers) if not name.startswith("_")]
        offered = [name for name in names if hasattr(backend, name)]
        assert not offered, f"it has {offered} and not all of {names}: it is taken for one without"
        pytest.skip("this storage knows of no servers: their cities are not spread over them")
    return servers
