"""Fragments and stores that say what is not so: nothing wrong is ever shown, and the truth is."""

import hashlib
import io
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from shelves import SMALL, Shelf, noise, restore, shelves, store, store_lie

from citychain.compute import Executor
from citychain.crypto import erasure
from citychain.errors import NotRestorable, StoreUnavailable
from citychain.fragments import layout
from citychain.fragments.checking import State, check_object
from citychain.fragments.layout import Layout, Shape
from citychain.fragments.manifest import Manifest, merkle_root, tail
from citychain.fragments.restoring import restore_object
from citychain.fragments.sources import FAILURES_MAX, find_sources
from citychain.fragments.writing import survey_object, write_fragments
from citychain.ports import FragmentKey

CONTENT = noise(5 * SMALL + 77)
OBJECT_ID = hashlib.sha256(CONTENT).digest()
LIE = noise(len(CONTENT), seed=2)
SHAPE = Shape(2, 2, SMALL)


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "RUN_BYTES", 4 * SMALL)


async def refused(stores: dict[str, Shelf], folder: Path, compute: Executor) -> str:
    """Why it cannot be restored; nothing is left of the attempt."""
    with pytest.raises(NotRestorable) as caught:
        await restore_object(OBJECT_ID, stores, folder / "restored", compute)
    assert [*folder.iterdir()] == []
    return caught.value.detail


