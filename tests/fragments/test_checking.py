"""A check sees every wrong byte, and says LOST of what cannot be restored and of nothing else."""

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelves import SMALL, Shelf, chunk_at, noise, shelves, store, store_lie
from test_objects import DAMAGES, stop
from test_objects_lies import parity_of_other_data

from citychain.compute import Executor
from citychain.errors import NotRestorable
from citychain.fragments import layout
from citychain.fragments.checking import Checked, State, check_object
from citychain.fragments.layout import Layout, Shape
from citychain.fragments.manifest import Manifest, tail
from citychain.fragments.restoring import restore_object
from citychain.fragments.sources import find_sources

CONTENT = noise(5 * SMALL + 77)
OBJECT_ID = hashlib.sha256(CONTENT).digest()
SHAPE = Shape(2, 2, SMALL)


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "RUN_BYTES", 4 * SMALL)


async def checks(stores: dict[str, Shelf], compute: Executor) -> list[Checked]:
    sources, _ = await find_sources(OBJECT_ID, stores, compute)
    return await check_object(sources, compute)


def told(checked: Checked) -> list[tuple[str, int | None, str]]:
    return [(fault.store, fault.key and fault.key.index, fault.detail) for fault in checked.faults]


@pytest.mark.parametrize("size", [0, 1, 2 * SMALL, 5 * SMALL + 77])
async def test_of_what_is_whole_nothing_is_told(size: int, compute: Executor) -> None:
    stores = shelves(4)
    content = noise(size)
    await store(content, SHAPE, stores.values(), compute)
    sources, _ = await find_sources(hashlib.sha256(content).digest(), stores, compute)
    read: list[int] = []
    [checked] = await check_object(sources, compute, read.append)
    assert checked.state is State.WHOLE
    assert (checked.good, checked.missing, checked.faults, checked.loss) == (
        {0, 1, 2, 3},
        [],
        [],
        "",
    )
    assert sum(read) == 4 * checked.manifest.layout.hashes_at  # type: ignore[union-attr]


