"""A store that fails to answer has lost nothing: nothing of it is removed or replaced."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import chain, combinations
from pathlib import Path

import pytest
from balance import (
    CONTENT,
    FOUR,
    OBJECT_ID,
    are_whole,
    learn_the_truth,
    places,
    put,
    rebalance,
)
from shelves import SMALL, Shelf, noise, restore

from citychain.compute import Executor
from citychain.errors import FragmentMissing, StoreFull, StoreUnavailable
from citychain.fragments import layout
from citychain.fragments.checking import Checked
from citychain.fragments.placement import Place
from citychain.fragments.rebalancing import AT_ONCE
from citychain.fragments.relocating import Outcome, Relocation
from citychain.fragments.summing import OutcomeSum
from citychain.ports import FragmentKey

PAIRS = list(combinations(FOUR, 2))
ERRORS: list[Callable[[], Exception]] = [
    lambda: StoreUnavailable("connection reset"),
    lambda: OSError(errno.EIO, "Input/output error"),
    lambda: FragmentMissing("it is not found"),
    lambda: KeyError("of whoever wrote the store"),
]


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture(autouse=True)
async def _short_runs(monkeypatch: pytest.MonkeyPatch, compute: Executor) -> None:
    monkeypatch.setattr(layout, "RUN_BYTES", 2 * SMALL)
    await learn_the_truth(compute)


class Sick(Shelf):
    """Fails the reads that it is told to, by their number or by where they begin."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: Callable[[int, int], bool] = lambda number, offset: False
        self.error = ERRORS[0]
        self.takes = True
        self.asked = 0
        self.changes: list[str] = []

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        self.asked += 1
        if self.fails(self.asked, offset):
            raise self.error()
        return await super().read(key, offset, length)

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        self.changes.append("put")
        if not self.takes:
            raise StoreUnavailable("connection reset")
        await super().put(key, size, parts)

    async def delete(self, key: FragmentKey) -> bool:
        self.changes.append("delete")
        return await super().delete(key)


async def sick(compute: Executor, more: Sequence[str] = ()) -> dict[str, Sick]:
    """Whole stores, of which nothing was asked."""
    stores = {name: Sick() for name in (*FOUR, *more)}
    await put(stores, compute, places(FOUR))
    for shelf in stores.values():
        shelf.asked, shelf.changes = 0, []
    return stores


async def run(
    stores: dict[str, Sick],
    compute: Executor,
    where: Sequence[Place] | None = None,
    *,
    check: bool = True,
    moves: bool = True,
) -> tuple[list[Outcome], set[str]]:
    """What is told, and the stores that failed."""
    failed: dict[str, str] = {}
    told = await rebalance(stores, compute, where, check=check, moves=moves, failed=failed)
    return told, set(failed)


def nth(*numbers: int) -> Callable[[int, int], bool]:
    return lambda number, offset: number in numbers


def always(number: int, offset: int) -> bool:
    return True


def held(stores: dict[str, Sick]) -> dict[str, dict[FragmentKey, bytes]]:
    return {name: dict(shelf.content) for name, shelf in stores.items()}


@pytest.mark.parametrize("takes", [True, False], ids=["takes", "takes nothing"])
@pytest.mark.parametrize("moves", [True, False], ids=["moves", "stays"])
@pytest.mark.parametrize("error", ERRORS, ids=["unavailable", "eio", "missing", "any"])
async def test_whichever_read_fails_once_nothing_is_removed_or_replaced(
    error: Callable[[], Exception], moves: bool, takes: bool, compute: Executor
) -> None:
    stores = await sick(compute)
    await run(stores, compute)
    reads = {name: shelf.asked for name, shelf in stores.items()}
    assert min(reads.values()) > 3
    before = held(stores)
    for name, count in reads.items():
        for number in range(1, count + 1):
            shelf = stores[name]
            shelf.asked, shelf.takes = 0, takes
            shelf.error, shelf.fails = error, nth(number)
            [outcome], failed = await run(stores, compute, moves=moves)
            assert [it.store for it in outcome.unanswered] == [name]
            assert [it.store for it in outcome.troubles] == [name]
            assert (outcome.is_changed, outcome.is_settled) == (False, False)
            assert (outcome.missing, outcome.loss, failed) == ([], "", {name})
            shelf.fails = nth()
    assert held(stores) == before
    assert not any(shelf.changes for shelf in stores.values())
    assert await run(stores, compute) == ([], set())


@pytest.mark.parametrize("moves", [True, False], ids=["moves", "stays"])
@pytest.mark.parametrize("pair", PAIRS)
async def test_two_that_fail_once_keep_all_and_what_is_spoilt_elsewhere_is_mended(
    pair: tuple[str, str], moves: bool, compute: Executor
) -> None:
    stores = await sick(compute)
    whole = held(stores)
    for name in pair:
        stores[name].fails, stores[name].takes = nth(2), False
    well = [name for name in FOUR if name not in pair]
    stores[well[0]].flip(30)
    [outcome], failed = await run(stores, compute, moves=moves)
    assert failed == set(pair)
    # Its wrong copy may be needed while so many do not answer: then the right one is elsewhere.
    [store] = outcome.made.values()
    assert store in well
    for name in pair:
        assert "delete" not in stores[name].changes
        assert stores[name].content == whole[name]
    there = {key: it for name in well for key, it in stores[name].content.items()}
    assert there == whole[well[0]] | whole[well[1]]
    for name in pair:
        stores[name].takes = True
    await run(stores, compute)
    await are_whole(stores, compute)
    assert {len(shelf.content) for shelf in stores.values()} == {1}


