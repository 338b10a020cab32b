"""Lies that take room: on the disk that an object is restored to, and in memory."""

import errno
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from shelves import SMALL, Shelf, noise, part_of, restore, shelves, store

from citychain.compute import Executor
from citychain.crypto.merkle import hash_leaf
from citychain.errors import NotRestorable, StorageError
from citychain.fragments import layout, part
from citychain.fragments.checking import check_object
from citychain.fragments.layout import Layout, Shape
from citychain.fragments.manifest import Manifest, fragment_bytes, merkle_root, tail
from citychain.fragments.restoring import restore_object
from citychain.fragments.sources import ROOTS_MAX, find_sources
from citychain.ports import FragmentKey

SHAPE = Shape(2, 2, SMALL)
STRIPE = SHAPE.stripe
CONTENT = noise(9 * STRIPE + 100)
OBJECT_ID = hashlib.sha256(CONTENT).digest()


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture
def stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stripe is a run."""
    monkeypatch.setattr(layout, "RUN_BYTES", 4 * SMALL)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a disk of so many bytes, which says so or does not."""

    def used() -> int:
        return sum(path.stat().st_size for path in tmp_path.iterdir())

    pwrite = os.pwrite

    def have(size: int, *, says_so: bool) -> None:
        def write(file: int, data: bytes, offset: int) -> int:
            more = offset + len(data) - os.fstat(file).st_size
            if more > 0 and used() + more > size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return pwrite(file, data, offset)

        def statvfs(path: Path) -> SimpleNamespace:
            free = size - used() if says_so else 1 << 60
            return SimpleNamespace(f_bavail=max(0, free), f_frsize=1)

        monkeypatch.setattr(part.os, "pwrite", write)
        monkeypatch.setattr(part.os, "statvfs", statvfs)

    return have


