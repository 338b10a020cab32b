"""What was cut off goes on where it was, by whatever it was cut off."""

import asyncio
import hashlib
import io
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from shelves import SMALL, Shelf, noise, part_of, restore, shelves, store, store_lie

from citychain.compute import Executor
from citychain.errors import NotRestorable, ObjectChanged, StorageError, StoreFull, StoreUnavailable
from citychain.fragments import layout
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.fragments.feeding import PARTS_WAITING
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import fragment_bytes
from citychain.fragments.part import PartFile
from citychain.fragments.restoring import restore_object
from citychain.fragments.writing import survey_object, write_fragments
from citychain.ports import FragmentKey, StorageContext

SHAPE = Shape(2, 2, SMALL)
STRIPE = SHAPE.stripe
CONTENT = noise(9 * STRIPE + 100)
OBJECT_ID = hashlib.sha256(CONTENT).digest()


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(4) as executor:
        yield executor


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stripe is a run."""
    monkeypatch.setattr(layout, "RUN_BYTES", 4 * SMALL)


# Restoring


async def test_what_was_restored_before_is_not_read_again(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    part_of(survey, tmp_path).write_bytes(CONTENT[: 4 * STRIPE + 7])
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.resumed == 4 * STRIPE
    runs = [offset for _, offset, length in stores["shelf-1"].reads if length == SMALL]
    assert runs == [stripe * SMALL for stripe in range(4, 9)]


@pytest.mark.parametrize("wrong", [0, STRIPE - 1, 3 * STRIPE, 9 * STRIPE, len(CONTENT) - 1])
async def test_what_is_there_and_wrong_is_restored_again(
    wrong: int, tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    there = bytearray(CONTENT)
    there[wrong] ^= 1
    part_of(survey, tmp_path).write_bytes(there)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.resumed == wrong // STRIPE * STRIPE


@pytest.mark.parametrize("more", [b"", b"x", noise(50_000)])
async def test_what_is_too_long_is_cut(more: bytes, tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    part_of(survey, tmp_path).write_bytes(CONTENT + more)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.resumed == len(CONTENT)


async def test_what_is_there_is_held_to_parity_where_data_is_lost(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    stores["shelf-0"].drop()
    stores["shelf-1"].is_down = True
    part_of(survey, tmp_path).write_bytes(CONTENT[: 2 * STRIPE] + bytes(STRIPE))
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.resumed == 2 * STRIPE


async def test_it_goes_on_when_a_store_is_back(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    for name in ("shelf-0", "shelf-1", "shelf-2"):
        stores[name].flip(5 * SMALL)
    with pytest.raises(NotRestorable, match=f"1 good chunks of the 2 .* byte {5 * STRIPE} needs"):
        await restore_object(OBJECT_ID, stores, tmp_path / "restored", compute)
    assert [*tmp_path.iterdir()] == [part_of(survey, tmp_path)]
    assert part_of(survey, tmp_path).read_bytes() == CONTENT[: 5 * STRIPE]
    stores["shelf-0"].flip(5 * SMALL)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.resumed == 5 * STRIPE


async def test_what_a_lie_left_is_not_taken_for_the_truth(
    tmp_path: Path, compute: Executor
) -> None:
    """And what the truth left is still there after the lie was tried."""
    stores = shelves(4)
    lie = await store_lie(
        CONTENT[: 2 * STRIPE] + noise(3 * STRIPE, seed=2),
        OBJECT_ID,
        SHAPE,
        stores.values(),
        compute,
    )
    truth = await store(CONTENT, SHAPE, [*stores.values()][1:], compute)
    root = truth.manifest.root
    spoilt = [(shelf, key) for shelf in stores.values() for key in shelf.content]
    for shelf, key in spoilt:
        if key.index < 3:
            at = (4 if key.root == root else 3) * SMALL
            content = bytearray(shelf.content[key])
            content[at] ^= 1
            shelf.content[key] = bytes(content)
    for _ in range(2):
        with pytest.raises(NotRestorable) as caught:
            await restore_object(OBJECT_ID, stores, tmp_path / "restored", compute)
        assert f"the 2 that the stripe at byte {3 * STRIPE} needs" in caught.value.detail
        assert part_of(truth, tmp_path).read_bytes() == CONTENT[: 4 * STRIPE]
        assert part_of(lie, tmp_path).stat().st_size == 3 * STRIPE
    for shelf, key in spoilt:
        if key.root == root and key.index < 3:
            content = bytearray(shelf.content[key])
            content[4 * SMALL] ^= 1
            shelf.content[key] = bytes(content)
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert restored.resumed == 4 * STRIPE


async def test_two_do_not_restore_into_one_file(tmp_path: Path, compute: Executor) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    other = PartFile(tmp_path / "restored", survey.manifest.root)
    other.open()
    with pytest.raises(StorageError, match="another process restores into it"):
        await restore_object(OBJECT_ID, stores, tmp_path / "restored", compute)
    other.close()
    await restore(CONTENT, stores, tmp_path, compute)


async def test_whoever_is_cancelled_while_the_file_is_opened_holds_nobody_up(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    await store(CONTENT, SHAPE, stores.values(), compute)

    async def cancelled(function: Callable[..., Any], *args: Any) -> Any:
        """The thread goes on when nobody waits for it any more."""
        result = await compute(function, *args)
        if getattr(function, "__name__", "") == "open":
            raise asyncio.CancelledError
        return result

    with pytest.raises(asyncio.CancelledError):
        await restore_object(OBJECT_ID, stores, tmp_path / "restored", cancelled)
    await restore(CONTENT, stores, tmp_path, compute)


def test_a_file_that_is_closed_before_it_is_opened_stays_closed(tmp_path: Path) -> None:
    late = PartFile(tmp_path / "restored", bytes(32))
    late.close()
    late.open()
    late.write(0, b"abc")
    assert [*tmp_path.iterdir()] == []
    other = PartFile(tmp_path / "restored", bytes(32))
    other.open()
    other.close()


@pytest.mark.parametrize("name", ["absent/restored", "folder", "link"])
async def test_a_file_that_cannot_be_written_is_named(
    name: str, tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"kept")
    link = part_of(survey, tmp_path).name.replace("restored", "link")
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=name):
        await restore_object(OBJECT_ID, stores, tmp_path / name, compute)
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"


async def test_an_older_file_is_replaced_by_a_whole_one_alone(
    tmp_path: Path, compute: Executor
) -> None:
    stores = shelves(4)
    target = tmp_path / "restored"
    target.write_bytes(b"older")
    await store_lie(noise(100), OBJECT_ID, SHAPE, stores.values(), compute)
    with pytest.raises(NotRestorable):
        await restore_object(OBJECT_ID, stores, target, compute)
    assert target.read_bytes() == b"older"
    await store(CONTENT, SHAPE, stores.values(), compute)
    await restore_object(OBJECT_ID, stores, target, compute)
    assert target.read_bytes() == CONTENT


# Storing


async def test_a_fragment_that_is_there_is_not_written_again(compute: Executor) -> None:
    stores = shelves(4)
    source = io.BytesIO(CONTENT)
    survey = await survey_object(source, SHAPE, compute)
    some = dict(list(enumerate(stores.values()))[:2])
    first = await write_fragments(source, survey, some, compute)
    assert (first.stored, first.present, first.failed) == ([0, 1], [], {})
    every = dict(enumerate(stores.values()))
    second = await write_fragments(source, survey, every, compute)
    assert (second.stored, second.present, second.failed) == ([2, 3], [0, 1], {})
    third = await write_fragments(source, survey, every, compute)
    assert (third.stored, third.present, third.failed) == ([], [0, 1, 2, 3], {})
    assert [shelf.puts for shelf in stores.values()] == [[0], [1], [2], [3]]


class NotSynced(Shelf):
    """Has all, and cannot say that any of it survives."""

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        raise StorageError("the disk does not sync")


async def test_a_fragment_that_is_there_counts_once_its_store_has_made_it_durable(
    compute: Executor,
) -> None:
    stores = [Shelf(), NotSynced()]
    survey = await store(CONTENT, SHAPE, stores[:1] * 4, compute)
    stores[1].content.update(stores[0].content)
    places = {0: stores[0], 1: stores[1]}
    written = await write_fragments(io.BytesIO(CONTENT), survey, places, compute)
    assert (written.stored, written.present) == ([], [0])
    assert str(written.failed[1]) == "the disk does not sync"


def shorter(content: bytes) -> bytes:
    return content[:-1]


def flipped(at: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        return bytes(spoilt)

    return flip


@pytest.mark.parametrize(
    "spoil", [shorter, flipped(0), flipped(5 * SMALL), flipped(9 * SMALL + 60), flipped(-1)]
)
async def test_a_fragment_that_is_there_and_wrong_is_replaced(
    spoil: Callable[[bytes], bytes], compute: Executor
) -> None:
    """A chunk, a leaf hash, the manifest or the length."""
    stores = shelves(4)
    survey = await store(CONTENT, SHAPE, stores.values(), compute)
    key, content = stores["shelf-2"].only()
    stores["shelf-2"].content[key] = spoil(content)
    every, source = dict(enumerate(stores.values())), io.BytesIO(CONTENT)
    seen: list[tuple[int, int]] = []
    written = await write_fragments(
        source, survey, every, compute, checking=lambda *told: seen.append(told)
    )
    assert (written.stored, written.present, written.replaced) == ([2], [0, 1, 3], [2])
    assert stores["shelf-2"].only() == (key, content)
    assert seen == [(min(i * STRIPE, len(CONTENT)), len(CONTENT)) for i in range(1, 11)]
    again = await write_fragments(source, survey, every, compute)
    assert (again.stored, again.present, again.replaced) == ([], [0, 1, 2, 3], [])


class Unread(Shelf):
    """Says what it has, and gives none of it now."""

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        raise StoreUnavailable("it has no time")


class Keeping(Shelf):
    """Deletes nothing."""

    async def delete(self, key: FragmentKey) -> bool:
        raise StorageError("another's")


async def test_what_cannot_be_read_or_replaced_is_left_and_told(compute: Executor) -> None:
    stores = [Shelf(), Unread(), Keeping(), Shelf()]
    survey = await store(CONTENT, SHAPE, stores, compute)
    stores[2].flip(7)
    before = [dict(shelf.content) for shelf in stores]
    written = await write_fragments(io.BytesIO(CONTENT), survey, dict(enumerate(stores)), compute)
    assert (written.stored, written.present) == ([], [0, 3])
    assert {index: str(error) for index, error in written.failed.items()} == {
        1: "it has no time",
        2: "another's",
    }
    assert [shelf.content for shelf in stores] == before


async def test_a_store_that_fails_does_not_stop_the_others(
    tmp_path: Path, compute: Executor
) -> None:
    stores = [Shelf(), Shelf(limit=100), Shelf(), Failing()]
    source = io.BytesIO(CONTENT)
    survey = await survey_object(source, SHAPE, compute)
    written = await write_fragments(source, survey, dict(enumerate(stores)), compute)
    assert (written.stored, written.present) == ([0, 2], [])
    assert {index: type(error) for index, error in written.failed.items()} == {
        1: StoreFull,
        3: StorageError,
    }
    elsewhere = Shelf()
    again = await write_fragments(source, survey, {1: elsewhere, 3: elsewhere}, compute)
    assert again.stored == [1, 3]
    await restore(CONTENT, {"elsewhere": elsewhere}, tmp_path, compute)


class Failing(Shelf):
    """Takes a part, and then no more."""

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        await anext(parts)
        raise StorageError("that was enough")


class Watched(Shelf):
    """Says when it has taken so many parts that the others wait for a store that takes one."""

    def __init__(self) -> None:
        super().__init__()
        self.has_taken = asyncio.Event()

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        async def counted() -> AsyncIterator[bytes]:
            taken = 0
            async for part in parts:
                taken += 1
                if taken == PARTS_WAITING + 2:
                    self.has_taken.set()
                yield part

        await super().put(key, size, counted())


class FailingLate(Shelf):
    """Takes a part, and fails once another store is waited for."""

    def __init__(self, until: asyncio.Event) -> None:
        super().__init__()
        self._until = until

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        await anext(parts)
        await self._until.wait()
        raise StorageError("that was enough")


async def test_a_store_that_fails_while_it_is_waited_for_holds_nobody_up(
    compute: Executor,
) -> None:
    watched = Watched()
    stores = {0: watched, 1: FailingLate(watched.has_taken), 2: Shelf(), 3: Shelf()}
    source = io.BytesIO(CONTENT)
    survey = await survey_object(source, SHAPE, compute)
    async with asyncio.timeout(120):
        written = await write_fragments(source, survey, stores, compute)
    assert written.stored == [0, 2, 3]
    assert list(written.failed) == [1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (CONTENT[:-1], "is shorter now"),
        (CONTENT[: 2 * STRIPE], "is shorter now"),
        (b"", "is shorter now"),
        (CONTENT + b"x", "is longer now"),
        (CONTENT[:-1] + b"x", "differs within its bytes 73728 to 73828"),
        (b"x" + CONTENT[1:], "differs within its bytes 0 to 8192"),
    ],
)
async def test_what_is_changed_meanwhile_is_not_stored(
    changed: bytes, message: str, compute: Executor
) -> None:
    stores = shelves(4)
    survey = await survey_object(io.BytesIO(CONTENT), SHAPE, compute)
    with pytest.raises(ObjectChanged, match=message):
        await write_fragments(
            io.BytesIO(changed), survey, dict(enumerate(stores.values())), compute
        )
    assert [shelf.content for shelf in stores.values()] == [{}] * 4


class Stuck(Shelf):
    """Takes nothing, and never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.was_cancelled = False

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled = True


