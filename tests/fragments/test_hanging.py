"""Stores that hang: whoever asks them goes on without, and ends when told to."""

import asyncio
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from shelves import SMALL, Shelf, noise, restore, shelves, store

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import NotRestorable, StoreUnavailable
from citychain.fragments import layout, patience
from citychain.fragments.checking import check_object
from citychain.fragments.directory import READS_AT_ONCE, DirectoryOptions, DirectoryStore
from citychain.fragments.inventory import every_object
from citychain.fragments.layout import Shape
from citychain.fragments.placement import Place
from citychain.fragments.restoring import restore_object
from citychain.fragments.sources import Fault, Source
from citychain.fragments.storing import store_object
from citychain.ports import FragmentKey, StorageContext

SHAPE = Shape(2, 2, SMALL)
CONTENT = noise(9 * SHAPE.stripe + 100)
OBJECT_ID = hashlib.sha256(CONTENT).digest()
DETAIL = "it did not answer within 0.01 s"


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other stores of these tests answer without ever waiting, so that no limit can hit them."""
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(layout, "RUN_BYTES", 4 * SMALL)


class Hanging(Shelf):
    """Answers no call of some name, after so many of them."""

    def __init__(self, call: str = "", answers: int = 0) -> None:
        super().__init__()
        self.call = call
        self.answers = answers
        self.hung = 0

    async def _hang(self, call: str) -> None:
        if call == self.call:
            self.answers -= 1
            if self.answers < 0:
                self.hung += 1
                await asyncio.Event().wait()

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        await self._hang("read")
        return await super().read(key, offset, length)

    async def size(self, key: FragmentKey) -> int | None:
        await self._hang("size")
        return await super().size(key)

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        await self._hang("find")
        return await super().find(object_id)

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        await self._hang("keys")
        return await super().keys(after, limit)


@pytest.mark.parametrize(
    ("call", "answers"), [("find", 0), ("size", 0), ("read", 0), ("read", 1), ("read", 4)]
)
async def test_a_file_is_restored_without_a_store_that_hangs(
    call: str, answers: int, tmp_path: Path, compute: Executor
) -> None:
    hanging = Hanging()
    stores = {"hanging": hanging, **shelves(3)}
    await store(CONTENT, SHAPE, stores.values(), compute)
    hanging.call, hanging.answers = call, answers
    restored = await restore(CONTENT, stores, tmp_path, compute)
    assert (restored.faults[0].store, restored.faults[0].detail) == ("hanging", DETAIL)
    assert hanging.hung == 1, "it was asked again"


async def test_that_a_store_hung_is_said_where_too_little_is_left(
    tmp_path: Path, compute: Executor
) -> None:
    hanging = Hanging()
    stores = {"hanging": hanging, **shelves(3)}
    await store(CONTENT, SHAPE, stores.values(), compute)
    stores["shelf-0"].drop()
    stores["shelf-1"].drop()
    hanging.call = "read"
    with pytest.raises(NotRestorable, match=f"store hanging, fragment 0: {DETAIL}"):
        await restore_object(OBJECT_ID, stores, tmp_path / "restored", compute)


async def test_a_check_waits_once_for_a_store_that_hangs(compute: Executor) -> None:
    hanging = Hanging()
    stores = {"hanging": hanging, **shelves(3)}
    for seed in range(20):
        await store(noise(SMALL, seed), SHAPE, stores.values(), compute)
    hanging.call, hanging.answers = "read", 7
    listed: list[list[Source]] = [
        sources async for sources in every_object(stores, compute, lambda fault: None)
    ]
    missing = 0
    for sources in listed:
        [checked] = await check_object(sources, compute)
        missing += {fault.detail for fault in checked.faults} == {DETAIL}
    assert len(listed) == 20
    assert missing >= 17
    assert hanging.hung == 1


async def test_a_listing_goes_on_without_a_store_that_hangs(compute: Executor) -> None:
    hanging = Hanging("keys")
    stores = {"hanging": hanging, **shelves(3)}
    await store(CONTENT, SHAPE, stores.values(), compute)
    faults: list[Fault] = []
    [sources] = [found async for found in every_object(stores, compute, faults.append)]
    assert sorted(source.name for source in sources) == ["shelf-0", "shelf-1", "shelf-2"]
    assert faults == [Fault("hanging", None, DETAIL)]


@pytest.mark.parametrize("call", ["find", "size"])
async def test_what_a_store_that_hangs_should_get_goes_to_others(
    call: str, tmp_path: Path, compute: Executor
) -> None:
    hanging = Hanging(call)
    stores = {"hanging": hanging, **shelves(4)}
    places = [Place(name, 100.0 if name == "hanging" else 1.0, name) for name in stores]
    stored = await store_object(io.BytesIO(CONTENT), SHAPE, stores, places, compute)
    assert not stored.missing
    told = [(refusal.store, str(refusal.error)) for refusal in stored.refusals]
    # One that cannot say what it has of other manifests may take what it is given.
    assert told == ([("hanging", DETAIL)] if call == "size" else [])
    hanging.call = ""
    await restore(CONTENT, stores, tmp_path, compute)


# --- a disk


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[tuple[Path, FragmentKey]]:
    """A folder with one fragment, which hangs whoever opens it: a pipe that nobody writes to."""
    key = FragmentKey(OBJECT_ID, bytes(32), 3)
    name = f"{OBJECT_ID.hex()}-{bytes(32).hex()}-03"
    pipe = tmp_path / name[:3] / name
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    yield tmp_path, key
    with suppress(OSError):
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))  # Threads that hang end now.


async def parts() -> AsyncIterator[bytes]:
    yield b"abc"


async def test_reads_of_a_disk_that_hangs_are_cancelled_and_hold_up_no_other_work(
    hung: tuple[Path, FragmentKey], tmp_path: Path
) -> None:
    folder, key = hung
    other = tmp_path / "other"
    other.mkdir()
    async with Executor(1) as compute:
        context = StorageContext(folder, compute, SystemClock())
        async with (
            DirectoryStore(DirectoryOptions(path=folder), context) as hanging,
            DirectoryStore(DirectoryOptions(path=other), context) as sound,
        ):
            reads = [asyncio.create_task(hanging.read(key, 0, 1)) for _ in range(3 * READS_AT_ONCE)]
            await asyncio.sleep(0)
            await sound.put(key, 3, parts())
            assert await sound.read(key, 0, 3) == b"abc"
            assert not any(read.done() for read in reads)
            for read in reads:
                read.cancel()
            ended: list[Any] = await asyncio.gather(*reads, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in ended)


ENDS = """
import asyncio, sys
from pathlib import Path
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.ports import FragmentKey, StorageContext

