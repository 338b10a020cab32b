"""The store in a folder passes the suite; what it leaves on the disk; a disk that goes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import StoreFull, StoreUnavailable
from citychain.fragments import _folder
from citychain.fragments.builtin import citychain_fragment_stores
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.hooks.definitions import FOLDER, FragmentStoreDefinition
from citychain.ports import FragmentKey, Space, StorageContext
from citychain.testing.conformance import FragmentStoreSuite

KEY = FragmentKey(bytes.fromhex("ab" * 32), bytes.fromhex("0c" * 32), 10)
NAME = f"{'ab' * 32}-{'0c' * 32}-0a"


class TestDirectoryStore(FragmentStoreSuite):
    @pytest.fixture
    def definition(self) -> FragmentStoreDefinition:
        directory, *_ = citychain_fragment_stores()
        return directory

    @pytest.fixture
    def limited_options(self) -> Mapping[str, Any]:
        return {"limit_mib": 1}


class TestDirectoryStoreInAGivenFolder(TestDirectoryStore):
    big_mib = 20
    kills = 1
    examples = 5

    @pytest.fixture
    def options(self, store_directory: Path) -> Mapping[str, Any]:
        folder = store_directory.with_name("disk")
        folder.mkdir(exist_ok=True)
        return {"path": str(folder)}


@asynccontextmanager
async def opened(
    path: Path | None, directory: Path = Path("/nowhere"), limit_mib: int | None = None
) -> AsyncIterator[DirectoryStore]:
    async with Executor(2) as compute:
        context = StorageContext(directory, compute, SystemClock())
        options = DirectoryOptions(path=path, limit_mib=limit_mib)
        async with DirectoryStore(options, context) as store:
            yield store


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- the folder


async def test_a_fragment_is_a_file_by_its_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(KEY, 3, one(b"abc"))
        assert files(tmp_path) == {f"aba/{NAME}"}
        assert (tmp_path / "aba" / NAME).read_bytes() == b"abc"
        assert (tmp_path / "new").is_dir()


async def test_without_a_path_it_makes_the_folder_that_it_is_given(tmp_path: Path) -> None:
    folder = tmp_path / "data/fragments/one"
    async with opened(None, folder) as store:
        await store.put(KEY, 3, one(b"abc"))
    assert files(folder) == {f"aba/{NAME}"}


async def test_a_folder_that_it_makes_is_synced_from_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name before anything is made below it; and again, should who made it have been killed
    in between."""
    events: list[str] = []
    fsync, mkdir = os.fsync, Path.mkdir

    def synced(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def made(path: Path, *args: Any, **kwargs: Any) -> None:
        events.append(f"make {path.name}")
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "mkdir", made)
    above, top = tmp_path.parent.name, tmp_path.name
    async with opened(None, tmp_path / "data/fragments"):
        steps = ["make data", f"sync {top}", "make fragments", "sync data"]
        assert events == [f"sync {above}", *steps, "make new"]
    events.clear()
    async with opened(None, tmp_path / "data/fragments"):
        assert events == ["sync data", "make new"]


async def test_a_given_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """It may be on a disk that is not mounted: an empty one in its place would hide that."""
    folder = tmp_path / "disk/fragments"
    with pytest.raises(StoreUnavailable, match=f"{re.escape(str(folder))} is no folder: mount"):
        async with opened(folder):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_is_relative_to_the_configuration(tmp_path: Path) -> None:
    for given, meant in (("a/b", tmp_path / "a/b"), ("/a/b", Path("/a/b")), (None, None)):
        options = DirectoryOptions.model_validate({"path": given}, context={FOLDER: tmp_path})
        assert options.path == meant


