"""Fragments of several owners in one folder: who may do what, and what counts for whom."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from citychain.compute import Executor
from citychain.errors import (
    DirectoryInUse,
    FragmentMissing,
    NotOwned,
    StoreFull,
    StoreUnavailable,
)
from citychain.fragments import owned
from citychain.fragments.owned import OwnedFragments
from citychain.ports import FragmentKey, Space

ALICE, BOB = b"a" * 32, b"b" * 32
KEY = FragmentKey(bytes.fromhex("ab" * 32), bytes.fromhex("0c" * 32), 10)
OTHER = KEY._replace(object_id=bytes.fromhex("cd" * 32))


@asynccontextmanager
async def opened(
    folder: Path, limit: int | None = None, owner_limit: int | None = None
) -> AsyncIterator[OwnedFragments]:
    folder.mkdir(exist_ok=True)
    async with (
        Executor(2) as compute,
        OwnedFragments(folder, compute, limit=limit, owner_limit=owner_limit) as fragments,
    ):
        yield fragments


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def put(fragments: OwnedFragments, owner: bytes, key: FragmentKey, content: bytes) -> None:
    await fragments.put(owner, key, len(content), one(content))


async def read(fragments: OwnedFragments, *args: Any, **options: Any) -> bytes:
    return b"".join([part async for part in fragments.read(*args, **options)])


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


async def test_all_owners_fragments_are_read_as_those_of_one_store(tmp_path: Path) -> None:
    third = KEY._replace(index=3)
    async with opened(tmp_path / "kept") as fragments:
        await put(fragments, ALICE, KEY, b"abc")
        await put(fragments, ALICE, OTHER, b"alice's")
        await put(fragments, BOB, OTHER, b"bob's own")
        await put(fragments, BOB, third, b"defg")
    async with opened(tmp_path / "kept") as fragments:
        assert await fragments.keys(None, 10) == [third, KEY, OTHER]
        assert await fragments.keys(None, 2) == [third, KEY]
        assert await fragments.keys(KEY, 10) == [OTHER]
        assert await fragments.find(KEY.object_id, None, 9) == [third, KEY]
        assert await fragments.find(KEY.object_id, None, 1) == [third]
        assert await fragments.find(KEY.object_id, third, 9) == [KEY]
        assert await fragments.find(OTHER.object_id, KEY, 9) == [OTHER]
        assert await fragments.find(KEY.object_id, OTHER, 9) == []
        assert await fragments.size(third) == 4
        assert await fragments.size(KEY._replace(index=4)) is None
        assert await read(fragments, KEY, 1, 2) == b"bc"
        assert await fragments.space() == Space(3 + 7 + 9 + 4, None)
        with pytest.raises(FragmentMissing):
            await read(fragments, KEY, 1, 3)


async def test_what_others_put_under_a_key_hides_no_owners_own(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept") as fragments:
        await put(fragments, ALICE, KEY, b"wrong")
        await put(fragments, BOB, KEY, b"right!")
        assert await fragments.size(KEY, BOB) == 6
        assert await read(fragments, KEY, 0, 5, BOB) == b"right"
        assert await read(fragments, KEY, 0, 5, ALICE) == b"wrong"
        assert await read(fragments, KEY, 0, 6, ALICE) == b"right!", "alice has no such bytes"


async def test_only_who_stored_a_fragment_deletes_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept") as fragments:
        await put(fragments, ALICE, KEY, b"abc")
        with pytest.raises(NotOwned, match="only its owner may delete it"):
            await fragments.delete(BOB, KEY)
        assert await read(fragments, KEY, 0, 3) == b"abc"
        await put(fragments, BOB, KEY, b"abc")
        assert await fragments.delete(ALICE, KEY)
        assert await read(fragments, KEY, 0, 3, ALICE) == b"abc", "bob's is still there"
        with pytest.raises(NotOwned):
            await fragments.delete(ALICE, KEY)
        assert await fragments.delete(BOB, KEY)
        assert await fragments.size(KEY) is None
        assert not await fragments.delete(BOB, KEY)
        assert await fragments.space() == Space(0, None)


async def test_limits_hold_for_each_owner_and_for_all(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept", limit=10, owner_limit=6) as fragments:
        with pytest.raises(StoreFull, match=r"server is full: .* 11 bytes, and 0 of 10 are used"):
            await put(fragments, ALICE, KEY, bytes(11))
        assert not list((tmp_path / "kept" / "owners").iterdir()), "who gets nothing in has none"
        with pytest.raises(StoreFull, match=r"share is full: .* 7 bytes, and 0 of 6 are used"):
            await put(fragments, ALICE, KEY, bytes(7))
        await put(fragments, ALICE, KEY, bytes(6))
        assert await fragments.space(ALICE) == Space(6, 6)
        assert await fragments.space(BOB) == await fragments.space() == Space(6, 10)
        with pytest.raises(StoreFull, match="share is full"):
            await put(fragments, ALICE, OTHER, bytes(1))
        with pytest.raises(StoreFull, match="server is full"):
            await put(fragments, BOB, KEY, bytes(5))
        await put(fragments, BOB, KEY, bytes(4))
        await put(fragments, BOB, KEY, bytes(4))  # It needs no room: it is there.
    async with opened(tmp_path / "kept", limit=10, owner_limit=6) as fragments:
        assert await fragments.space() == Space(10, 10)
        assert await fragments.delete(ALICE, KEY)
        await put(fragments, BOB, OTHER, bytes(2))
        assert await fragments.space(BOB) == Space(6, 6)
        await put(fragments, ALICE, OTHER, bytes(4))
        assert await fragments.space(ALICE) == Space(10, 10)


async def test_room_that_one_owner_does_not_get_is_anothers(tmp_path: Path) -> None:
    """What was counted for all is given back where the owner's own limit refuses."""
    async with opened(tmp_path / "kept", limit=10, owner_limit=5) as fragments:
        for _ in range(3):
            with pytest.raises(StoreFull):
                await put(fragments, ALICE, KEY, bytes(6))
        await put(fragments, ALICE, KEY, bytes(5))
        await put(fragments, BOB, KEY, bytes(5))


