"""Cities are spread over the servers of a shared storage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from citychain.city.spreading import NOBODY, Move, Spreader, plan_moves
from citychain.errors import StorageError
from citychain.testing import FakeClock

tables = st.dictionaries(
    st.sampled_from([NOBODY, "a", "b", "c", "d", "e"]), st.integers(0, 12)
).map(
    lambda counts: {
        server: [f"{server}{number}".encode() for number in range(count)]
        for server, count in counts.items()
    }
)


def _after(held: dict[str, list[bytes]], moves: list[Move]) -> dict[str, set[bytes]]:
    after = {server: set(cities) for server, cities in held.items()}
    for move in moves:
        after[move.giver].remove(move.city)
        after[move.taker].add(move.city)
    return after


@given(tables)
def test_after_the_moves_all_lead_alike_and_none_is_left(held: dict[str, list[bytes]]) -> None:
    moves = plan_moves(held)
    after = _after(held, moves)
    left = after.pop(NOBODY, set())
    if not after:
        assert moves == []
        return
    assert left == set()
    counts = [len(cities) for cities in after.values()]
    assert max(counts) - min(counts) <= 1
    cities = [city for cities in held.values() for city in cities]
    assert Counter(city for cities in after.values() for city in cities) == Counter(cities)


@given(tables)
def test_no_city_moves_twice_nor_between_servers_without_need(held: dict[str, list[bytes]]) -> None:
    moves = plan_moves(held)
    assert len({move.city for move in moves}) == len(moves)
    servers = [server for server in held if server != NOBODY]
    if not servers:
        return
    total = sum(map(len, held.values()))
    share, more = divmod(total, len(servers))
    # Whoever has the most to begin with keeps the odd ones.
    most = sorted((len(held[server]) for server in servers), reverse=True)
    allowed = [share + 1] * more + [share] * (len(servers) - more)
    surplus = sum(max(0, has - may) for has, may in zip(most, allowed, strict=True))
    assert sum(move.giver != NOBODY for move in moves) == surplus
    assert plan_moves({s: sorted(c) for s, c in _after(held, moves).items()}) == []


def test_all_servers_plan_the_same() -> None:
    held = {"b": [b"3", b"1", b"2", b"4"], "a": [], NOBODY: [b"9"]}
    assert plan_moves(held) == plan_moves(dict(reversed(held.items())))
    assert plan_moves(held) == [Move(b"9", NOBODY, "a"), Move(b"4", "b", "a")]


class Table:
    """A storage backend that knows of servers, and hears of what is handed over."""

    def __init__(self) -> None:
        self.held: dict[str, list[bytes]] = {"one": [], "two": []}
        self.hint = asyncio.Event()
        self.failures = 1

    async def beat(self, server: str) -> None: ...

    async def leave(self, server: str) -> None: ...

    async def servers(self, ttl: timedelta) -> dict[str, list[bytes]]:
        return {server: list(cities) for server, cities in self.held.items()}

    async def genesis_files(self, cities: Sequence[bytes]) -> dict[bytes, bytes]:
        return {city: b"file of " + city for city in cities}

    async def handed(self, server: str, timeout: timedelta) -> bool:
        if self.failures:
            self.failures -= 1
            raise StorageError("away")
        await self.hint.wait()
        self.hint.clear()
        return True


class Opened:
    """The cities that one server has open."""

    def __init__(self) -> None:
        self.cities: set[bytes] = set()
        self.more = asyncio.Event()

    def opened(self) -> set[bytes]:
        return self.cities

    async def open(self, genesis_file: bytes) -> None:
        self.cities.add(genesis_file.removeprefix(b"file of "))
        self.more.set()

    async def step_down(self, city: bytes) -> int | None: ...


async def test_what_is_handed_over_is_opened_at_once() -> None:
    table, cities, clock = Table(), Opened(), FakeClock()
    backend: Any = table
    spreader = Spreader(
        server="one", backend=backend, lease=timedelta(seconds=30), clock=clock, cities=cities
    )
    running = asyncio.create_task(spreader.run())
    try:
        # What is heard of fails at first, and is asked for again.
        async with asyncio.timeout(10):
            while table.failures:
                await asyncio.sleep(0)
        await clock.advance(10)
        for city in (b"tokyo", b"kyoto"):
            table.held["one"].append(city)
            table.hint.set()
            # The clock stands still: no turn comes.
            async with asyncio.timeout(10):
                await cities.more.wait()
            cities.more.clear()
            assert city in cities.cities
    finally:
        spreader.stop()
        async with asyncio.timeout(10):
            await running