async def main():
    folder = Path(sys.argv[1])
    key = FragmentKey(bytes.fromhex(sys.argv[2]), bytes(32), 3)
    async with Executor(1) as compute:
        context = StorageContext(folder, compute, SystemClock())
        async with DirectoryStore(DirectoryOptions(path=folder), context) as store:
            read = asyncio.create_task(store.read(key, 0, 1))
            await store.size(key)
            read.cancel()

asyncio.run(main())
print("ended")
"""


def test_a_process_ends_while_a_disk_hangs(hung: tuple[Path, FragmentKey]) -> None:
    folder, key = hung
    command = [sys.executable, "-c", ENDS, str(folder), key.object_id.hex()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout == "ended\n"


async def test_a_folder_that_hangs_is_not_opened(
    tmp_path: Path, compute: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is looked at by a thread that waits until the test ends."""
    from threading import Event

    going_on = Event()
    store = DirectoryStore(
        DirectoryOptions(path=tmp_path), StorageContext(tmp_path, compute, SystemClock())
    )
    monkeypatch.setattr(store._folder, "open", going_on.wait)
    monkeypatch.setattr("citychain.fragments.directory.ANSWER_SECONDS", 0.01)
    try:
        with pytest.raises(StoreUnavailable, match=DETAIL):
            await store.__aenter__()
    finally:
        going_on.set()