async def test_what_else_is_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    elsewhere = ("README", "lost+found/x", f"xyz/{NAME}", f"000/{NAME}")
    for name in (*elsewhere, f"aba/{NAME}.bak", "aba/notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    before = files(tmp_path)
    async with opened(tmp_path, limit_mib=1) as store:
        assert list(await store.keys(None, 10)) == []
        assert await store.space() == Space(0, 1 << 20)
        await store.put(KEY, 3, one(b"abc"))
        assert list(await store.keys(None, 10)) == list(await store.find(KEY.object_id)) == [KEY]
        assert await store.space() == Space(3, 1 << 20)
    assert files(tmp_path) == before | {f"aba/{NAME}"}


async def test_a_fragment_in_another_folder_than_its_own_hides_no_others(tmp_path: Path) -> None:
    keys = [KEY._replace(object_id=bytes([first]) * 32) for first in (0x11, 0x22, 0x33)]
    async with opened(tmp_path) as store:
        for key in keys:
            await store.put(key, 3, one(b"abc"))
        (tmp_path / "000").mkdir()
        (tmp_path / "000" / NAME).write_bytes(b"abc")
        page = list(await store.keys(None, 1))
        found = [*page, *await store.keys(page[-1], 10)]
        assert found == keys


# --- the disk


async def test_a_disk_that_goes_is_told_and_not_taken_for_empty(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    async with opened(disk) as store:
        await store.put(KEY, 3, one(b"abc"))
        disk.rename(tmp_path / "gone")
        disk.mkdir()  # The folder that a disk was mounted on.
        for call in (
            store.read(KEY, 0, 3),
            store.size(KEY),
            store.find(KEY.object_id),
            store.keys(None, 10),
            store.delete(KEY),
            store.space(),
            store.put(KEY, 3, one(b"abc")),
        ):
            with pytest.raises(StoreUnavailable, match="see that the disk is mounted"):
                await call
        assert files(disk) == set()
        disk.rmdir()
        (tmp_path / "gone").rename(disk)
        assert await store.read(KEY, 0, 3) == b"abc"


async def test_a_fragment_is_synced_before_it_has_its_name_and_its_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(("sync", path.name if path.is_dir() else f"{path.stat().st_size} bytes"))
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        events.append(("rename", target.name))
        return rename(path, target)

    async with opened(tmp_path) as store:
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "rename", renamed)
        await store.put(KEY, 6, parts())
        new = [("sync", "6 bytes"), ("rename", NAME), ("sync", "aba")]
        assert events == [*new, ("sync", tmp_path.name)]
        events.clear()
        await store.put(KEY, 6, parts())
        assert events == [("sync", "aba")], "who put it may not have synced it yet"
        events.clear()
        other = KEY._replace(index=11)
        await store.put(other, 6, parts())
        assert events == [new[0], ("rename", f"{NAME[:-1]}b"), new[2]]


async def parts() -> AsyncIterator[bytes]:
    yield b"abc"
    yield b"def"


async def test_what_is_large_is_synced_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    async def three() -> AsyncIterator[bytes]:
        for part in (b"abc", b"de", b"f"):
            yield part

    async with opened(tmp_path) as store:
        monkeypatch.setattr(_folder, "SYNC_BYTES", 4)
        monkeypatch.setattr(os, "fsync", noted)
        await store.put(KEY, 6, three())
        assert synced == [5, 6]


async def test_a_full_store_names_its_folder_and_the_option(tmp_path: Path) -> None:
    async with opened(tmp_path, limit_mib=1) as store:
        with pytest.raises(StoreFull, match=f"{re.escape(str(tmp_path))} is full.*limit_mib"):
            await store.put(KEY, 2 << 20, one(bytes(2 << 20)))
    assert files(tmp_path) == set()


async def test_a_disk_that_dies_while_it_is_written_to_costs_neither_room_nor_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async with opened(tmp_path, limit_mib=1) as store:
        with monkeypatch.context() as dying:
            dying.setattr(os, "write", dead)
            dying.setattr(Path, "unlink", dead)
            with pytest.raises(StoreUnavailable, match="Read-only file system"):
                await store.put(KEY, 6, parts())
        assert await store.space() == Space(0, 1 << 20)
        [left] = (tmp_path / "new").iterdir()
        held = {os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()}
        assert str(left) not in held, "whoever opens the folder next can remove it"
    async with opened(tmp_path):
        assert files(tmp_path) == set()


async def test_a_limit_counts_what_was_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(KEY, 1 << 20, one(bytes(1 << 20)))
        assert await store.space() == Space(1 << 20, None)
    async with opened(tmp_path, limit_mib=1) as store:
        assert await store.space() == Space(1 << 20, 1 << 20)
        with pytest.raises(StoreFull):
            await store.put(KEY._replace(index=0), 1, one(b"x"))


async def test_what_another_process_put_is_no_more_room_once_it_is_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path, limit_mib=1) as first, opened(tmp_path, limit_mib=1) as second:
        await second.put(KEY, 1 << 20, one(bytes(1 << 20)))
        assert await first.delete(KEY)
        assert await first.space() == Space(0, 1 << 20)
        with pytest.raises(StoreFull):
            await first.put(KEY, (1 << 20) + 1, one(bytes((1 << 20) + 1)))


