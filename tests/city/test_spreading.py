"""Cities are spread over the servers of a shared storage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.city.spread_cities import SpreadCities
from citychain.city.spreading import (
    HEARD_SECONDS,
    MOVES_MAX,
    NOBODY,
    PATIENCE,
    SHUNNED,
    Move,
    Spreader,
    plan_moves,
    server_name,
)
from citychain.compute import Executor
from citychain.errors import CityUnavailable, StorageError
from citychain.genesis import Genesis, Representative
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
        self.files = 0
        """Genesis files that were read."""
        self.given: list[tuple[bytes, str]] = []

    async def beat(self, server: str) -> None: ...

    async def leave(self, server: str) -> None: ...

    async def servers(self, ttl: timedelta) -> dict[str, list[bytes]]:
        return {server: list(cities) for server, cities in self.held.items()}

    async def genesis_files(self, cities: Sequence[bytes]) -> dict[bytes, bytes]:
        self.files += len(cities)
        return {city: b"file of " + city for city in cities}

    async def hand_over(self, city: bytes, epoch: int, successor: str) -> None:
        self.given.append((city, successor))

    async def hand_back(self, city: bytes, server: str) -> None:
        if city in self.held[server]:
            self.held[server].remove(city)
            self.held.setdefault(NOBODY, []).append(city)

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
        self.can = lambda city: True
        self.handed_over: Any = lambda city: None

    def opened(self) -> set[bytes]:
        return self.cities

    async def open(self, genesis_file: bytes) -> bool:
        city = genesis_file.removeprefix(b"file of ")
        if not self.can(city):
            return False
        self.cities.add(city)
        return True

    async def step_down(self, city: bytes) -> int | None:
        return 1


def _spreader(table: Any, cities: Any, server: str = "one", clock: Any = None) -> Spreader:
    return Spreader(
        server=server,
        backend=table,
        lease=timedelta(seconds=30),
        clock=clock or FakeClock(),
        cities=cities,
    )


async def test_what_is_handed_over_is_opened_at_once() -> None:
    table, cities, clock = Table(), Opened(), FakeClock()
    spreader = _spreader(table, cities, clock=clock)
    running = asyncio.create_task(spreader.run())
    try:
        # What is heard of fails at first, and is asked for again.
        async with asyncio.timeout(120):
            while table.failures:
                await clock.advance(HEARD_SECONDS)
        await clock.advance(10)
        for city in (b"tokyo", b"kyoto"):
            table.held["one"].append(city)
            table.hint.set()
            # The clock moves on by less than a turn takes.
            since = clock.monotonic()
            while city not in cities.cities:
                await clock.advance(HEARD_SECONDS / 10)
                assert clock.monotonic() - since < 5
    finally:
        spreader.stop()
        async with asyncio.timeout(120):
            await running


@pytest.mark.parametrize("hint", [False, True])
async def test_a_backend_that_answers_at_once_is_not_asked_without_pause(hint: bool) -> None:
    clock = FakeClock()
    calls: Counter[str] = Counter()

    class Hasty(Table):
        async def handed(self, server: str, timeout: timedelta) -> bool:
            calls["handed"] += 1
            await asyncio.sleep(0)
            return hint

        async def servers(self, ttl: timedelta) -> dict[str, list[bytes]]:
            calls["servers"] += 1
            return await super().servers(ttl)

    table = Hasty()
    spreader = _spreader(table, Opened(), clock=clock)
    running = asyncio.create_task(spreader.run())
    try:
        for _ in range(20):
            await clock.advance(HEARD_SECONDS)
            for _ in range(50):
                await asyncio.sleep(0)
        assert 10 <= calls["handed"] <= 20
        assert calls["servers"] <= 22
    finally:
        spreader.stop()
        async with asyncio.timeout(120):
            await running


# --- what cannot be opened


async def test_what_cannot_be_opened_keeps_nobody_from_what_can() -> None:
    table, cities = Table(), Opened()
    theirs = [b"\x00%04d" % number for number in range(3 * MOVES_MAX)]
    cities.can = lambda city: city == b"\xffours"
    table.held = {"one": [], NOBODY: [*theirs, b"\xffours"]}
    spreader = _spreader(table, cities)
    for _ in range(8):
        await spreader.turn()
    assert cities.cities == {b"\xffours"}
    for _ in range(200):
        await spreader.turn()
    assert table.files < 12 * len(theirs), "each is tried ever more rarely"


async def test_what_cannot_be_opened_is_tried_again() -> None:
    table, cities = Table(), Opened()
    cities.can = lambda city: False
    table.held = {"one": [b"handed"], NOBODY: [b"left"]}
    spreader = _spreader(table, cities)
    for _ in range(20):
        await spreader.turn()
    cities.can = lambda city: True
    for _ in range(20):
        await spreader.turn()
    assert cities.cities == {b"handed", b"left"}


# --- what is handed back


async def test_what_was_handed_and_cannot_be_opened_is_handed_back_at_once() -> None:
    table, cities = Table(), Opened()
    cities.can = lambda city: city == b"can"
    table.held = {"one": [b"can", b"cannot"]}
    await _spreader(table, cities)._take_what_was_handed()
    assert table.held == {"one": [b"can"], NOBODY: [b"cannot"]}


async def test_a_city_without_a_genesis_file_is_handed_back_too() -> None:
    class Bare(Table):
        async def genesis_files(self, cities: Sequence[bytes]) -> dict[bytes, bytes]:
            return {}

    table = Bare()
    table.held = {"one": [b"city"]}
    await _spreader(table, Opened()).turn()
    assert table.held == {"one": [], NOBODY: [b"city"]}


async def test_what_could_not_be_handed_back_is_in_the_next_turn() -> None:
    """Also where it is not to be tried again then, and beside what can be opened."""

    class Failing(Table):
        async def hand_back(self, city: bytes, server: str) -> None:
            if self.failures:
                self.failures -= 1
                raise StorageError("away")
            await super().hand_back(city, server)

    table, cities = Failing(), Opened()
    cities.can = lambda city: city == b"can"
    table.failures, table.held = 6, {"one": [b"cannot", b"can"]}
    spreader = _spreader(table, cities)
    for _ in range(6):
        await spreader.turn()
    assert cities.cities == {b"can"}
    assert b"cannot" in table.held["one"]
    tried = table.files
    await spreader.turn()
    assert table.held == {"one": [b"can"], NOBODY: [b"cannot"]}
    assert table.files == tried, "it was not its turn"


async def test_what_is_handed_back_is_led_though_its_giver_is_gone() -> None:
    """By a server that has not opened it before, and has more to do than who cannot open it."""
    table, unable, able = Table(), Opened(), Opened()
    unable.can = lambda city: city != b"city"
    able.cities.add(b"another")
    table.held = {"one": [b"city"], "two": [b"another"]}
    spreaders = [_spreader(table, unable, "one"), _spreader(table, able, "two")]
    for _ in range(PATIENCE + 1):
        for spreader in spreaders:
            await spreader.turn()
    assert able.cities == {b"city", b"another"}
    assert unable.cities == set()


@pytest.mark.parametrize("fails", [False, True])
async def test_who_hands_over_asks_again_once_the_storage_keeps_the_lease(fails: bool) -> None:
    """Before, its own name stands in the lease, and it would be granted it."""

    class Away(Table):
        async def hand_over(self, city: bytes, epoch: int, successor: str) -> None:
            if fails:
                raise StorageError("away")
            calls.append(("hand_over", city))

    calls: list[tuple[str, bytes]] = []
    table, cities = Away(), Opened()
    cities.handed_over = lambda city: calls.append(("handed_over", city))
    cities.cities.update([b"1", b"2"])
    table.held = {"one": [b"1", b"2"], "two": []}
    spreader = _spreader(table, cities)
    if fails:
        with pytest.raises(ExceptionGroup):
            await spreader.turn()
        assert calls == []
    else:
        await spreader.turn()
        assert calls == [("hand_over", b"2"), ("handed_over", b"2")]


async def test_what_cannot_be_opened_is_no_load() -> None:
    """Leases that another network left when it died do not keep cities from being spread."""
    table, cities = Table(), Opened()
    cities.can = lambda city: False
    ours = [b"city %d" % number for number in range(6)]
    cities.cities.update(ours)
    table.held = {"one": ours, "two": [], NOBODY: [b"theirs %d" % number for number in range(6)]}
    spreader = _spreader(table, cities)
    for _ in range(8):
        await spreader.turn()
    assert [taker for _, taker in table.given] == ["two"] * 3


# --- to whom cities are handed


async def test_a_server_of_another_network_or_operator_counts_for_nothing() -> None:
    table, cities = Table(), Opened()
    one, like = server_name("main", b"key"), server_name("main", b"key")
    others = [server_name("main", b"another"), server_name("test", b"key"), server_name("main")]
    ours = [b"city %d" % number for number in range(4)]
    cities.cities.update(ours)
    table.held = {one: ours, **{name: [] for name in others}}
    spreader = _spreader(table, cities, one)
    await spreader.turn()
    assert table.given == []
    # What they lead is neither taken from them, nor counted.
    table.held = {one: ours, like: [], others[0]: [b"theirs %d" % it for it in range(9)]}
    await spreader.turn()
    assert sorted(taker for _, taker in table.given) == [like] * 2
    assert cities.cities == set(ours)


async def test_who_does_not_take_a_city_is_handed_it_ever_more_rarely() -> None:
    table, cities = Table(), Opened()
    cities.cities.update([b"1", b"2"])
    table.held = {"one": [b"1", b"2"], "two": []}
    spreader = _spreader(table, cities)
    turns = []
    for turn in range(SHUNNED[0] * 20):
        await spreader.turn()
        turns += [turn] * len(table.given)
        table.given.clear()
    # After 1, 2, 4 and 8 times as many turns.
    assert turns == [SHUNNED[0] * times for times in (0, 1, 3, 7, 15)]


async def test_who_took_a_city_may_be_handed_it_again_soon() -> None:
    table, cities = Table(), Opened()
    cities.cities.update([b"1", b"2"])
    spreader = _spreader(table, cities)
    for _ in range(3):
        table.held = {"one": [b"1", b"2"], "two": []}
        await spreader.turn()
        [(city, taker)] = table.given
        table.given.clear()
        table.held = {"one": [b"1"], taker: [city]}
        for _ in range(SHUNNED[0] // 2):
            await spreader.turn()
        assert table.given == []


# --- which city a genesis file is of


class Directory:
    """Opens cities by name."""

    def __init__(self, *cities: Genesis) -> None:
        self._cities = {city.city: city for city in cities}
        self.asked: list[str] = []

    async def handler(self, name: str) -> Any:
        self.asked.append(name)
        if name not in self._cities:
            raise CityUnavailable(name, "id", timedelta(seconds=1))
        return SimpleNamespace(genesis=self._cities[name])


async def test_a_city_is_opened_by_its_genesis_not_by_its_name_alone() -> None:
    tokyo = _genesis()
    directory: Any = Directory(tokyo)
    async with Executor(1) as compute:
        cities = SpreadCities(directory, "main", compute)
        for file in (_genesis(network="test").file, b"", b"{}", b"\xff"):
            assert not await cities.open(file)
        assert directory.asked == []
        assert not await cities.open(_genesis(num_hashes=10).file)
        assert not await cities.open(_genesis(city="kyoto").file)
        assert await cities.open(tokyo.file)


def _genesis(**fields: Any) -> Genesis:
    key = "11" * 2592
    return Genesis(
        **{
            "network": "main",
            "city": "tokyo",
            "rule": "sealed-rounds/1",
            "consensus": "solo/1",
            "operator": key,
            "committee": (Representative(public_key=key),),
            **fields,
        }
    )