async def test_puts_at_once_do_not_share_the_last_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept", limit=10) as fragments:
        owners = [bytes([number]) * 32 for number in range(8)]
        results = await asyncio.gather(
            *(put(fragments, owner, KEY, bytes(4)) for owner in owners), return_exceptions=True
        )
        assert [type(it) for it in results if it is not None] == [StoreFull] * 6
        assert (await fragments.space()).used == 8


async def test_owners_are_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned, "OWNERS_MAX", 2)
    async with opened(tmp_path / "kept") as fragments:
        for owner in (ALICE, BOB, ALICE):
            await put(fragments, owner, KEY, b"abc")
        with pytest.raises(StoreFull, match="2 owners, and takes no more"):
            await put(fragments, bytes(32), KEY, b"abc")


async def test_who_stores_nothing_is_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "OWNERS_MAX", 1)
    owners = tmp_path / "kept" / "owners"

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionError

    async with opened(tmp_path / "kept", owner_limit=3) as fragments:
        for owner in (ALICE, BOB):
            with pytest.raises(ConnectionError):
                await fragments.put(owner, KEY, 3, broken())
            with pytest.raises(StoreFull, match="share is full"):
                await put(fragments, owner, KEY, bytes(4))
            assert not list(owners.iterdir())
            await put(fragments, owner, KEY, b"abc")
            with pytest.raises(StoreFull):
                await put(fragments, owner, OTHER, bytes(1))
            assert await read(fragments, KEY, 0, 3) == b"abc", "who has something keeps it"
            assert await fragments.delete(owner, KEY)
            assert not list(owners.iterdir())