async def test_a_put_of_which_any_step_gets_no_thread_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one for closing it. The suite fails `compute`, which the store does not write in."""
    async with opened(tmp_path, limit_mib=1) as store:
        submit = store._writers.submit
        for steps in range(10):
            calls = iter(range(steps))

            def submitted(*args: Any, calls: Iterator[int] = calls) -> asyncio.Future[Any]:
                if next(calls, None) is None:
                    raise RuntimeError("can't start new thread")
                return submit(*args)

            with monkeypatch.context() as busy:
                busy.setattr(store._writers, "submit", submitted)
                try:
                    await store.put(KEY, 6, parts())
                    break
                except RuntimeError:
                    pass
            assert files(tmp_path) == set()
            assert await store.space() == Space(0, 1 << 20)
        assert steps == 4, "it begins, writes twice and finishes"
        assert await store.read(KEY, 0, 6) == b"abcdef"
        assert files(tmp_path) == {f"aba/{NAME}"}


# --- several who have it open


async def test_what_a_process_left_half_written_goes_and_what_is_being_written_stays(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as store:
        left = tmp_path / "new" / ("0" * 32)
        left.write_bytes(b"half")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"abc"
            begun.set()
            await go_on.wait()
            yield b"def"

        put = asyncio.create_task(store.put(KEY, 6, slow()))
        await begun.wait()
        async with opened(tmp_path) as other:
            assert not left.exists()
            assert len(files(tmp_path / "new")) == 1
            assert await other.size(KEY) is None
            go_on.set()
            await put
            assert await other.read(KEY, 0, 6) == b"abcdef"
            assert files(tmp_path) == {f"aba/{NAME}"}


async def test_two_that_put_the_same_have_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as one_store, opened(tmp_path) as other:
        stores = (one_store, other)
        await asyncio.gather(*(store.put(KEY, 6, parts()) for store in stores for _ in range(4)))
        for store in stores:
            assert await store.read(KEY, 0, 6) == b"abcdef"
            assert await store.space() == Space(6, None)
    assert files(tmp_path) == {f"aba/{NAME}"}


async def test_a_put_that_is_cancelled_leaves_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        begun = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"abc"
            begun.set()
            await asyncio.Event().wait()

        put = asyncio.create_task(store.put(KEY, 6, stuck()))
        await begun.wait()
        assert len(files(tmp_path / "new")) == 1
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert files(tmp_path) == set()


async def test_no_other_process_gives_a_fragment_its_place_between_look_and_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    exists = Path.exists

    def looked(path: Path) -> bool:
        found = exists(path)
        if path.name == NAME and path.parent.exists():
            shard = os.open(path.parent, os.O_RDONLY)
            try:
                fcntl.flock(shard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                seen.append(False)
            except BlockingIOError:
                seen.append(True)
            finally:
                os.close(shard)
        return found

    async with opened(tmp_path) as store:
        monkeypatch.setattr(Path, "exists", looked)
        await store.put(KEY, 3, one(b"abc"))
    assert seen == [True]


async def test_a_fragment_that_has_its_name_is_counted_if_that_cannot_be_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def dying(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    async with opened(tmp_path, limit_mib=1) as store:
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", dying)
            with pytest.raises(StoreUnavailable, match="Input/output error"):
                await store.put(KEY, 3, one(b"abc"))
        assert await store.space() == Space(3, 1 << 20)
        assert await store.read(KEY, 0, 3) == b"abc"
        assert await store.delete(KEY)
        assert await store.space() == Space(0, 1 << 20)
