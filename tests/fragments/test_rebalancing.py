"""Whatever was lost, spoilt or misplaced is made whole and comes where it belongs; nothing is lost
on the way, wherever it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import combinations, permutations
from pathlib import Path

import pytest
from balance import (
    CONTENT,
    FOUR,
    OBJECT_ID,
    SHAPE,
    TRUTH,
    Unlosing,
    are_whole,
    can_be_restored,
    damaged,
    learn_the_truth,
    places,
    put,
    rebalance,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from shelves import SMALL, Shelf, chunk_at, noise, restore, shelves, store_lie
from test_objects_lies import parity_of_other_data

from citychain.compute import Executor
from citychain.errors import FragmentMissing, NotOwned, StoreUnavailable
from citychain.fragments import layout, rebalancing
from citychain.fragments.checking import State, check_object
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import fragment_bytes
from citychain.fragments.placement import placed
from citychain.fragments.sources import find_sources
from citychain.ports import FragmentKey


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture(autouse=True)
async def _short_runs(monkeypatch: pytest.MonkeyPatch, compute: Executor) -> None:
    monkeypatch.setattr(layout, "RUN_BYTES", 4 * SMALL)
    await learn_the_truth(compute)


def spoil(shelf: Shelf) -> None:
    """Another byte in each chunk, and in the hashes."""
    for key, content in shelf.content.items():
        spoilt = bytearray(content)
        for at in range(100, len(spoilt), SMALL // 2):
            spoilt[at] ^= 1
        shelf.content[key] = bytes(spoilt)


def nick(shelf: Shelf) -> None:
    shelf.flip(40)


# --- what was lost


@pytest.mark.parametrize("damage", [Shelf.drop, spoil, nick], ids=["empty", "spoilt", "nicked"])
@pytest.mark.parametrize("pair", list(combinations(FOUR, 2)))
async def test_any_two_of_four_are_restored_and_made_whole(
    pair: tuple[str, str],
    damage: object,
    tmp_path: Path,
    compute: Executor,
) -> None:
    stores = shelves(4)
    await put(stores, compute)
    for name in pair:
        damage(stores[name])  # type: ignore[operator]
    await restore(CONTENT, stores, tmp_path, compute)
    before = {name: dict(stores[name].content) for name in FOUR if name not in pair}
    [outcome] = await rebalance(stores, compute, check=damage is not Shelf.drop)
    assert sorted(outcome.made.values()) == sorted(pair)
    assert (outcome.moved, outcome.removed, outcome.is_settled) == ({}, [], True)
    await are_whole(stores, compute)
    assert {name: stores[name].content for name in before} == before
    assert await rebalance(stores, compute, check=True) == []


@pytest.mark.parametrize("pair", list(combinations(FOUR, 2)))
async def test_two_of_four_that_are_gone_for_good_are_made_up_by_the_others(
    pair: tuple[str, str], tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    await put(stores, compute)
    left = {name: shelf for name, shelf in stores.items() if name not in pair}
    [outcome] = await rebalance(left, compute)
    assert sorted(outcome.made.values()) == sorted(left)
    await are_whole(left, compute)
    await restore(CONTENT, left, tmp_path, compute)
    # With two new ones half of it moves again.
    more = {**left, "new-0": Shelf(), "new-1": Shelf()}
    [outcome] = await rebalance(more, compute)
    assert sorted(move.target for move in outcome.moved.values()) == ["new-0", "new-1"]
    await are_whole(more, compute)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5), st.data())
async def test_any_m_of_k_and_m_are_made_whole(k: int, m: int, data: st.DataObject) -> None:
    async with Executor(2) as compute:
        stores = shelves(k + m)
        content = noise(data.draw(st.sampled_from([0, 1, k * SMALL, 3 * k * SMALL + 5])), k)
        manifest = await put(stores, compute, shape=Shape(k, m, SMALL), content=content)
        damages = st.sampled_from([Shelf.drop, nick, spoil])
        names = data.draw(st.sets(st.sampled_from(sorted(stores)), max_size=m))
        for name in names:
            data.draw(damages)(stores[name])
        outcomes = await rebalance(stores, compute, check=True)
        assert {name for it in outcomes for name in it.made.values()} == names
        sources, _ = await find_sources(manifest.object_id, stores, compute)
        [checked] = await check_object(sources, compute)
        assert checked.state is State.WHOLE
        assert all(len(shelf.content) == 1 for shelf in stores.values())


async def test_what_is_lost_is_told_and_what_is_left_of_it_stays(compute: Executor) -> None:
    stores = shelves(4)
    await put(stores, compute)
    for name in FOUR[:3]:
        stores[name].drop()
    [outcome] = await rebalance(stores, compute)
    assert outcome.loss == "1 good chunks of the 2 that the stripe at byte 0 needs"
    assert len(outcome.missing) == 3
    assert not outcome.is_settled
    assert [len(stores[name].content) for name in FOUR] == [0, 0, 0, 1]
    [foretold] = await rebalance(stores, compute, dry_run=True)
    assert (foretold.loss, len(foretold.missing)) == ("1 of 2 fragments", 3)


async def test_only_what_is_lost_is_written_and_k_are_read(compute: Executor) -> None:
    stores = shelves(4)
    manifest = await put(stores, compute)
    for shelf in stores.values():
        shelf.puts.clear()
        shelf.reads.clear()
    stores["shelf-2"].drop()
    await rebalance(stores, compute)
    assert [len(shelf.puts) for shelf in stores.values()] == [0, 0, 1, 0]
    size, shape = fragment_bytes(manifest.layout), manifest.layout.shape
    end = size - manifest.layout.tail_at
    read = sum(length for shelf in stores.values() for *_, length in shelf.reads)
    # Besides the two fragments, the end of one, which may be read with some of what is before it.
    assert shape.data * (size - end) <= read <= shape.data * (size - end) + size


async def test_wrong_chunks_in_every_fragment_are_made_whole_of_the_others(
    compute: Executor,
) -> None:
    """None is whole, and the good chunks of each are needed: no wrong one goes before it is made
    again in another store."""
    stores = {name: Unlosing() for name in FOUR}
    manifest = await put(stores, compute)
    Unlosing.all = list(stores.values())
    for stripe, shelf in zip((0, 1, 2, 1), stores.values(), strict=True):
        shelf.flip(chunk_at(manifest, stripe)[0])
    [outcome] = await rebalance(stores, compute, check=True)
    assert outcome.is_settled
    assert {index: stores[name].only()[0].index for index, name in outcome.made.items()} == {
        index: index for index in range(4)
    }
    await are_whole(stores, compute)


async def test_with_one_store_alone_a_wrong_one_that_is_needed_stays(compute: Executor) -> None:
    only = {"shelf-0": Shelf()}
    manifest = await put(only, compute)
    content = only["shelf-0"].content
    for key in list(content)[:3]:
        at, _ = chunk_at(manifest, key.index % 3)
        content[key] = content[key][:at] + b"wrong" + content[key][at + 5 :]
    before = dict(content)
    [outcome] = await rebalance(only, compute, check=True)
    assert (outcome.made, len(outcome.missing)) == ({}, 3)
    assert content == before


# --- what is to move


async def test_a_new_store_gets_what_is_its_own(compute: Executor, tmp_path: Path) -> None:
    stores = {**shelves(4), "new": Shelf()}
    where = places(FOUR)
    moved = 0
    for seed in range(12):
        await put(stores, compute, where, content=noise(SMALL, seed))
    outcomes = await rebalance(stores, compute)
    for outcome in outcomes:
        [move] = outcome.moved.values()
        assert move.target == "new"
        assert (outcome.made, outcome.removed) == ({}, [])
        moved += 1
    assert moved == len(stores["new"].content) > 0
    assert sum(len(shelf.content) for shelf in stores.values()) == 4 * 12
    assert stores["new"].reads == [], "what was written whole is not read again"
    assert await rebalance(stores, compute) == []
    assert sum(len(shelf.puts) for shelf in stores.values()) == 4 * 12 + moved


async def test_a_store_without_weight_is_emptied(compute: Executor) -> None:
    stores = shelves(5)
    await put(stores, compute, places(FOUR))
    where = places(stores, shelf_1=0)
    [outcome] = await rebalance(stores, compute, where)
    assert [tuple(move) for move in outcome.moved.values()] == [("shelf-1", "shelf-4")]
    assert stores["shelf-1"].content == {}
    await are_whole(stores, compute, where)


async def test_a_copy_too_many_goes_and_a_wrong_one_is_not_taken_for_it(compute: Executor) -> None:
    stores = shelves(5)
    manifest = await put(stores, compute, places(FOUR))
    where = places(stores, shelf_4=0)
    stores["shelf-4"].content.update(stores["shelf-0"].content)
    key, _ = stores["shelf-0"].only()
    stores["shelf-0"].flip(chunk_at(manifest, 1)[0])
    [outcome] = await rebalance(stores, compute, where)
    assert outcome.is_settled
    await are_whole(stores, compute, where)
    stores["shelf-4"].content[key] = stores["shelf-0"].content[key]
    [outcome] = await rebalance(stores, compute, where)
    assert outcome.removed == [(key.index, "shelf-4")]
    await are_whole(stores, compute, where)


async def test_a_wrong_chunk_does_not_move(compute: Executor) -> None:
    stores = shelves(5)
    manifest = await put(stores, compute, places(FOUR))
    stores["shelf-1"].flip(chunk_at(manifest, 2)[0])
    where = places(stores, shelf_1=0)
    await rebalance(stores, compute, where)
    await are_whole(stores, compute, where)


async def test_what_a_full_store_does_not_take_is_told_and_is_elsewhere(compute: Executor) -> None:
    stores = {**shelves(5), "full": Shelf(limit=SMALL)}
    where = places(FOUR)
    await put(stores, compute, where)
    stores["shelf-2"].drop()
    where = places([*FOUR, "full"], shelf_2=0, full=1_000.0)
    [foretold] = await rebalance(stores, compute, where, dry_run=True)
    [outcome] = await rebalance(stores, compute, where)
    assert {it.store for it in outcome.troubles} == {"full"}
    assert not outcome.missing
    for told in (foretold, outcome):
        assert {it.store for it in told.troubles} == {"full"}
    assert (foretold.made, foretold.moved) == (outcome.made, outcome.moved)
    assert (foretold.removed, foretold.missing) == (outcome.removed, outcome.missing)
    await are_whole(stores, compute, [place for place in where if place.name != "full"])
    stores["full"] = Shelf()
    await rebalance(stores, compute, where)
    await are_whole(stores, compute, where)


async def test_what_a_store_still_takes_is_foretold_over_all_objects(compute: Executor) -> None:
    """It has room for two of them, and all six would like to be there."""
    stores: dict[str, Shelf] = shelves(4)
    for seed in range(6):
        await put(stores, compute, places(FOUR), content=noise(SMALL, seed))
    [size] = {len(content) for shelf in stores.values() for content in shelf.content.values()}
    stores["loft"] = Shelf(limit=2 * size + size // 2)
    where = places(stores, loft=1_000.0)
    foretold = await rebalance(stores, compute, where, dry_run=True)
    done = await rebalance(stores, compute, where)
    for outcomes in (foretold, done):
        moved = [move.target for it in outcomes for move in it.moved.values()]
        assert moved == ["loft", "loft"]
        assert [it.store for outcome in outcomes for it in outcome.troubles] == ["loft"] * 4
        assert not any(outcome.removed or outcome.missing for outcome in outcomes)


async def test_a_store_that_stops_to_take_gets_nothing_more(compute: Executor) -> None:
    class Dying(Shelf):
        async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
            self.puts.append(key.index)
            raise StoreUnavailable("its disk is read-only")

    stores: dict[str, Shelf] = {**shelves(4), "dying": Dying()}
    for seed in range(30):
        await put(stores, compute, places(FOUR), content=noise(SMALL, seed))
    outcomes = await rebalance(stores, compute)
    assert {it.store for outcome in outcomes for it in outcome.troubles} == {"dying"}
    assert len(stores["dying"].puts) <= rebalancing.AT_ONCE
    assert all(len(shelf.content) == 30 for name, shelf in stores.items() if name != "dying")


async def test_a_silent_store_keeps_what_it_may_have(compute: Executor) -> None:
    stores = shelves(5)
    await put(stores, compute, places(FOUR))
    stores["shelf-1"].is_down = True
    where = places(FOUR)
    assert await rebalance(stores, compute, where) == []
    # Of the others, what is lost is made.
    stores["shelf-3"].drop()
    [outcome] = await rebalance(stores, compute, where)
    assert len(outcome.made) == 1
    assert set(outcome.made.values()) <= {"shelf-3"}
    stores["shelf-1"].is_down = False
    await rebalance(stores, compute, where)
    await are_whole(stores, compute, where)


async def test_a_store_that_falls_silent_while_it_is_checked_keeps_all(compute: Executor) -> None:
    class Fading(Shelf):
        async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
            self.is_down = self.is_down or offset > 0
            return await super().read(key, offset, length)

    stores: dict[str, Shelf] = {name: Fading() if name == "shelf-1" else Shelf() for name in FOUR}
    await put(stores, compute)
    before = dict(stores["shelf-1"].content)
    [outcome] = await rebalance(stores, compute, check=True)
    assert (outcome.made, outcome.moved, outcome.removed) == ({}, {}, [])
    assert [it.store for it in outcome.troubles] == ["shelf-1"]
    assert stores["shelf-1"].content == before


async def test_what_is_not_proven_is_made_elsewhere(compute: Executor, tmp_path: Path) -> None:
    stores = shelves(5)
    await put(stores, compute, places(FOUR))
    key, _ = stores["shelf-2"].only()
    others = {name: dict(stores[name].content) for name in FOUR}
    [outcome] = await rebalance(stores, compute, places(stores), unproven={("shelf-2", key)})
    assert outcome.made == {key.index: "shelf-4"}
    assert {name: stores[name].content for name in FOUR} == others
    for name in FOUR:
        if name != "shelf-2":
            stores[name].is_down = True
    stores["shelf-2"].drop()


async def test_what_is_not_proven_of_a_store_that_is_away_is_made_elsewhere(
    compute: Executor, tmp_path: Path
) -> None:
    stores = shelves(5)
    await put(stores, compute, places(FOUR))
    key, _ = stores["shelf-2"].only()
    other, _ = stores["shelf-1"].only()
    where = places(stores)
    for name in ("shelf-1", "shelf-2"):
        stores[name].is_down = True
    unproven = {("shelf-2", key), ("shelf-2", other)}
    [outcome] = await rebalance(stores, compute, where, unproven=unproven)
    assert outcome.made == {key.index: "shelf-4"}, "the other one may be where it belongs"
    assert await rebalance(stores, compute, where, unproven=unproven) == []


@pytest.mark.parametrize(("away", "wrong"), list(permutations(FOUR, 2)))
async def test_what_was_wrong_is_made_anew_while_another_store_is_away(
    compute: Executor, tmp_path: Path, away: str, wrong: str
) -> None:
    stores = shelves(4)
    await put(stores, compute)
    before = {name: dict(shelf.content) for name, shelf in stores.items()}
    stores[away].is_down = True
    stores[wrong].flip(9)
    [outcome] = await rebalance(stores, compute, check=True)
    assert list(outcome.made.values()) == [wrong]
    assert {name: shelf.content for name, shelf in stores.items()} == before


# --- whose it is


class Shared(Shelf):
    """A store where others have put fragments too: these are listed and read, and not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: dict[FragmentKey, bytes] = {}

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        held = self.content.get(key, self.foreign.get(key, b""))
        if offset + length > len(held):
            raise FragmentMissing("it is not there")
        return held[offset : offset + length]

    async def size(self, key: FragmentKey) -> int | None:
        held = self.content.get(key, self.foreign.get(key))
        return None if held is None else len(held)

    async def find(self, object_id: bytes) -> list[FragmentKey]:
        return sorted(key for key in self.content | self.foreign if key.object_id == object_id)

    async def keys(self, after: FragmentKey | None, limit: int) -> list[FragmentKey]:
        known = sorted(self.content | self.foreign)
        return [key for key in known if after is None or key > after][:limit]

    async def delete(self, key: FragmentKey) -> bool:
        if key not in self.content and key in self.foreign:
            raise NotOwned("another owner stored it")
        return await super().delete(key)


