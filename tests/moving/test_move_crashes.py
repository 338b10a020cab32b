"""A move that is cut off before or after any write leaves the city one home."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from moving.conftest import AUTHORS, OPERATOR, STORAGES, TOKYO, receipts_of, signed

from citychain import record
from citychain.city.plan import CityPlan, Part
from citychain.client.transactions import SignedTransaction
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import Settings
from citychain.containers import CoreContainer
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, MoveFailed, VerificationError
from citychain.genesis import Genesis
from citychain.moving.comparing import Comparison
from citychain.moving.composing import open_home
from citychain.moving.copying import CityCopy
from citychain.moving.home import read_home, write_home
from citychain.moving.moving import Place, move_city
from citychain.moving.opening import Home, find_home
from citychain.notes import HOME
from citychain.ports import CityStorage
from citychain.storage.memory import MemoryCity
from citychain.testing.crashes import WRITES
from citychain.testing.server import CityServerFactory
from citychain.types import NodeRef, RawTransaction, Rejection


class Died(BaseException):
    """The process is gone."""


class Life:
    """Writes of one process, until it dies at one of them."""

    def __init__(self, at: int = 0, *, before: bool = False) -> None:
        self._at = at
        self._before = before
        self.dead = False
        self.writes: list[str] = []

    async def write(self, name: str, call: Any) -> Any:
        if self.dead:
            raise Died
        self.writes.append(name)
        dies = len(self.writes) == self._at
        if dies and self._before:
            self.dead = True
            raise Died
        result = await call()
        if dies:
            self.dead = True
            raise Died
        return result


class Mortal:
    """A storage, as a process with such a life sees it."""

    def __init__(self, name: str, storage: CityStorage, life: Life) -> None:
        self._name = name
        self._storage = storage
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if name not in WRITES:
                if self._life.dead:
                    raise Died
                return await method(*args, **kwargs)
            return await self._life.write(f"{self._name}.{name}", lambda: method(*args, **kwargs))

        return call


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor() as executor:
        yield executor


@pytest.fixture
async def city(
    city_server: CityServerFactory, tmp_path: Path, compute: Executor
) -> tuple[Genesis, MemoryCity, list[SignedTransaction]]:
    """A city with a few rounds and what waits for one, in a storage that outlives its process."""
    async with (
        city_server(TOKYO, storage=STORAGES, operator=OPERATOR, directory=tmp_path) as server,
        server.client("tokyo") as client,
    ):
        genesis = Genesis.from_bytes((await client.info()).genesis_file)
        sent: list[SignedTransaction] = []
        for number in range(4):
            batch = signed(genesis.id, AUTHORS[number % 2], 5, f"city {number}")
            sent += batch
            await client.submit(batch)
            await receipts_of(client, batch)
    settings = Settings(data_dir=tmp_path / "data", storage=STORAGES, cities=TOKYO)
    core = CoreContainer(settings=settings)
    async with core.compute(), core.engines():
        plan = core.catalogue().plan("tokyo")
        sqlite = (await open_home(core, plan, genesis)).storage
        outliving = MemoryCity(SystemClock(), genesis.file, genesis.initial_objects())
        moved = CityCopy(genesis.id, sqlite, outliving, compute)
        await moved.begin()
        await moved.rounds()
        waiting = signed(genesis.id, AUTHORS[2], 3, "waits")
        await outliving.append(
            [RawTransaction(item.tx_id, _author(item), item.envelope) for item in waiting],
            {_author(waiting[0]): AUTHORS[2].public_key},
        )
        await outliving.keep({"handover/0000000000000002": b"", "conflict/x": b"note"})
    return genesis, outliving, [*sent, *waiting]


def _author(transaction: SignedTransaction) -> bytes:
    return key_id(transaction.public_key)


class World:
    """Two storages that outlive processes, and a data directory."""

    def __init__(
        self, genesis: Genesis, old: MemoryCity, new: MemoryCity, data: Path, compute: Executor
    ) -> None:
        self.genesis = genesis
        self.storages = {"old": old, "new": new}
        self._data = data
        self._compute = compute

    async def move(self, source: str, target: str, life: Life) -> None:
        @asynccontextmanager
        async def held() -> AsyncIterator[None]:
            yield

        async def remember(storage: str) -> None:
            async def write() -> None:
                write_home(self._data, "tokyo", storage)

            await life.write("remember", write)

        place = {
            name: Place(name, cast(CityStorage, Mortal(name, storage, life)))
            for name, storage in self.storages.items()
        }
        await move_city(
            genesis=self.genesis,
            source=place[source],
            target=place[target],
            server="here",
            held=held,
            remember=remember,
            compute=self._compute,
            clock=SystemClock(),
        )

    async def home(self, configured: str) -> Home:
        """Where a new process finds the city."""
        moved_to = read_home(self._data, "tokyo")
        plan = cast(CityPlan, _Plan("tokyo", _part(moved_to or configured), configured))

        async def opened(part: Part[Any]) -> CityStorage:
            return self.storages[part.name]

        return await find_home(
            plan, data_dir=self._data, named=_part, opened=opened, compute=self._compute
        )


class _Plan:
    def __init__(self, slug: str, storage: Part[Any], configured: str) -> None:
        self.slug = slug
        self.storage = storage
        self.configured_storage = configured


def _part(name: str) -> Part[Any]:
    return Part(name, cast(Any, None), cast(Any, None))


async def same(world: World, left: CityStorage, right: CityStorage) -> None:
    check = Comparison(left, right, world.genesis.initial_objects(), world._compute)
    await check.whole()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
async def test_a_move_that_dies_at_any_write(
    city: tuple[Genesis, MemoryCity, list[SignedTransaction]],
    compute: Executor,
    tmp_path: Path,
    before: bool,
    back: bool,
) -> None:
    genesis, filled, _ = city
    homes = set()
    at = 0
    while True:
        at += 1
        data = tmp_path / f"{back}-{before}-{at}"
        data.mkdir()
        empty = MemoryCity(SystemClock(), genesis.file, genesis.initial_objects())
        world = World(genesis, copy.deepcopy(filled), empty, data, compute)
        source, target = "old", "new"
        if back:
            await world.move("old", "new", Life())
            source, target = "new", "old"
        life = Life(at, before=before)
        try:
            await world.move(source, target, life)
        except Died:
            pass
        else:
            assert not life.dead
            break
        # Whatever the configuration names, a new process finds the same home, or is told of it.
        found = await world.home("old")
        homes.add(found.part.name)
        await same(world, filled, found.storage)
        other = {"old": "new", "new": "old"}[found.part.name]
        (data / "homes" / "tokyo.json").unlink(missing_ok=True)
        lives_there = re.escape(f'lives in storage "{found.part.name}"')
        if found.part.name == target or back:
            if found.part.name == source and life.writes == [f"{target}.keep"] and before:
                assert (await world.home(other)).part.name == source  # By the note of the first.
            elif found.part.name == source:
                with pytest.raises(ConfigurationError, match=lives_there):
                    await world.home(other)
            else:
                assert (await world.home(other)).part.name == target
        elif life.writes == [f"{target}.keep"] and before:
            assert (await world.home(other)).storage is not found.storage  # Nothing had begun.
        else:
            with pytest.raises(ConfigurationError, match=lives_there):
                await world.home(other)
        # It goes on from there, and the move can be repeated, or made back.
        (data / "homes" / "tokyo.json").unlink(missing_ok=True)
        await world.move(found.part.name, other, Life())
        assert (await world.home(found.part.name)).part.name == other
        await same(world, filled, world.storages[other])
    assert homes == {source, target}
    assert {f"{target}.keep", f"{source}.keep", "remember"} <= set(life.writes)


class Late:
    """A storage in which somebody who asks no server stores one more before it is left."""

    def __init__(self, real: CityStorage, late: SignedTransaction) -> None:
        self._real = real
        self._late = late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def keep(self, notes: dict[str, bytes]) -> None:
        if HOME in notes:
            author = _author(self._late)
            await self._real.append(
                [RawTransaction(self._late.tx_id, author, self._late.envelope)],
                {author: self._late.public_key},
            )
        await self._real.keep(notes)


@pytest.mark.parametrize("dies", [False, True])
async def test_what_is_stored_until_the_city_is_gone_comes_along(
    city: tuple[Genesis, MemoryCity, list[SignedTransaction]],
    compute: Executor,
    tmp_path: Path,
    dies: bool,
) -> None:
    genesis, filled, _ = city
    [late] = signed(genesis.id, SigningKey(b"late" * 8), 1, "late")
    before = list(await filled.pending_ids())
    at = 0
    for number in range(1 + dies):
        empty = MemoryCity(SystemClock(), genesis.file, genesis.initial_objects())
        world = World(genesis, copy.deepcopy(filled), empty, tmp_path / str(number), compute)
        world.storages["old"] = cast(MemoryCity, Late(world.storages["old"], late))
        life = Life(at)
        with pytest.raises(Died) if at else nullcontext():
            await world.move("old", "new", life)
        at = life.writes.index("old.keep") + 1
    assert life.dead == dies
    home = await world.home("old")
    assert home.part.name == "new"
    assert list(await home.storage.pending_ids()) == [*before, late.tx_id]
    assert late.public_key in (await home.storage.keys([_author(late)])).values()


async def test_a_damaged_source_is_found_out_before_the_copy_is_used(
    city: tuple[Genesis, MemoryCity, list[SignedTransaction]], compute: Executor, tmp_path: Path
) -> None:
    genesis, filled, _ = city
    empty = MemoryCity(SystemClock(), genesis.file, genesis.initial_objects())

    def damaged(change: Any) -> World:
        source = copy.deepcopy(filled)
        change(source)
        return World(genesis, source, copy.deepcopy(empty), tmp_path, compute)

    def of_round_2(**fields: Any) -> Any:
        def change(source: MemoryCity) -> None:
            source._rounds[1] = replace(source._rounds[1], **fields)

        return change

    def other_node(**fields: Any) -> Any:
        def change(source: MemoryCity) -> None:
            node = source._nodes_by_round[1][1]
            source._sealed[node.tx_id] = replace(node, **fields)

        return change

    def lost(source: MemoryCity) -> None:
        del source._raw[source._nodes_by_round[2][0].tx_id]

    def leaf(source: MemoryCity) -> None:
        source._leaf_hashes[40] ^= 1

    for change, message in (
        (of_round_2(peaks=b"p" * 32), "log's peaks"),
        (of_round_2(checkpoint_hash=b"c" * 32), "checkpoint's hash"),
        (of_round_2(time_ms=1), "time"),
        (other_node(node_id=b"n" * 32), "a node's id"),
        (other_node(parents=(NodeRef(1, 0, b"p" * 32),)), "a node's id"),
        (other_node(parents=(NodeRef(2, 1, b"p" * 32),)), "the nodes"),
        (other_node(rejection=Rejection("X", "x")), "a verdict"),
        (other_node(seq=4), "the nodes"),
        (lost, "not in the source any more"),
        (leaf, "leaf hashes"),
    ):
        world = damaged(change)
        with pytest.raises(MoveFailed, match=message):
            await world.move("old", "new", Life())
        assert (await world.home("old")).part.name == "old"


class _Other:
    """Reads of a copy that are not what they should be."""

    def __init__(self, real: CityStorage, name: str, change: Any) -> None:
        self._real = real
        self._name = name
        self._change = change

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name != self._name:
            return method

        async def changed(*args: Any) -> Any:
            return self._change(await method(*args))

        return changed


@pytest.mark.parametrize(
    ("read", "change"),
    [
        ("rounds", lambda found: [replace(r, record=r.record + b"x") for r in found]),
        ("find", lambda found: dict(list(found.items())[1:])),
        ("raw", lambda found: {k: replace(v, envelope=b"") for k, v in found.items()}),
        ("leaf_hashes", lambda found: found[:-1] + bytes((found[-1] ^ 1,))),
        ("keys", lambda found: {}),
        ("nodes", lambda found: {}),
        ("latest", lambda found: {}),
        ("tips", lambda found: []),
        ("children", lambda found: []),
        ("round_nodes", lambda found: list(found)[::-1]),
        ("notes", lambda found: {**found, "more": b""}),
        ("pending_ids", lambda found: list(found)[1:]),
        ("head", lambda found: replace(found, certified_round=0)),
        ("objects", lambda found: {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_copy_that_differs_in_anything_is_not_used(
    city: tuple[Genesis, MemoryCity, list[SignedTransaction]],
    compute: Executor,
    tmp_path: Path,
    read: str,
    change: Any,
) -> None:
    genesis, filled, _ = city
    initial = genesis.initial_objects()
    target = MemoryCity(SystemClock(), genesis.file, initial)
    moved = CityCopy(genesis.id, filled, target, compute)
    await moved.begin()
    await moved.rounds()
    await moved.rest()
    await Comparison(filled, target, initial, compute).whole()
    liar = cast(CityStorage, _Other(target, read, change))
    if read == "objects" and not initial and not any(s.writes for s in _records(filled)):
        pytest.skip("this city writes no objects")
    with pytest.raises(VerificationError):
        await Comparison(filled, liar, initial, compute).whole()


def _records(city: MemoryCity) -> list[Any]:
    return [record.decode(stored.record) for stored in city._rounds]