async def test_a_manifest_of_other_content_is_found_out(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    lie = await store_lie(LIE, OBJECT_ID, SHAPE, stores.values(), compute)
    assert lie.manifest.root.hex()[:16] in (detail := await refused(stores, tmp_path, compute))
    assert "it is of other content" in detail


async def test_the_truth_is_found_beside_lies_that_have_more_fragments(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    for seed in range(3):
        await store_lie(noise(20_000, seed), OBJECT_ID, SHAPE, stores.values(), compute)
    truth = await store(CONTENT, SHAPE, [stores["shelf-1"], stores["shelf-3"]], compute)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.root == truth.manifest.root


async def test_groups_of_other_shapes_are_tried_one_by_one(
    tmp_path: Path, compute: Executor
) -> None:
    """The fragments of one shape are no use to another's."""
    stores = shelves(5)
    broken = await store(CONTENT, Shape(3, 2, SMALL), stores.values(), compute)
    whole = await store(CONTENT, Shape(2, 2, 2 * SMALL), stores.values(), compute)
    for shelf in stores.values():
        for key in list(shelf.content):
            if key.root == broken.manifest.root and key.index > 1:
                del shelf.content[key]
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.root == whole.manifest.root
    for shelf in stores.values():
        for key in list(shelf.content):
            if key.root == whole.manifest.root and key.index > 0:
                del shelf.content[key]
    detail = await refused(stores, tmp_path, compute)
    assert "2 good chunks of the 3" in detail
    assert "1 good chunks of the 2" in detail


async def parity_of_other_data(compute: Executor) -> tuple[Manifest, list[bytes]]:
    """Data fragments of the object, parity fragments of something else, one manifest over both."""
    truth = await survey_object(io.BytesIO(CONTENT), SHAPE, compute)
    other = await survey_object(io.BytesIO(LIE), SHAPE, compute)
    hashes = [*truth.leaf_hashes[:2], *other.leaf_hashes[2:]]
    manifest = replace(truth.manifest, roots=[merkle_root(some) for some in hashes])
    rows = [[bytearray() for _ in range(4)] for _ in range(2)]
    for content, row in zip((CONTENT, LIE), rows, strict=True):
        for begin in range(0, len(content), SHAPE.stripe):
            stripe = content[begin : begin + SHAPE.stripe]
            for whole, part in zip(row, erasure.encode(stripe, 2, 2, SMALL)[0], strict=True):
                whole += part
    chunks = [*rows[0][:2], *rows[1][2:]]
    stored = [bytes(chunks[i]) + hashes[i] + tail(manifest, i) for i in range(4)]
    return manifest, stored


async def test_parity_of_other_data_is_found_out_when_it_is_used(
    tmp_path: Path, compute: Executor
) -> None:
    manifest, stored = await parity_of_other_data(compute)
    stores = shelves(4)
    for shelf, key, fragment in zip(stores.values(), manifest.fragment_keys(), stored, strict=True):
        shelf.content[key] = fragment
    await restore(CONTENT, stores, tmp_path, compute)
    stores["shelf-0"].drop()
    assert "it is of other content" in await refused(stores, tmp_path, compute)


async def test_a_manifest_that_is_not_that_of_its_key_is_not_believed(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    other = shelves(4)
    await store(CONTENT, SHAPE, stores.values(), compute)
    await store(LIE, SHAPE, other.values(), compute)
    for shelf, lying in zip(stores.values(), other.values(), strict=True):
        key, _ = shelf.only()
        shelf.content[key] = lying.only()[1]
    assert "its manifest is not that of its key" in await refused(stores, tmp_path, compute)


async def test_an_index_that_the_shape_has_not_is_left_alone(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    await store(CONTENT, SHAPE, stores.values(), compute)
    key, fragment = stores["shelf-0"].only()
    stores["shelf-0"].content[key._replace(index=200)] = fragment
    await restore(CONTENT, stores, tmp_path, compute)
    del stores["shelf-0"].content[key]
    await restore(CONTENT, stores, tmp_path, compute)
    stores["shelf-1"].drop()
    stores["shelf-2"].drop()
    assert "1 good chunks of the 2" in await refused(stores, tmp_path, compute)


async def test_a_claim_of_any_size_costs_no_memory(tmp_path: Path, compute: Executor) -> None:
    """The largest size that a manifest can say; what is behind it is not there."""
    huge = Layout(SHAPE, layout.CHUNKS_MAX * SHAPE.stripe)
    manifest = Manifest(huge, OBJECT_ID, [bytes(32)] * 4)
    stores = shelves(4)
    for shelf, key in zip(stores.values(), manifest.fragment_keys(), strict=True):
        shelf.content[key] = tail(manifest, key.index)
    tracemalloc.start()
    try:
        assert "0 good chunks of the 2" in await refused(stores, tmp_path, compute)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


class Liar(Shelf):
    """Answers with what nobody asked for."""

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        return (await super().read(key, offset, length))[:-1]

    async def find(self, object_id: bytes) -> list[FragmentKey]:
        return [*await super().find(object_id), FragmentKey(bytes(32), bytes(32), 0)]


async def test_a_store_that_gives_too_little_is_lost(tmp_path: Path, compute: Executor) -> None:
    stores = {**shelves(2), "liar-2": Liar(), "liar-3": Liar()}
    await store(CONTENT, SHAPE, stores.values(), compute)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.faults == []
    stores["shelf-0"].drop()
    assert "store liar-2, fragment 2: it gives" in await refused(stores, tmp_path, compute)


class Fading(Shelf):
    """Gives its first answers, and then none."""

    answers = 0

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        self.answers -= 1
        self.is_down = self.answers < 0
        return await super().read(key, offset, length)


@pytest.mark.parametrize("answers", range(8))
async def test_a_store_that_goes_away_meanwhile_is_replaced(
    answers: int, tmp_path: Path, compute: Executor
) -> None:
    stores = {"fading-0": Fading(), "fading-1": Fading(), "2": Shelf(), "3": Shelf()}
    await store(CONTENT, SHAPE, stores.values(), compute)
    for name in ("fading-0", "fading-1"):
        stores[name].answers = answers  # type: ignore[attr-defined]
    await restore(CONTENT, stores, tmp_path, compute)


class Raising(Shelf):
    """Raises what no store may, from one call on."""

    raises = ""

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        if self.raises == "find":
            raise KeyError("find")
        return await super().find(object_id)

    async def size(self, key: FragmentKey) -> int | None:
        if self.raises == "size":
            raise KeyError("size")
        return await super().size(key)

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        if self.raises == "read":
            raise KeyError("read")
        return await super().read(key, offset, length)

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        if self.raises == "put":
            raise KeyError("put")
        await super().put(key, size, parts)


@pytest.mark.parametrize("call", ["find", "size", "read"])
async def test_a_store_that_raises_anything_is_one_that_lacks_its_fragment(
    call: str, tmp_path: Path, compute: Executor
) -> None:
    stores = {"raising": Raising(), **shelves(3)}
    await store(CONTENT, SHAPE, stores.values(), compute)
    stores["raising"].raises = call  # type: ignore[attr-defined]
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert (restored.faults[0].store, restored.faults[0].detail) == (
        "raising",
        f"KeyError: '{call}'",
    )


@pytest.mark.parametrize("call", ["size", "put"])
async def test_a_store_that_raises_anything_stops_no_other_from_being_written(
    call: str, compute: Executor
) -> None:
    raising = Raising()
    raising.raises = call
    source = io.BytesIO(CONTENT)
    survey = await survey_object(source, SHAPE, compute)
    places = dict(enumerate([raising, *shelves(3).values()]))
    written = await write_fragments(source, survey, places, compute)
    assert written.stored == [1, 2, 3]
    assert str(written.failed[0]) == f"KeyError: '{call}'"


class Odd(Shelf):
    """Names what cannot be."""

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        keys = list(await super().find(object_id))
        return [key._replace(index=index) for key in keys for index in (-1, -4, 255, 1 << 40)]


async def test_an_index_that_cannot_be_is_left_alone(tmp_path: Path, compute: Executor) -> None:
    stores = {"odd": Odd(), **shelves(3)}
    await store(CONTENT, SHAPE, stores.values(), compute)
    assert (await restore(CONTENT, stores, tmp_path, compute)).faults == []


class Scratched(Shelf):
    """A disk with sectors that cannot be read: bytes of its fragments, from and to."""

    sectors: Sequence[tuple[int, int]] = ()

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        if any(offset < end and begin < offset + length for begin, end in self.sectors):
            raise StoreUnavailable("Input/output error")
        return await super().read(key, offset, length)


@pytest.mark.parametrize("part", [0, 1, 2, "hashes"])
async def test_a_sector_that_cannot_be_read_loses_no_other(
    part: int | str, tmp_path: Path, compute: Executor
) -> None:
    """Of two fragments one has such a sector; only if it is of a chunk a third is needed, which
    has this chunk alone."""
    disk = Scratched()
    stores: dict[str, Shelf] = {"scratched": disk, **shelves(3)}
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    stores["shelf-0"].drop()
    hashes_at = survey.manifest.layout.hashes_at
    begin, end = hashes_at, hashes_at + 32
    if isinstance(part, int):
        begin, end = part * SMALL, min((part + 1) * SMALL, hashes_at)
    disk.sectors = [(begin, end)]
    key, content = stores["shelf-1"].only()
    only = bytes(begin) + content[begin:end] + bytes(max(0, hashes_at - end))
    stores["shelf-1"].content[key] = only[:hashes_at] + content[hashes_at:]
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert ("scratched", "Input/output error") in {(it.store, it.detail) for it in restored.faults}


async def test_a_store_that_fails_again_and_again_is_not_asked_for_ever(
    tmp_path: Path, compute: Executor
) -> None:
    """It gives manifest and hashes; of thirty chunks it is asked for a few."""
    content = noise(30 * SHAPE.stripe)
    disk = Scratched()
    stores: dict[str, Shelf] = {"scratched": disk, **shelves(3)}
    survey = await store(content, SHAPE, stores.values(), compute)
    disk.sectors = [(0, survey.manifest.layout.hashes_at)]
    tried: list[int] = []
    read = disk.read

    async def counted(key: FragmentKey, offset: int, length: int) -> bytes:
        tried.append(length)
        return await read(key, offset, length)

    disk.read = counted  # type: ignore[method-assign]
    sources, _ = await find_sources(hashlib.sha256(content).digest(), stores, compute)
    [checked] = await check_object(sources, compute)
    assert checked.state is State.DAMAGED
    assert sorted(checked.good) == [1, 2, 3]
    assert tried.count(SMALL) == FAILURES_MAX