async def test_ours_does_not_go_for_a_copy_that_is_not_ours(compute: Executor) -> None:
    shared = Shared()
    stores: dict[str, Shelf] = {**shelves(4), "shared": shared}
    where = places(FOUR)
    await put(stores, compute, where)
    key, held = stores["shelf-2"].only()
    shared.foreign[key] = held
    where = places(stores, shelf_2=0)
    [outcome] = await rebalance(stores, compute, where)
    assert (outcome.is_settled, outcome.removed) == (True, [(key.index, "shelf-2")])
    assert shared.content == {key: held}
    assert stores["shelf-2"].content == {}
    assert await rebalance(stores, compute, where) == []


@pytest.mark.parametrize("is_wrong", [False, True])
async def test_nothing_goes_for_a_copy_that_its_store_cannot_make_durable(
    is_wrong: bool, compute: Executor
) -> None:
    class ReadOnly(Shelf):
        is_full = False

        async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
            if self.is_full:
                raise StoreUnavailable("its disk is read-only")
            await super().put(key, size, parts)

    stores: dict[str, Shelf] = {name: ReadOnly() for name in FOUR}
    await put(stores, compute)
    stores["spare"] = Shelf()
    key, held = stores["shelf-1"].only()
    stores["spare"].content[key] = damaged(held, "nick", 1) if is_wrong else held
    ReadOnly.is_full = True
    [outcome] = await rebalance(stores, compute, places(stores, spare=0), check=is_wrong)
    assert {it.store for it in outcome.troubles} == {"shelf-1"}
    assert len(stores["spare"].content) == 1
    ReadOnly.is_full = False
    await rebalance(stores, compute, places(stores, spare=0), check=is_wrong)
    assert len(stores["spare"].content) == 0