async def test_whoever_stops_waiting_stops_the_stores(compute: Executor) -> None:
    stores = [Shelf(), Stuck()]
    source = io.BytesIO(CONTENT)
    survey = await survey_object(source, Shape(1, 1, SMALL), compute)
    writing = asyncio.create_task(write_fragments(source, survey, dict(enumerate(stores)), compute))
    stuck = stores[1]
    assert isinstance(stuck, Stuck)
    await stuck.began.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert stuck.was_cancelled
    assert stores[0].content == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_progress_of_storing_grows_to_the_size(compute: Executor) -> None:
    seen: list[tuple[int, int]] = []
    source = io.BytesIO(CONTENT)
    survey = await survey_object(source, SHAPE, compute, lambda *told: seen.append(told))
    assert seen == [(min(i * STRIPE, len(CONTENT)), len(CONTENT)) for i in range(1, 11)]
    seen.clear()
    await write_fragments(
        source,
        survey,
        dict(enumerate(shelves(4).values())),
        compute,
        lambda *told: seen.append(told),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


# Killed

STEPS = """
import asyncio, os, signal, sys
from pathlib import Path
from citychain.compute import Executor
from citychain.fragments import layout
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.fragments.layout import Shape
from citychain.fragments.part import PartFile
from citychain.fragments.restoring import restore_object
from citychain.fragments.writing import survey_object, write_fragments
from citychain.ports import StorageContext

folder, step, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
layout.RUN_BYTES = 4 * 4096
calls = 0

def told(done, of):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Executor(4) as compute:
        stores = {}
        for index in range(4):
            options = DirectoryOptions(path=folder / f"store-{index}")
            stores[index] = DirectoryStore(options, StorageContext(folder, compute, None))
            await stores[index].__aenter__()
        with open(folder / "content", "rb") as source:
            survey = await survey_object(source, Shape(2, 2, 4096), compute)
            if step == "store":
                await write_fragments(source, survey, stores, compute, told)
        if step == "restore":
            named = {str(index): store for index, store in stores.items()}
            target = folder / "restored"
            await restore_object(survey.manifest.object_id, named, target, compute, told)

asyncio.run(main())
"""


def killed(folder: Path, step: str, last: int) -> None:
    """Take a step in a process that is killed when it has told its progress so often."""
    ended = subprocess.run(
        [sys.executable, "-c", STEPS, str(folder), step, str(last)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


async def open_stores(
    folder: Path, compute: Executor, stack: AsyncExitStack
) -> dict[int, DirectoryStore]:
    return {
        index: await stack.enter_async_context(
            DirectoryStore(
                DirectoryOptions(path=folder / f"store-{index}"),
                StorageContext(folder, compute, None),  # type: ignore[arg-type]
            )
        )
        for index in range(4)
    }


@pytest.mark.parametrize("last", [1, 5, 10])
async def test_a_process_that_is_killed_leaves_nothing_half_done(
    last: int, tmp_path: Path, compute: Executor
) -> None:
    (tmp_path / "content").write_bytes(CONTENT)
    for index in range(4):
        (tmp_path / f"store-{index}").mkdir()
    killed(tmp_path, "store", last)
    async with AsyncExitStack() as stack:
        stores = await open_stores(tmp_path, compute, stack)
        source = io.BytesIO(CONTENT)
        survey = await survey_object(source, SHAPE, compute)
        for index, key in enumerate(survey.manifest.fragment_keys()):
            size = await stores[index].size(key)
            assert size in (None, fragment_bytes(survey.manifest.layout))
        written = await write_fragments(source, survey, stores, compute)
        assert sorted([*written.stored, *written.present]) == [0, 1, 2, 3]
        killed(tmp_path, "restore", last)
        target = tmp_path / "restored"
        assert not target.exists()
        named = {str(index): fragments for index, fragments in stores.items()}
        restored = await restore_object(OBJECT_ID, named, target, compute)
        assert target.read_bytes() == CONTENT
        assert restored.resumed == min(last * STRIPE, len(CONTENT))
        assert [*tmp_path.glob("*.part")] == []
