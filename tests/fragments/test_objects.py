"""What is stored is restored, whatever may be lost of it, and nothing else ever."""

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelves import SMALL, Shelf, chunk_at, noise, restore, shelves, store

from citychain.compute import Executor
from citychain.errors import NotFound, NotRestorable
from citychain.fragments import layout
from citychain.fragments.layout import HASH_BYTES, Shape
from citychain.fragments.manifest import Manifest
from citychain.fragments.restoring import restore_object

STRIPE = 2 * SMALL
CONTENT = noise(3 * STRIPE + 1_234)
TWO_AND_TWO = Shape(2, 2, SMALL)


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stripes of 2 + 2 are a run, so that small objects have several."""
    monkeypatch.setattr(layout, "RUN_BYTES", 8 * SMALL)


def spoil_chunks(shelf: Shelf, manifest: Manifest) -> None:
    for stripe in range(manifest.layout.stripes):
        shelf.flip(chunk_at(manifest, stripe)[0] + stripe)


def blank(shelf: Shelf, _: Manifest) -> None:
    key, content = shelf.only()
    shelf.content[key] = bytes(len(content))


def cut(shelf: Shelf, _: Manifest) -> None:
    key, content = shelf.only()
    shelf.content[key] = content[: len(content) // 2]


def empty(shelf: Shelf, _: Manifest) -> None:
    key, _content = shelf.only()
    shelf.content[key] = b""


def forget(shelf: Shelf, _: Manifest) -> None:
    shelf.drop()


def stop(shelf: Shelf, _: Manifest) -> None:
    shelf.is_down = True


def spoil_hashes_and_chunks(shelf: Shelf, manifest: Manifest) -> None:
    shelf.flip(0)
    shelf.flip(manifest.layout.hashes_at)


def reverse(shelf: Shelf, manifest: Manifest) -> None:
    """The right chunks in the wrong places."""
    key, content = shelf.only()
    chunks = [content[at : at + SMALL] for at in range(0, manifest.layout.hashes_at, SMALL)]
    shelf.content[key] = b"".join(reversed(chunks)) + content[manifest.layout.hashes_at :]


DAMAGES = [spoil_chunks, blank, cut, empty, forget, stop, spoil_hashes_and_chunks, reverse]


@pytest.mark.parametrize("lost", [*combinations(range(4), 2)])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_any_two_of_four_may_be_lost(
    lost: tuple[int, int],
    damage: Callable[[Shelf, Manifest], None],
    tmp_path: Path,
    compute: Executor,
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    for index in lost:
        damage(stores[f"shelf-{index}"], survey.manifest)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.root == survey.manifest.root
    assert restored.resumed == 0
    # Whoever is not needed is not read, so not every fault is noticed; no other is.
    assert {fault.store for fault in restored.faults} <= {f"shelf-{index}" for index in lost}


@pytest.mark.parametrize("lost", [*combinations(range(4), 3)])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_of_three_lost_nothing_is_shown(
    lost: tuple[int, int, int],
    damage: Callable[[Shelf, Manifest], None],
    tmp_path: Path,
    compute: Executor,
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    for index in lost:
        damage(stores[f"shelf-{index}"], survey.manifest)
    target = tmp_path / "restored"
    with pytest.raises(NotRestorable, match=r"1 good chunks of the 2 .* at byte 0|0 good"):
        await restore_object(survey.manifest.object_id, stores, target, compute)
    assert [*tmp_path.iterdir()] == []


@st.composite
def cases(draw: st.DrawFn) -> tuple[Shape, int, int, random.Random]:
    """A shape, a size about a border of stripes, stripes a run, and chance."""
    data = draw(st.integers(1, 6))
    shape = Shape(data, draw(st.integers(0, 5)), SMALL)
    border = draw(st.integers(0, 5)) * shape.stripe
    off = draw(st.integers(-data - 2, data + 2) | st.integers(0, shape.stripe - 1))
    return shape, max(0, border + off), draw(st.integers(1, 4)), draw(st.randoms())


@settings(max_examples=60)
@given(cases())
async def test_any_k_good_chunks_of_each_stripe_are_enough(
    case: tuple[Shape, int, int, random.Random],
) -> None:
    """In each stripe other chunks are wrong, so that no fragment need be whole."""
    shape, size, stripes, chance = case
    content = noise(size)
    with (
        TemporaryDirectory() as folder,
        patch.object(layout, "RUN_BYTES", stripes * shape.fragments * SMALL),
    ):
        async with Executor(4) as compute:
            stores = shelves(shape.fragments)
            survey = await store(content, shape, stores.values(), compute)
            spoilt = [
                chance.sample(range(shape.fragments), shape.parity)
                for _ in range(survey.manifest.layout.stripes)
            ]
            for stripe, indexes in enumerate(spoilt):
                begin, length = chunk_at(survey.manifest, stripe)
                for index in indexes:
                    stores[f"shelf-{index}"].flip(begin + chance.randrange(length))
            restored = await restore(content, stores, Path(folder), compute)
            wrong = {f"shelf-{index}" for indexes in spoilt for index in indexes}
            assert {fault.store for fault in restored.faults} <= wrong
            if not size:
                return
            # One more in any stripe is one too many.
            stripe = chance.randrange(len(spoilt))
            whole = next(i for i in range(shape.fragments) if i not in spoilt[stripe])
            stores[f"shelf-{whole}"].flip(chunk_at(survey.manifest, stripe)[0])
            target = Path(folder) / "restored"
            at = stripe * shape.stripe
            with pytest.raises(
                NotRestorable,
                match=rf"{shape.data - 1} good chunks of the {shape.data} .* at byte {at} needs",
            ):
                await restore_object(survey.manifest.object_id, stores, target, compute)
            assert not target.exists()


@settings(max_examples=40)
@given(cases(), st.integers(2, 4))
async def test_fragments_may_lie_anywhere_and_several_times(
    case: tuple[Shape, int, int, random.Random], copies: int
) -> None:
    """All fragments in one store; or several of each, of which other chunks are wrong."""
    shape, size, stripes, chance = case
    content = noise(size)
    with (
        TemporaryDirectory() as folder,
        patch.object(layout, "RUN_BYTES", stripes * shape.fragments * SMALL),
    ):
        async with Executor(4) as compute:
            one = Shelf()
            survey = await store(content, shape, [one] * shape.fragments, compute)
            await restore(content, {"one": one}, Path(folder), compute)
            several = {f"copy-{copy}": Shelf() for copy in range(copies)}
            for shelf in several.values():
                await store(content, shape, [shelf] * shape.data, compute)
            for stripe in range(survey.manifest.layout.stripes):
                begin, _ = chunk_at(survey.manifest, stripe)
                for index in range(shape.data):
                    good = chance.randrange(copies)
                    for copy, shelf in enumerate(several.values()):
                        if copy != good:
                            key = survey.manifest.fragment_keys()[index]
                            held = bytearray(shelf.content[key])
                            held[begin] ^= 1
                            shelf.content[key] = bytes(held)
            await restore(content, several, Path(folder), compute)


def runs_read(shelf: Shelf, manifest: Manifest) -> list[int]:
    """Which runs were read from a store, in order."""
    runs = {(run.at, run.stripes * run.chunk): i for i, run in enumerate(manifest.layout.runs())}
    return [runs[offset, length] for _, offset, length in shelf.reads if (offset, length) in runs]


async def test_only_what_is_needed_is_read(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    await restore(CONTENT, stores, tmp_path, compute)
    for name in ("shelf-0", "shelf-1"):
        assert runs_read(stores[name], survey.manifest) == [0, 1, 2]
    for name in ("shelf-2", "shelf-3"):
        assert stores[name].reads == []


async def test_whoever_gave_a_wrong_chunk_is_asked_last(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    spoil_chunks(stores["shelf-0"], survey.manifest)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    [fault] = restored.faults
    assert (fault.store, fault.key and fault.key.index) == ("shelf-0", 0)
    assert fault.detail == "2 wrong chunks: 0 to 1"
    assert runs_read(stores["shelf-0"], survey.manifest) == [0]
    assert runs_read(stores["shelf-2"], survey.manifest) == [0, 1, 2]


async def test_another_fragment_is_asked_before_a_copy(tmp_path: Path, compute: Executor) -> None:
    """What stored a wrong chunk may have stored it twice."""
    stores = {**shelves(4), "copy": Shelf()}
    survey = await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    stores["shelf-0"].flip(0)
    stores["copy"].content.update(stores["shelf-0"].content)
    await restore(CONTENT, stores, tmp_path, compute)
    assert runs_read(stores["shelf-2"], survey.manifest) == [0]
    # From then on nothing speaks against the copy.
    assert runs_read(stores["copy"], survey.manifest) == [1, 2]


async def test_wrong_hashes_lose_no_chunks(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    stores["shelf-0"].drop()
    stores["shelf-1"].is_down = True
    for name in ("shelf-2", "shelf-3"):
        stores[name].flip(survey.manifest.layout.tail_at - HASH_BYTES)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert [(fault.store, fault.detail) for fault in restored.faults] == [
        ("shelf-1", "it is switched off"),
        ("shelf-2", "its leaf hashes are wrong"),
        ("shelf-3", "its leaf hashes are wrong"),
    ]


async def test_one_manifest_is_enough(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    for name in ("shelf-0", "shelf-1", "shelf-2"):
        stores[name].flip(-1)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert [fault.store for fault in restored.faults] == ["shelf-0", "shelf-1", "shelf-2"]
    stores["shelf-3"].flip(-1)
    with pytest.raises(NotRestorable, match="store shelf-0, fragment 0: fragment: not one"):
        await restore(CONTENT, stores, tmp_path, compute)


async def test_an_object_that_nobody_has_is_not_found(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(2)
    await store(CONTENT, Shape(1, 1, SMALL), stores.values(), compute)
    target, other = tmp_path / "restored", hashlib.sha256(b"other").digest()
    with pytest.raises(NotFound, match=f"no object '{other.hex()}'"):
        await restore_object(other, stores, target, compute)
    stores["shelf-1"].is_down = True
    with pytest.raises(NotRestorable, match="store shelf-1: it is switched off"):
        await restore_object(other, stores, target, compute)
    assert [*tmp_path.iterdir()] == []


async def test_progress_grows_to_the_size(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, TWO_AND_TWO, stores.values(), compute)
    seen: list[tuple[int, int]] = []
    await restore_object(
        survey.manifest.object_id,
        stores,
        tmp_path / "restored",
        compute,
        lambda done, of: seen.append((done, of)),
    )
    assert [of for _, of in seen] == [len(CONTENT)] * len(seen)
    done = [done for done, _ in seen]
    assert done == sorted(set(done))
    assert done[-1] == len(CONTENT)
    assert len(done) == 3