@pytest.mark.parametrize("check", [False, True])
async def test_what_is_not_ours_is_no_trouble(check: bool, compute: Executor) -> None:
    shared = Shared()
    stores: dict[str, Shelf] = {**shelves(4), "shared": shared}
    where = places(stores, shared=0)
    await put(stores, compute, where)
    key, held = stores["shelf-2"].only()
    shared.foreign[key] = damaged(held, "nick" if check else "whole", 1)
    assert await rebalance(stores, compute, where, check=check) == []
    # Where it is wrong and has the seat of ours, ours is put beside it.
    stores["shelf-2"].drop()
    shared.foreign[key] = damaged(held, "nick", 1)
    where = places(stores, shelf_2=0)
    await rebalance(stores, compute, where, check=True)
    assert shared.content == {key: held}
    assert await rebalance(stores, compute, where, check=True) == []


# --- who lies


async def test_no_more_is_made_of_what_only_claims_to_be_the_object(compute: Executor) -> None:
    stores = shelves(6)
    truth = await put(stores, compute)
    lie = noise(7 * SMALL, 9)
    await store_lie(lie, OBJECT_ID, Shape(1, 3, SMALL), [stores["shelf-5"]] * 4, compute)
    stores["shelf-1"].drop()
    before = {
        key: name for name, it in stores.items() for key in it.content if key.root != truth.root
    }
    outcomes = await rebalance(stores, compute)
    [lying] = [it for it in outcomes if it.root != truth.root]
    assert (lying.loss, lying.is_changed) == ("it is of other content", False)
    after = {
        key: name for name, it in stores.items() for key in it.content if key.root != truth.root
    }
    assert after == before
    keys = [key for it in stores.values() for key in it.content if key.root == truth.root]
    assert sorted(key.index for key in keys) == [0, 1, 2, 3]