async def test_an_owner_who_comes_back_while_another_put_fails_keeps_what_it_put(
    tmp_path: Path,
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionError

    async with opened(tmp_path / "kept") as fragments:
        for number in range(40):
            key = KEY._replace(index=number)
            putting = (put(fragments, ALICE, key, b"abc"), fragments.put(ALICE, OTHER, 3, broken()))
            await asyncio.gather(*putting, return_exceptions=True)
            assert await fragments.keys(None, 9) == [key]
            assert await read(fragments, key, 0, 3) == b"abc"
            assert await fragments.delete(ALICE, key)


async def test_folders_of_who_stored_nothing_go_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept") as fragments:
        await put(fragments, ALICE, KEY, b"abc")
    owners = tmp_path / "kept" / "owners"
    (owners / BOB.hex() / "new").mkdir(parents=True)
    (owners / BOB.hex() / "abc").mkdir()
    async with opened(tmp_path / "kept") as fragments:
        assert [path.name for path in owners.iterdir()] == [ALICE.hex()]
        assert await fragments.keys(None, 9) == [KEY]


@pytest.mark.parametrize(
    ("limit", "owner_limit", "says"), [(10, None, "server is full"), (None, 10, "share is full")]
)
async def test_fragments_of_nothing_are_not_without_end(
    tmp_path: Path, limit: int | None, owner_limit: int | None, says: str
) -> None:
    small = [KEY._replace(object_id=bytes([n % 7, n // 7]) * 16) for n in range(257)]
    for last in (small[-1], KEY):
        async with opened(tmp_path / "kept", limit, owner_limit) as fragments:
            for key in small[:-1]:
                await put(fragments, ALICE, key, b"")
            with pytest.raises(StoreFull, match=f"{says}: it has 256 fragments"):
                await put(fragments, ALICE, last, b"")
            assert await fragments.delete(ALICE, small[0])
            await put(fragments, ALICE, small[0], b"")


async def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    async with Executor(1) as compute:
        with pytest.raises(StoreUnavailable, match="is no folder: mount its disk"):
            async with OwnedFragments(tmp_path / "disk", compute):
                pass
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_has_one_server(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept"):
        with pytest.raises(DirectoryInUse):
            async with opened(tmp_path / "kept"):
                pass
    async with opened(tmp_path / "kept"):
        pass


@pytest.mark.parametrize("used_before", [False, True])
async def test_a_disk_that_goes_is_told_and_not_taken_for_empty(
    tmp_path: Path, used_before: bool
) -> None:
    disk = tmp_path / "disk"
    async with opened(disk) as fragments:
        if used_before:
            await put(fragments, ALICE, KEY, b"abc")
        disk.rename(tmp_path / "gone")
        disk.mkdir()  # The folder that a disk was mounted on.
        for call in (
            read(fragments, KEY, 0, 3),
            fragments.size(KEY),
            fragments.find(KEY.object_id, None, 9),
            fragments.keys(None, 10),
            fragments.delete(ALICE, KEY),
            put(fragments, ALICE, KEY, b"abc"),
            put(fragments, BOB, KEY, b"abc"),
        ):
            with pytest.raises(StoreUnavailable, match="cannot use its disk") as caught:
                await call
            assert str(tmp_path) not in str(caught.value), "who asks learns nothing of the folder"
        assert files(disk) == set()


async def test_a_full_disk_is_full_and_tells_nothing_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with opened(tmp_path / "kept") as fragments:
        with monkeypatch.context() as filled:
            filled.setattr(os, "write", full)
            with pytest.raises(StoreFull, match=r"^the disk of the storage server is full$"):
                await put(fragments, ALICE, KEY, b"abc")
        assert await fragments.space() == Space(0, None)
        assert files(tmp_path / "kept") == set()
        await put(fragments, ALICE, KEY, b"abc")


async def test_what_was_left_half_written_goes(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept") as fragments:
        await put(fragments, ALICE, KEY, b"abc")
    new = tmp_path / "kept" / "owners" / ALICE.hex() / "new"
    (new / ("0" * 32)).write_bytes(b"half")
    (tmp_path / "kept" / "owners" / "notes").mkdir()
    async with opened(tmp_path / "kept") as fragments:
        assert await fragments.space() == Space(3, None)
    assert len(files(tmp_path / "kept")) == 1
