"""Fragment store tests: a fragment is put whole or not at all, once, where there is room."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar, Final

import pytest

from citychain.errors import FragmentMissing, StorageError, StoreFull
from citychain.hooks.definitions import FragmentStoreDefinition
from citychain.ports import FragmentKey
from citychain.testing.conformance._fragments_session import (
    Factory,
    StoreSession,
    check,
    content,
    key,
    parts,
    put,
    whole,
)
from citychain.testing.conformance._storage_cut import full_disk

__all__ = ["PutTests"]

SECONDS: Final = 60
"""After which a call counts as hanging; a machine may be busy."""
MIB: Final = 1 << 20
HELD_MAX: Final = 16 * MIB
"""Memory that a put may take: a few parts of 1 MiB."""


class Broken(Exception):
    """Raised by parts that break off."""


async def broken(content: bytes, whole_parts: int) -> AsyncIterator[bytes]:
    """Some parts, then an error."""
    for number in range(whole_parts):
        yield content[number * 1_000 :][:1_000]
    raise Broken


class PutTests:
    """Part of `FragmentStoreSuite`."""

    big_mib: ClassVar[int]

    async def test_putting_again_leaves_what_is_there(self, session: StoreSession) -> None:
        store = session.store
        await put(store, key(20), content(20))
        await put(store, key(20), content(21))
        await check(store, {key(20): content(20)})
        await put(await session.reopen(), key(20), content(22))
        await check(session.store, {key(20): content(20)})

    async def test_many_puts_at_once(self, session: StoreSession) -> None:
        store = session.store
        expected = {key(number, number % 4): content(number, 5_000) for number in range(40)}
        await asyncio.gather(*(put(store, *it, size=1_000) for it in expected.items()))
        await check(store, expected)

    async def test_one_fragment_put_several_times_at_once_is_one(
        self, session: StoreSession
    ) -> None:
        store = session.store
        await asyncio.gather(*(put(store, key(22), content(22), size=999) for _ in range(8)))
        await check(store, {key(22): content(22)})
        await check(await session.reopen(), {key(22): content(22)})

    async def test_nobody_sees_a_fragment_before_it_is_whole(self, session: StoreSession) -> None:
        store, meant = session.store, content(23, 8_000)
        await put(store, key(24), content(24))

        async def watched() -> AsyncIterator[bytes]:
            for at in range(0, 8_000, 1_000):
                yield meant[at : at + 1_000]
                listed = [*await store.find(key(23).object_id), *await store.keys(None, 10)]
                assert listed == [key(24)], "a fragment is listed before it is whole"
                assert await store.size(key(23)) is None, "a fragment has a size before it is whole"
                with pytest.raises(FragmentMissing):
                    await store.read(key(23), 0, 1)

        await store.put(key(23), len(meant), watched())
        await check(store, {key(23): meant, key(24): content(24)})

    async def test_parts_that_break_off_leave_nothing(self, session: StoreSession) -> None:
        store, meant = session.store, content(25, 4_000)
        for whole_parts in (0, 1, 3, 4):
            with pytest.raises(Broken):
                await store.put(key(25), len(meant), broken(meant, whole_parts))
            await check(store, {})
        await check(await session.reopen(), {})
        await put(session.store, key(25), meant)
        await check(session.store, {key(25): meant})

    @pytest.mark.parametrize("said", [1, 3_999, 4_001, 8_000])
    async def test_parts_of_another_size_are_refused(
        self, session: StoreSession, said: int
    ) -> None:
        store, meant = session.store, content(26, 4_000)
        with pytest.raises(StorageError):
            await store.put(key(26), said, parts(meant, 1_000))
        await check(store, {})
        await put(store, key(26), meant)
        await check(store, {key(26): meant})

    async def test_a_large_fragment_does_not_fill_the_memory(self, session: StoreSession) -> None:
        """Put part by part, and read in ranges."""
        session.need_durable()
        store = session.store

        async def made() -> AsyncIterator[bytes]:
            for number in range(self.big_mib):
                yield bytes([number % 251]) * MIB

        gc.collect()
        tracemalloc.start()
        try:
            await store.put(key(27), self.big_mib * MIB, made())
            for number in range(self.big_mib):
                read = await store.read(key(27), number * MIB, MIB)
                assert read == bytes([number % 251]) * MIB, "a large fragment comes back otherwise"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < HELD_MAX, (
            f"putting {self.big_mib} MiB in parts of 1 MiB took {peak // MIB} MiB of memory: keep "
            "no more than a few parts"
        )

    # --- room

    async def test_a_full_store_says_so_and_takes_more_when_there_is_room(
        self, limited: StoreSession
    ) -> None:
        store = limited.store
        limit = (await store.space()).limit
        assert limit is not None, "space() says the limit that was set"
        most = content(30, limit * 2 // 3)
        await put(store, key(30), most, size=100_000)
        for _ in range(2):
            with pytest.raises(StoreFull):
                await put(store, key(31), most, size=100_000)
            await check(store, {key(30): most})
            await put(store, key(30), most)  # It needs no room: it is there.
            store = await limited.reopen()
        rest = content(32, limit - len(most))
        await put(store, key(32), rest, size=100_000)
        await check(store, {key(30): most, key(32): rest})
        with pytest.raises(StoreFull):
            await put(store, key(33), b"1")
        assert await store.delete(key(30))
        await put(store, key(31), most, size=100_000)
        await check(await limited.reopen(), {key(31): most, key(32): rest})

    async def test_puts_at_once_do_not_share_the_last_room(self, limited: StoreSession) -> None:
        store = limited.store
        limit = (await store.space()).limit
        assert limit is not None, "space() says the limit that was set"
        large = {key(number): content(number, limit * 2 // 5) for number in range(40, 46)}
        results = await asyncio.gather(
            *(put(store, *it, size=50_000) for it in large.items()), return_exceptions=True
        )
        assert {type(it) for it in results if it is not None} <= {StoreFull}, results
        stored = {it: meant for it, meant in large.items() if await whole(store, it) is not None}
        assert len(stored) == results.count(None) <= 2, "more was stored than there is room for"
        # Those that failed must not have kept what they asked for.
        for known in stored:
            assert await store.delete(known)
        await put(store, key(46), content(46, limit), size=100_000)
        await check(store, {key(46): content(46, limit)})

    async def test_room_that_was_not_used_is_given_back(self, limited: StoreSession) -> None:
        store = limited.store
        limit = (await store.space()).limit
        assert limit is not None, "space() says the limit that was set"
        meant = content(47, limit)
        for _ in range(3):
            with pytest.raises(Broken):
                await store.put(key(47), limit, broken(meant, 3))
            with pytest.raises(StorageError):
                await store.put(key(47), limit, parts(meant[1:], 100_000))
        await put(store, key(47), meant, size=100_000)
        await check(store, {key(47): meant})

    async def test_a_full_disk_is_told_and_leaves_nothing(
        self, session: StoreSession, store_directory: Path
    ) -> None:
        """While no file may grow, puts fail; once they may, the same puts are taken."""
        session.need_durable()
        store = session.store
        expected = {key(50): content(50, 1_000)}
        await put(store, key(50), content(50, 1_000))
        failures = 0
        for number, room in enumerate((0, 1, 5_000, 100_000), start=51):
            meant = content(number, 400_000)
            with full_disk(store_directory, room=room):
                try:
                    await put(store, key(number), meant, size=50_000)
                except StoreFull:
                    failures += 1
                    await check(store, expected)
            await put(store, key(number), meant, size=50_000)
            expected[key(number)] = meant
            await check(store, expected)
            assert await store.delete(key(number))
            del expected[key(number)]
        await check(await session.reopen(), expected)
        if not failures:
            pytest.skip("no put failed: it writes no files, or files that have their size")

    # --- life

    def test_a_new_event_loop_opens_what_another_left(
        self, stores: Factory, definition: FragmentStoreDefinition
    ) -> None:
        """Nothing that belongs to a loop (a lock, a future) may outlive the store."""
        expected: dict[FragmentKey, bytes] = {}

        async def live(first: int) -> None:
            if not definition.durable:
                expected.clear()
            async with stores() as store:
                await check(store, expected)
                more = {key(number): content(number, 500) for number in range(first, first + 10)}
                await asyncio.gather(*(put(store, *it, size=100) for it in more.items()))
                expected.update(more)
                await check(store, expected)

        for number in range(3):
            with asyncio.Runner() as runner:
                runner.run(asyncio.wait_for(live(60 + 10 * number), SECONDS))