async def test_a_lie_of_two_stores_is_found_before_its_end_is_written(compute: Executor) -> None:
    stores = shelves(4)
    lie = noise(7 * SMALL, 9)
    some = [stores["shelf-0"], stores["shelf-1"]]
    await store_lie(lie, OBJECT_ID, SHAPE, some + some, compute)
    for shelf in some:
        for key in [key for key in shelf.content if key.index > 1]:
            del shelf.content[key]
    [outcome] = await rebalance(stores, compute)
    assert outcome.loss == "what its chunks make is of another object"
    assert outcome.made == {}
    assert {key.index for it in stores.values() for key in it.content} == {0, 1}


async def test_what_the_manifest_is_wrong_about_is_not_made(compute: Executor) -> None:
    stores = shelves(4)
    manifest, stored = await parity_of_other_data(compute)
    for shelf, key, held in zip(stores.values(), manifest.fragment_keys(), stored, strict=True):
        shelf.content[key] = held
    object_id = manifest.object_id
    order = placed(object_id, places(stores), 4)
    stores = {order[int(name[-1])]: shelf for name, shelf in stores.items()}
    stores[order[1]].drop()
    stores[order[3]].drop()
    [outcome] = await rebalance(stores, compute)
    # Of the first and the last one the chunks of the other two are made, as the code has it.
    assert outcome.loss == "what its chunks make is of another object"
    stores[order[1]].content[manifest.fragment_keys()[1]] = stored[1]
    [outcome] = await rebalance(stores, compute)
    assert [it.detail for it in outcome.troubles] == ["the manifest is wrong about fragment 3"]
    assert (outcome.made, outcome.missing) == ({}, [3])
    assert not stores[order[3]].content


