"""A disk that hangs in a write: others go on, who is cancelled ends, the store is right after."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.fragments import directory
from citychain.fragments._folder import Folder
from citychain.fragments.directory import WRITES_AT_ONCE, DirectoryOptions, DirectoryStore
from citychain.fragments.owned import OwnedFragments
from citychain.ports import FragmentKey, Space, StorageContext

KEY = FragmentKey(bytes.fromhex("ab" * 32), bytes.fromhex("0c" * 32), 10)
PLACE = f"aba/{'ab' * 32}-{'0c' * 32}-0a"
LIMIT = 1 << 20
SECONDS = 120
"""Longer than anything here takes."""


class Held:
    """A function of the operating system that hangs when it is first called, until let go."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._function: Callable[..., Any] = getattr(owner, name)
        self._is_first = True
        self._lock = threading.Lock()
        self.hangs = asyncio.Event()
        self.go_on = threading.Event()
        self.every = False
        patch.setattr(owner, name, self.called)

    @property
    def called(self) -> Callable[..., Any]:
        """Stands for the function, also where it is a method."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                is_held, self._is_first = self._is_first or self.every, False
            if is_held:
                self._loop.call_soon_threadsafe(self.hangs.set)
                assert self.go_on.wait(SECONDS)
            return self._function(*args, **kwargs)

        return call


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, str], Held]]:
    """Holds a function; whatever hangs at the end of a test is let go."""
    made: list[Held] = []

    def hold(owner: Any, name: str) -> Held:
        made.append(Held(monkeypatch, owner, name))
        return made[-1]

    yield hold
    for held in made:
        held.go_on.set()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who is cancelled waits."""
    monkeypatch.setattr(directory, "LEAVE_SECONDS", 0.0)


async def idle(store: DirectoryStore | OwnedFragments) -> None:
    """Wait until nothing is written any more, by whomever it was left."""
    while store._writers._calls:
        await asyncio.sleep(0.001)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[DirectoryStore, Executor]]:
    async with asyncio.timeout(SECONDS), Executor(1) as compute:
        context = StorageContext(path, compute, SystemClock())
        async with DirectoryStore(DirectoryOptions(path=path, limit_mib=1), context) as store:
            yield store, compute


async def parts() -> AsyncIterator[bytes]:
    yield b"abc"
    yield b"def"


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found}


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_writes_that_hang_hold_up_neither_compute_nor_reads(
    tmp_path: Path, holding: Callable[[Any, str], Held]
) -> None:
    async with opened(tmp_path) as (store, compute):
        await store.put(KEY, 6, parts())
        held = holding(os, "fsync")
        held.every = True
        keys = [KEY._replace(index=index) for index in range(100, 100 + 3 * WRITES_AT_ONCE)]
        puts = [asyncio.create_task(store.put(key, 6, parts())) for key in keys]
        await held.hangs.wait()
        assert await compute(int, "7") == 7
        assert await store.read(KEY, 0, 6) == b"abcdef"
        assert not any(put.done() for put in puts)
        held.go_on.set()
        await asyncio.gather(*puts)
        assert await store.keys(None, 100) == [KEY, *keys]


@pytest.mark.parametrize("name", ["write", "fsync"])
async def test_a_put_that_hangs_is_left_and_its_fragment_is_never_seen(
    name: str,
    tmp_path: Path,
    holding: Callable[[Any, str], Held],
) -> None:
    async with opened(tmp_path) as (store, _):
        held = holding(os, name)
        put = asyncio.create_task(store.put(KEY, 6, parts()))
        await held.hangs.wait()
        await cancelled(put)
        assert await store.find(KEY.object_id) == []
        [left] = files(tmp_path)
        assert left.startswith("new/")
        async with opened(tmp_path) as (other, _):
            assert files(tmp_path) == {left}, "it is locked by who writes it"
            assert await other.size(KEY) is None
        held.go_on.set()
        await idle(store)
        assert files(tmp_path) == set()
        assert await store.space() == Space(0, LIMIT)
        await store.put(KEY, 6, parts())
        assert await store.read(KEY, 0, 6) == b"abcdef"
        assert await store.space() == Space(6, LIMIT)


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_put_that_was_left_changes_nothing_of_what_came_after_it(
    is_deleted: bool, tmp_path: Path, holding: Callable[[Any, str], Held]
) -> None:
    async with opened(tmp_path) as (store, _):
        held = holding(os, "fsync")
        put = asyncio.create_task(store.put(KEY, 6, parts()))
        await held.hangs.wait()
        await cancelled(put)
        await store.put(KEY, 6, parts())
        if is_deleted:
            assert await store.delete(KEY)
        held.go_on.set()
        await idle(store)
        assert files(tmp_path) == (set() if is_deleted else {PLACE})
        assert await store.space() == Space(0 if is_deleted else 6, LIMIT)