@pytest.mark.parametrize("check", [True, False], ids=["check", "look"])
@pytest.mark.parametrize(
    "names", list(chain.from_iterable(combinations(FOUR, count) for count in range(1, 5)))
)
async def test_who_answers_find_and_fails_every_read_has_lost_nothing(
    names: tuple[str, ...], check: bool, compute: Executor, tmp_path: Path
) -> None:
    stores = await sick(compute)
    before = held(stores)
    for name in names:
        stores[name].fails = always
    told, failed = await run(stores, compute, check=check, moves=False)
    if check or len(names) == 4:
        [outcome] = told
        assert sorted(it.store for it in outcome.unanswered) == list(names)
        assert failed == set(names)
        assert bool(outcome.loss) == (len(names) > 2)
        total = OutcomeSum()
        total.add(outcome)
        assert (total.lost, total.troubles) == (0, len(names))
    assert held(stores) == before
    assert not any(shelf.changes for shelf in stores.values())
    for shelf in stores.values():
        shelf.fails = nth()
    assert await run(stores, compute) == ([], set())
    await restore(CONTENT, stores, tmp_path, compute)


async def test_a_sector_that_cannot_be_read_costs_no_copy(compute: Executor) -> None:
    """What is beside it is made anew of others; it goes to where it belongs, and the old stays."""
    stores = await sick(compute, ["loft"])
    stores["shelf-1"].fails = lambda number, offset: offset == 0
    old = dict(stores["shelf-1"].content)
    stores["shelf-2"].drop()
    for check in (True, False):
        told, _ = await run(stores, compute, places(FOUR), check=check)
        assert all(list(it.made.values()) in ([], ["shelf-2"]) for it in told)
    assert stores["shelf-2"].content
    where = places([*FOUR, "loft"], shelf_1=0)
    [outcome], failed = await run(stores, compute, where, check=False)
    assert [move.origin for move in outcome.moved.values()] == ["shelf-1"]
    assert (outcome.removed, failed) == ([], {"shelf-1"})
    assert stores["shelf-1"].content == old
    assert "delete" not in stores["shelf-1"].changes
    assert len(stores["loft"].content) == 1


async def test_a_loss_found_while_making_names_who_did_not_answer(compute: Executor) -> None:
    stores = await sick(compute)
    stores["shelf-0"].drop()
    for name in ("shelf-1", "shelf-2"):
        stores[name].fails = lambda number, offset: offset == 0
    before = held(stores)
    [outcome], failed = await run(stores, compute, check=False)
    assert outcome.loss
    assert failed == {"shelf-1", "shelf-2"}
    assert sorted(it.store for it in outcome.unanswered) == ["shelf-1", "shelf-2"]
    assert held(stores) == before
    for shelf in stores.values():
        shelf.fails = nth()
    await run(stores, compute)
    await are_whole(stores, compute)


class Odd(Sick):
    """Answers what is no answer."""

    sized: object = None
    given: object = None

    async def size(self, key: FragmentKey) -> int | None:
        return self.sized if self.sized is not None else await super().size(key)  # type: ignore[return-value]

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        return self.given  # type: ignore[return-value]


@pytest.mark.parametrize("check", [True, False], ids=["check", "look"])
@pytest.mark.parametrize(
    ("sized", "given"), [("many", None), (None, None), (None, "text"), (None, 7), (b"1", b"")]
)
async def test_what_is_no_answer_stops_nothing(
    sized: object, given: object, check: bool, compute: Executor
) -> None:
    stores = await sick(compute)
    odd = Odd()
    odd.sized, odd.given = sized, given
    odd.content.update(stores["shelf-0"].content)
    stores["shelf-0"] = odd
    stores["shelf-1"].drop()
    before = dict(odd.content)
    [outcome], failed = await run(stores, compute, check=check, moves=False)
    assert list(outcome.made.values()) == ["shelf-1"]
    assert failed == {"shelf-0"}
    assert (odd.content, odd.changes) == (before, [])


async def test_one_object_that_fails_keeps_none_from_the_others(
    compute: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = await sick(compute)
    others = [(await put(stores, compute, content=noise(SMALL, seed))) for seed in range(6)]
    for shelf in stores.values():
        shelf.changes = []
    stores["shelf-1"].drop()
    run_one = Relocation.run

    async def fails(self: Relocation, checked: Checked | None) -> Outcome:
        outcome = await run_one(self, checked)
        if outcome.object_id == OBJECT_ID:
            raise RuntimeError("nobody thought of this")
        return outcome

    monkeypatch.setattr(Relocation, "run", fails)
    told, _ = await run(stores, compute)
    assert sum(len(it.made) for it in told) == len(others)
    [lost] = [it for it in told if it.object_id == OBJECT_ID]
    assert lost.loss == "it was given up: RuntimeError: nobody thought of this"
    assert not lost.is_settled


@pytest.mark.parametrize("moves", [True, False], ids=["moves", "stays"])
async def test_a_store_that_is_full_is_asked_once_where_nothing_is_freed(
    moves: bool, compute: Executor
) -> None:
    class Full(Sick):
        async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
            self.changes.append("put")
            raise StoreFull("its limit is reached")

    stores = await sick(compute)
    for seed in range(12):
        await put(stores, compute, content=noise(SMALL, seed))
    full: dict[str, Sick] = {name: Full() for name in FOUR}
    for name, shelf in stores.items():
        full[name].content.update(shelf.content)
    full["shelf-1"].drop()
    told, failed = await run(full, compute, check=False, moves=moves)
    assert len(told) == 13
    assert all(len(it.missing) == 1 and not it.is_settled for it in told)
    assert failed == set()
    puts = [len(shelf.changes) for shelf in full.values()]
    assert all(count == 13 if moves else count <= AT_ONCE for count in puts), puts