async def test_two_wrong_copies_are_both_found_when_one_is_to_go(compute: Executor) -> None:
    stores = shelves(5)
    manifest = await put(stores, compute, places(FOUR))
    where = places(stores, shelf_4=0)
    stores["shelf-4"].content.update(stores["shelf-0"].content)
    stores["shelf-0"].flip(chunk_at(manifest, 1)[0])
    stores["shelf-4"].flip(chunk_at(manifest, 2)[0])
    [outcome] = await rebalance(stores, compute, where)
    assert outcome.is_settled
    await are_whole(stores, compute, where)


async def test_a_wrong_copy_that_cannot_be_removed_costs_no_good_one(compute: Executor) -> None:
    class Keeping(Shelf):
        async def delete(self, key: FragmentKey) -> bool:
            raise StoreUnavailable("it belongs to somebody else")

    stores: dict[str, Shelf] = {name: Keeping() if name == "shelf-0" else Shelf() for name in FOUR}
    stores["spare"] = Shelf()
    manifest = await put(stores, compute, places(FOUR))
    good = dict(stores["shelf-0"].content)
    stores["spare"].content.update(good)
    stores["shelf-0"].flip(chunk_at(manifest, 1)[0])
    for check in (True, False):
        [outcome] = await rebalance(stores, compute, places(stores, spare=0), check=check)
        assert "it belongs to somebody else" in {it.detail for it in outcome.troubles}
        assert any(shelf.content.items() >= good.items() for shelf in stores.values())


async def test_no_wrong_copy_goes_for_another_wrong_one(compute: Executor) -> None:
    stores = {name: Unlosing() for name in (*FOUR, "spare")}
    manifest = await put(stores, compute, places(FOUR))
    silent = [name for name, it in stores.items() if it.content and it.only()[0].index > 1]
    first = next(it for it in stores.values() if it.content and it.only()[0].index == 0)
    stores["spare"].content.update(first.content)
    first.flip(chunk_at(manifest, 1)[0])
    stores["spare"].flip(chunk_at(manifest, 2)[0])
    for name in silent:
        stores[name].is_down = True
    Unlosing.all = [shelf for shelf in stores.values() if not shelf.is_down]
    assert can_be_restored(Unlosing.all)
    await rebalance(stores, compute, places(stores, spare=0))
    assert can_be_restored(Unlosing.all)
    assert TRUTH[0] in [held for shelf in Unlosing.all for held in shelf.content.values()]