async def test_a_put_that_hangs_before_it_has_begun_writes_nothing(
    tmp_path: Path, holding: Callable[[Any, str], Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it take room: an owner's folder may be another one by then."""
    taken: list[int] = []
    async with opened(tmp_path) as (store, _):
        monkeypatch.setattr(store._folder, "take", taken.append)
        (tmp_path / PLACE).parent.mkdir()
        held = holding(Path, "exists")
        put = asyncio.create_task(store.put(KEY, 6, parts()))
        await held.hangs.wait()
        await cancelled(put)
        held.go_on.set()
        await idle(store)
        assert files(tmp_path) == set()
        assert taken == []


async def test_a_put_that_hangs_while_it_gets_its_name_is_whole_and_comes_before_a_delete(
    tmp_path: Path, holding: Callable[[Any, str], Held]
) -> None:
    async with opened(tmp_path) as (store, _):
        held = holding(Path, "rename")
        put = asyncio.create_task(store.put(KEY, 6, parts()))
        await held.hangs.wait()
        await cancelled(put)
        delete = asyncio.create_task(store.delete(KEY))
        again = KEY._replace(index=11)
        assert await store.find(KEY.object_id) == []
        held.go_on.set()
        assert await delete, "it was put before"
        await store.put(again, 6, parts())
        assert await store.keys(None, 10) == [again]
        assert await store.space() == Space(6, LIMIT)


async def test_a_delete_that_was_left_does_not_remove_what_a_later_put_finds(
    tmp_path: Path, holding: Callable[[Any, str], Held]
) -> None:
    async with opened(tmp_path) as (store, _), opened(tmp_path) as (other, _):
        await store.put(KEY, 6, parts())
        held = holding(os, "open")
        delete = asyncio.create_task(store.delete(KEY))
        await held.hangs.wait()
        await cancelled(delete)
        await other.put(KEY, 6, parts())
        held.go_on.set()
        await idle(store)
        assert files(tmp_path) == {PLACE}
        assert await store.space() == Space(6, LIMIT)


async def test_a_delete_that_hangs_at_the_disk_comes_before_a_later_put(
    tmp_path: Path, holding: Callable[[Any, str], Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another who has the folder open, too."""
    loop, looking, has = asyncio.get_running_loop(), asyncio.Semaphore(0), Folder.has

    def looked(folder: Folder, key: FragmentKey) -> bool:
        loop.call_soon_threadsafe(looking.release)
        return has(folder, key)

    async with opened(tmp_path) as (store, _), opened(tmp_path) as (other, _):
        await store.put(KEY, 6, parts())
        held = holding(Path, "unlink")
        delete = asyncio.create_task(store.delete(KEY))
        await held.hangs.wait()
        await cancelled(delete)
        monkeypatch.setattr(Folder, "has", looked)
        puts = [asyncio.create_task(it.put(KEY, 6, parts())) for it in (store, other)]
        for _ in puts:
            await looking.acquire()
        for _ in range(50):  # One that does not wait comes to an end meanwhile.
            assert await other.size(KEY) == 6
        assert not any(put.done() for put in puts)
        held.go_on.set()
        await asyncio.gather(*puts)
        assert files(tmp_path) == {PLACE}
        assert await store.read(KEY, 0, 6) == b"abcdef"


async def test_who_is_cancelled_waits_for_a_write_that_ends(
    tmp_path: Path, holding: Callable[[Any, str], Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "LEAVE_SECONDS", float(SECONDS))
    async with opened(tmp_path) as (store, _):
        held = holding(os, "fsync")
        put = asyncio.create_task(store.put(KEY, 6, parts()))
        await held.hangs.wait()
        for _ in range(3):  # Whoever is impatient changes nothing of it.
            put.cancel()
            await asyncio.sleep(0)
        assert not put.done()
        held.go_on.set()
        await cancelled(put)
        assert not any(name.startswith("new/") for name in files(tmp_path))


async def test_what_cannot_be_removed_is_not_waited_for(
    tmp_path: Path, holding: Callable[[Any, str], Held]
) -> None:
    """Who is cancelled waits for parts at that time, so that no write is under way."""
    begun = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"abc"
        begun.set()
        await asyncio.Event().wait()

    async with opened(tmp_path) as (store, _):
        put = asyncio.create_task(store.put(KEY, 6, stuck()))
        await begun.wait()
        held = holding(Path, "unlink")
        await cancelled(put)
        held.go_on.set()
        await idle(store)
        assert files(tmp_path) == set()


async def test_an_owners_write_that_hangs_holds_up_no_compute(
    tmp_path: Path, holding: Callable[[Any, str], Held]
) -> None:
    async with (
        asyncio.timeout(SECONDS),
        Executor(1) as compute,
        OwnedFragments(tmp_path, compute) as fragments,
    ):
        await fragments.put(bytes(32), KEY._replace(index=1), 6, parts())
        held = holding(os, "write")
        put = asyncio.create_task(fragments.put(bytes(32), KEY, 6, parts()))
        await held.hangs.wait()
        assert await compute(int, "7") == 7
        await cancelled(put)
        held.go_on.set()
        await idle(fragments)
        assert (await fragments.space()).used == 6
        assert await fragments.size(KEY) is None


ENDS = """
import asyncio, os, sys, threading
from pathlib import Path
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.fragments import directory
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.ports import FragmentKey, StorageContext

async def parts():
    yield b"abc"

async def main():
    folder, key = Path(sys.argv[1]), FragmentKey(bytes(32), bytes(32), 3)
    loop, hangs = asyncio.get_running_loop(), asyncio.Event()
    async with Executor(1) as compute:
        context = StorageContext(folder, compute, SystemClock())
        async with DirectoryStore(DirectoryOptions(path=folder), context) as store:
            def hang(file):
                loop.call_soon_threadsafe(hangs.set)
                threading.Event().wait()
            os.fsync, directory.LEAVE_SECONDS = hang, 0.0
            put = asyncio.create_task(store.put(key, 3, parts()))
            await hangs.wait()
            put.cancel()
            await asyncio.wait([put])

asyncio.run(main())
print("ended")
"""


async def test_a_process_ends_while_a_write_hangs_and_the_next_one_clears_it(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", ENDS, str(tmp_path)]
    ended = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert ended.stdout == "ended\n"
    assert len(files(tmp_path)) == 1
    async with opened(tmp_path) as (store, _):
        assert files(tmp_path) == set()
        assert await store.keys(None, 10) == []