class Zeros(Shelf):
    """Has a fragment of any size of an object of zeros, which costs it nothing."""

    def __init__(self, manifest: Manifest, key: FragmentKey, fails: int = 1 << 62) -> None:
        super().__init__()
        self.key = key
        self.chunks_read = 0
        self._layout = manifest.layout
        self._fails = fails
        """From which byte on no chunk can be read."""
        self._leaf = hash_leaf(bytes(manifest.layout.shape.chunk))
        self._tail = tail(manifest, key.index)

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        return [self.key]

    async def size(self, key: FragmentKey) -> int:
        return fragment_bytes(self._layout)

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        here, end = self._layout, offset + length
        if end <= here.hashes_at:
            self.chunks_read += length
            if offset >= self._fails:
                raise StorageError("that sector cannot be read")
            return bytes(length)
        if offset >= here.hashes_at and end <= here.tail_at:
            return self._leaf * (length // 32)
        whole = self._leaf * here.stripes + self._tail
        return (bytes(max(0, here.hashes_at - offset)) + whole)[-length:]


def zeros(stripes: int, parity: int, count: int, fails: int = 1 << 62) -> list[Zeros]:
    """Stores that have the fragments of so many zeros under the object's id."""
    here = Layout(Shape(1, parity, SMALL), stripes * SMALL)
    root = merkle_root(hash_leaf(bytes(SMALL)) * stripes)
    manifest = Manifest(here, OBJECT_ID, [root] * (1 + parity))
    return [Zeros(manifest, key, fails) for key in manifest.fragment_keys()[:count]]


class Boaster(Shelf):
    """Names every fragment that there could be, of one manifest after the other."""

    def __init__(self, manifests: int) -> None:
        super().__init__()
        self.asked = 0
        self._manifests = manifests

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        roots = [number.to_bytes(32, "big") for number in range(self._manifests)]
        own = await super().find(object_id)
        return [*own, *(FragmentKey(object_id, root, i) for root in roots for i in range(255))] * 3

    async def size(self, key: FragmentKey) -> int | None:
        self.asked += 1
        return await super().size(key)


@pytest.mark.usefixtures("stripes")
async def test_what_two_stores_have_is_tried_before_what_one_boasts_of(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(2)
    await store(CONTENT, SHAPE, stores.values(), compute)
    [liar] = zeros(1 << 12, 254, 1)
    named = [liar.key._replace(index=index) for index in range(255)]

    async def find(object_id: bytes) -> Sequence[FragmentKey]:
        return named

    liar.find = find  # type: ignore[method-assign]
    await restore(CONTENT, {"liar": liar, **stores}, tmp_path, compute)
    assert liar.chunks_read == 0


@pytest.mark.usefixtures("stripes")
@pytest.mark.parametrize("says_so", [True, False])
async def test_a_lie_that_fills_the_disk_makes_room_for_the_truth(
    says_so: bool, tmp_path: Path, compute: Executor, disk: Callable[..., None]
) -> None:
    stores = shelves(2)
    await store(CONTENT, SHAPE, stores.values(), compute)
    liars = {f"liar-{index}": liar for index, liar in enumerate(zeros(200, 2, 3))}
    disk(20 * STRIPE, says_so=says_so)
    await restore(CONTENT, {**stores, **liars}, tmp_path, compute)
    assert (sum(liar.chunks_read for liar in liars.values()) > 0) is not says_so


@pytest.mark.usefixtures("stripes")
async def test_what_a_lie_left_makes_room_for_the_truth(
    tmp_path: Path, compute: Executor, disk: Callable[..., None]
) -> None:
    """It is in as many stores, has more fragments, and ends before it fills the disk."""
    stores = shelves(2)
    await store(CONTENT, SHAPE, stores.values(), compute)
    for shelf, liar in zip(stores.values(), zeros(200, 2, 2, fails=24 * SMALL), strict=True):
        lies(shelf, liar)
    disk(14 * STRIPE, says_so=False)
    await restore(CONTENT, stores, tmp_path, compute)


def lies(shelf: Shelf, liar: Zeros) -> None:
    """Have a store answer for a liar as well, and name it once more than the truth."""
    find, size, read = shelf.find, shelf.size, shelf.read
    root = liar.key.root

    async def all_keys(object_id: bytes) -> Sequence[FragmentKey]:
        own = [liar.key._replace(index=index) for index in range(3)]
        return [*await find(object_id), *own]

    async def any_size(key: FragmentKey) -> int | None:
        return await (liar.size(key) if key.root == root else size(key))

    async def any_read(key: FragmentKey, offset: int, length: int) -> bytes:
        return await (liar if key.root == root else shelf_read).read(key, offset, length)

    shelf_read = SimpleNamespace(read=read)
    shelf.find, shelf.size, shelf.read = all_keys, any_size, any_read  # type: ignore[method-assign]


@pytest.mark.usefixtures("stripes")
async def test_a_disk_that_is_full_is_named_and_what_was_restored_stays(
    tmp_path: Path, compute: Executor, disk: Callable[..., None]
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    disk(5 * STRIPE, says_so=True)
    with pytest.raises(StorageError, match="No space left") as caught:
        await restore_object(OBJECT_ID, stores, tmp_path / "restored", compute)
    assert not isinstance(caught.value, NotRestorable)
    assert part_of(survey, tmp_path).read_bytes() == CONTENT[: 5 * STRIPE]
    disk(1 << 30, says_so=True)
    assert (await restore(CONTENT, stores, tmp_path, compute)).resumed == 5 * STRIPE


async def test_what_is_left_of_others_goes_when_a_file_is_whole(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    await store(CONTENT, SHAPE, stores.values(), compute)
    digits = "0123456789abcdef"
    (tmp_path / f"restored.{digits}.part").write_bytes(b"of another manifest")
    kept = [
        f"restored.{digits}0.part",
        f"other.{digits}.part",
        "restored.part",
        f"restored.{digits}",
    ]
    for name in kept:
        (tmp_path / name).write_bytes(b"mine")
    await restore_object(OBJECT_ID, stores, tmp_path / "restored", compute)
    assert {path.name for path in tmp_path.iterdir()} == {"restored", *kept}


async def test_of_what_a_store_names_without_end_some_is_looked_at(
    tmp_path: Path, compute: Executor
) -> None:
    boaster = Boaster(3 * ROOTS_MAX)
    stores = {"boaster": boaster, **shelves(3)}
    await store(CONTENT, SHAPE, stores.values(), compute)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert boaster.asked <= ROOTS_MAX * 255
    told = [fault.detail for fault in restored.faults if fault.key is None]
    assert told == [
        f"it names {3 * ROOTS_MAX + 1} manifests of the object; {ROOTS_MAX} are looked at"
    ]
    stores["shelf-0"].drop()
    stores["shelf-1"].drop()
    await restore(CONTENT, stores, tmp_path, compute)


async def test_the_hashes_of_one_claim_alone_are_in_memory(
    tmp_path: Path, compute: Executor
) -> None:
    """Each of these has hashes of 4 MiB, which hold; and no chunk of it can be read."""

    async def peak(claims: int) -> int:
        stores = {str(number): zeros(1 << 17, number, 1, fails=0)[0] for number in range(claims)}
        tracemalloc.start()
        try:
            with pytest.raises(NotRestorable):
                await restore_object(OBJECT_ID, stores, tmp_path / "restored", compute)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert await peak(6) < await peak(1) + (6 << 20)


async def test_a_check_holds_no_hashes_of_what_it_is_done_with(compute: Executor) -> None:
    stores = {str(number): zeros(1 << 10, number, 1)[0] for number in range(3)}
    sources, _ = await find_sources(OBJECT_ID, stores, compute)
    checked = await check_object(sources, compute)
    assert [it.loss for it in checked] == ["it is of other content"] * 3
    assert [source.hashes for source in sources] == [None] * 3