@settings(max_examples=150)
@given(st.integers(0, 3), st.data())
async def test_every_wrong_byte_is_seen_and_placed(index: int, data: st.DataObject) -> None:
    async with Executor(2) as compute:
        with patch.object(layout, "RUN_BYTES", 4 * SMALL):
            stores = shelves(4)
            await store(CONTENT, SHAPE, stores.values(), compute)
            shelf = stores[f"shelf-{index}"]
            shelf.flip(data.draw(st.integers(0, len(shelf.only()[1]) - 1)))
            [checked] = await checks(stores, compute)
    assert checked.state is State.DAMAGED
    assert checked.good == {0, 1, 2, 3} - {index}
    assert {(store, number) for store, number, _ in told(checked)} == {(f"shelf-{index}", index)}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_each_damage_is_told_where_it_is(
    damage: Callable[[Shelf, Manifest], None], compute: Executor
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    damage(stores["shelf-1"], survey.manifest)
    [checked] = await checks(stores, compute)
    assert checked.state is State.DAMAGED
    assert checked.good == {0, 2, 3}
    is_missing = not stores["shelf-1"].content or damage is stop
    assert checked.missing == ([1] if is_missing else [])
    assert bool(checked.faults) == (not is_missing)
    assert {(fault.store, fault.key) for fault in checked.faults} <= {
        ("shelf-1", survey.manifest.fragment_keys()[1])
    }


async def test_wrong_chunks_are_numbered(compute: Executor) -> None:
    stores = shelves(4)
    content = noise(30 * SHAPE.stripe)
    survey = await store(content, SHAPE, stores.values(), compute)
    for stripe in (0, 3, 4, 5, 7, 29):
        stores["shelf-2"].flip(chunk_at(survey.manifest, stripe)[0] + 5)
    for stripe in range(1, 30, 3):
        stores["shelf-3"].flip(chunk_at(survey.manifest, stripe)[0])
    sources, _ = await find_sources(survey.manifest.object_id, stores, compute)
    [checked] = await check_object(sources, compute)
    assert told(checked) == [
        ("shelf-2", 2, "6 wrong chunks: 0, 3 to 5, 7, 29"),
        ("shelf-3", 3, "10 wrong chunks: 1, 4, 7, 10, 13, 16, 19, 22, and others"),
    ]


async def test_wrong_chunks_are_told_in_their_order_in_whatever_order_they_are_read(
    compute: Executor,
) -> None:
    stores = shelves(4)
    survey = await store(noise(30 * SHAPE.stripe), SHAPE, stores.values(), compute)
    for stripe in (0, 3, 4, 5, 7, 29):
        stores["shelf-2"].flip(chunk_at(survey.manifest, stripe)[0] + 5)
    sources, _ = await find_sources(survey.manifest.object_id, stores, compute)
    [source] = [source for source in sources if source.name == "shelf-2"]
    runs = [*survey.manifest.layout.runs()]
    random.Random(7).shuffle(runs)
    for run in runs:
        await source.chunks(survey.manifest, run)
    assert [fault.detail for fault in source.faults] == ["6 wrong chunks: 0, 3 to 5, 7, 29"]


async def test_bytes_that_do_not_belong_there_are_seen(compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    key, content = stores["shelf-0"].only()
    at = survey.manifest.layout.tail_at
    stores["shelf-0"].content[key] = content[:at] + b"more" + content[at:]
    [checked] = await checks(stores, compute)
    right = len(content)
    assert told(checked) == [("shelf-0", 0, f"it has {right + 4} bytes, and {right} are right")]


async def test_a_copy_that_is_wrong_is_told_beside_one_that_is_whole(compute: Executor) -> None:
    stores = {**shelves(4), "copy": Shelf()}
    await store(CONTENT, SHAPE, list(stores.values())[:4], compute)
    stores["copy"].content.update(stores["shelf-0"].content)
    [checked] = await checks(stores, compute)
    assert checked.state is State.WHOLE
    stores["copy"].flip(0)
    [checked] = await checks(stores, compute)
    assert (checked.state, checked.good) == (State.DAMAGED, {0, 1, 2, 3})
    assert told(checked) == [("copy", 0, "1 wrong chunk: 0")]


async def test_too_few_good_chunks_are_told_with_their_place(compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    for index in (0, 1, 3):
        stores[f"shelf-{index}"].flip(chunk_at(survey.manifest, 2)[0])
    [checked] = await checks(stores, compute)
    assert (checked.state, checked.good) == (State.LOST, {2})
    assert checked.loss == f"1 of 2 chunks at byte {2 * SHAPE.stripe}"
    assert len(checked.faults) == 3


async def test_another_content_is_found_out(compute: Executor) -> None:
    stores = shelves(4)
    await store_lie(noise(len(CONTENT), seed=2), OBJECT_ID, SHAPE, stores.values(), compute)
    [checked] = await checks(stores, compute)
    assert (checked.state, checked.good) == (State.LOST, set())
    assert checked.loss == "it is of other content"
    assert {detail for *_, detail in told(checked)} == {
        "it holds together with others, and is of another object"
    }


async def test_parity_of_other_data_is_found_out_before_it_is_used(compute: Executor) -> None:
    manifest, stored = await parity_of_other_data(compute)
    stores = shelves(4)
    for shelf, key, fragment in zip(stores.values(), manifest.fragment_keys(), stored, strict=True):
        shelf.content[key] = fragment
    [checked] = await checks(stores, compute)
    assert (checked.state, checked.good) == (State.DAMAGED, {0, 1})
    assert {index for _, index, _ in told(checked)} == {2, 3}
    assert {detail for *_, detail in told(checked)} == {
        "it holds together, and is not what the code makes of the object"
    }


async def test_an_index_that_the_shape_has_not_is_told(compute: Executor) -> None:
    stores = shelves(4)
    await store(CONTENT, SHAPE, stores.values(), compute)
    key, fragment = stores["shelf-0"].only()
    stores["shelf-0"].content[key._replace(index=200)] = fragment
    [checked] = await checks(stores, compute)
    assert (checked.state, checked.good) == (State.DAMAGED, {0, 1, 2, 3})
    assert told(checked) == [("shelf-0", 200, "its manifest is not that of its key")]


async def test_fragments_without_a_manifest_are_lost(compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    for shelf in stores.values():
        shelf.flip(-1)
    [checked] = await checks(stores, compute)
    assert (checked.state, checked.manifest) == (State.LOST, None)
    assert (checked.root, len(checked.faults)) == (survey.manifest.root, 4)


async def test_each_shape_is_checked_by_itself(compute: Executor) -> None:
    stores = shelves(5)
    await store(CONTENT, SHAPE, stores.values(), compute)
    other = await store(CONTENT, Shape(3, 2, SMALL), stores.values(), compute)
    for key in other.manifest.fragment_keys()[2:]:
        for shelf in stores.values():
            shelf.content.pop(key, None)
    states = {checked.root: checked.state for checked in await checks(stores, compute)}
    assert states.pop(other.manifest.root) is State.LOST
    assert [*states.values()] == [State.WHOLE]


async def test_a_claim_of_any_size_is_soon_over(compute: Executor) -> None:
    huge = Layout(SHAPE, layout.CHUNKS_MAX * SHAPE.stripe)
    manifest = Manifest(huge, OBJECT_ID, [bytes(32)] * 4)
    stores = shelves(4)
    for shelf, key in zip(stores.values(), manifest.fragment_keys(), strict=True):
        shelf.content[key] = tail(manifest, key.index)
    [checked] = await checks(stores, compute)
    assert (checked.state, checked.loss) == (State.LOST, "0 of 2 chunks at byte 0")


@settings(max_examples=80)
@given(
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 8 * SMALL),
    st.floats(0, 0.6),
    st.randoms(),
)
async def test_lost_is_what_cannot_be_restored(
    data: int, parity: int, size: int, damage: float, chance: random.Random
) -> None:
    """Two judges: the check, and a restore."""
    shape = Shape(data, parity, SMALL)
    content = noise(size)
    with TemporaryDirectory() as folder, patch.object(layout, "RUN_BYTES", 2 * 7 * SMALL):
        async with Executor(2) as compute:
            stores = shelves(shape.fragments)
            survey = await store(content, shape, stores.values(), compute)
            harmed = set()
            for index, shelf in enumerate(stores.values()):
                if chance.random() < damage / 4:
                    shelf.drop()
                    harmed.add(index)
                    continue
                for stripe in range(survey.manifest.layout.stripes):
                    if chance.random() < damage:
                        begin, length = chunk_at(survey.manifest, stripe)
                        shelf.flip(begin + chance.randrange(length))
                        harmed.add(index)
            object_id = survey.manifest.object_id
            sources, _ = await find_sources(object_id, stores, compute)
            if not sources:
                return
            [checked] = await check_object(sources, compute)
            assert checked.good == set(range(shape.fragments)) - harmed
            target = Path(folder) / "restored"
            try:
                await restore_object(object_id, stores, target, compute)
            except NotRestorable:
                assert checked.state is State.LOST
            else:
                assert checked.state is (State.DAMAGED if harmed else State.WHOLE)
