"""Fragment store tests: what was put is found, listed, read in ranges, and deleted."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from citychain.errors import FragmentMissing
from citychain.ports import FragmentKey
from citychain.testing.conformance._fragments_session import (
    StoreSession,
    check,
    content,
    key,
    put,
    whole,
)

__all__ = ["ReadTests"]


class ReadTests:
    """Part of `FragmentStoreSuite`."""

    async def test_a_new_store_is_empty(self, session: StoreSession) -> None:
        store = session.store
        await check(store, {})
        assert list(await store.find(key(1).object_id)) == [], "nothing was put"
        assert await store.size(key(1)) is None, "a fragment that is not there has no size"
        assert await store.delete(key(1)) is False, "delete() of what is not there finds nothing"
        with pytest.raises(FragmentMissing):
            await store.read(key(1), 0, 1)

    async def test_what_was_put_is_read_back(self, session: StoreSession) -> None:
        store = session.store
        sizes = (1, 2, 4_095, 4_096, 4_097, 65_536, 1_000_003)
        expected = {key(size): content(size, size) for size in sizes}
        for number, (known, meant) in enumerate(expected.items()):
            await put(store, known, meant, size=(1_000, 4_096, 1 << 20)[number % 3])
            assert await store.size(known) == len(meant), "size() is that of what was put"
        for _ in range(2):
            await check(store, expected)
            store = await session.reopen()

    async def test_ranges_are_exact(self, session: StoreSession) -> None:
        store, meant = session.store, content(2, 300_000)
        await put(store, key(2), meant, size=70_000)
        for offset, length in ((0, 1), (299_999, 1), (0, 300_000), (69_999, 2), (65_535, 65_538)):
            assert await store.read(key(2), offset, length) == meant[offset : offset + length], (
                f"read(key, {offset}, {length}) gives these bytes"
            )
        draw = random.Random(2)
        ranges = []
        for _ in range(50):
            offset = draw.randrange(300_000)
            ranges.append((offset, draw.randint(1, min(90_000, 300_000 - offset))))
        read = await asyncio.gather(*(store.read(key(2), *span) for span in ranges))
        assert read == [meant[offset : offset + length] for offset, length in ranges], (
            "reads that overlap give each its own bytes"
        )

    async def test_bytes_behind_the_end_are_missing(self, session: StoreSession) -> None:
        """Less than was asked for would be taken for the whole of it."""
        store = session.store
        await put(store, key(3), content(3, 1_000))
        for offset, length in ((0, 1_001), (999, 2), (1_000, 1), (5_000, 1)):
            with pytest.raises(FragmentMissing):
                await store.read(key(3), offset, length)

    async def test_each_part_of_a_key_counts(self, session: StoreSession) -> None:
        store = session.store
        low, high = bytes(32), b"\xff" * 32
        # Where bytes become text, these are easily taken for others.
        odd = (low, high, b"\n" * 32, b"/" * 32, b"%2F" * 10 + b"AA", b"a" * 32, b"A" * 32)
        keys = [FragmentKey(it, low, 0) for it in odd] + [FragmentKey(low, it, 1) for it in odd]
        keys += [FragmentKey(high, high, index) for index in (0, 1, 2, 9, 10, 16, 100, 253, 254)]
        expected = {known: content(number, 100) for number, known in enumerate(keys)}
        for known, meant in expected.items():
            await put(store, known, meant)
        await check(store, expected)
        for known in random.Random(4).sample(keys, 8):
            assert await store.delete(known), "delete() says that the fragment was there"
            del expected[known]
        await check(store, expected)
        await check(await session.reopen(), expected)

    async def test_all_fragments_of_an_object_are_found(self, session: StoreSession) -> None:
        store = session.store
        places = [(index, root) for index in (3, 0, 254) for root in (1, 0)]
        mine = {key(5, index, root): b"%d %d" % (index, root) for index, root in places}
        others = {key(number, 1): b"other" for number in range(6, 20)}
        for known, meant in {**mine, **others}.items():
            await put(store, known, meant)
        found = await store.find(key(5).object_id)
        assert list(found) == sorted(mine), "find() gives all of an object, of each root, sorted"
        assert all(isinstance(known, FragmentKey) for known in found), "keys are FragmentKeys"
        await check(store, {**mine, **others})

    async def test_keys_come_in_order_page_by_page(self, session: StoreSession) -> None:
        store = session.store
        keys = sorted(key(number, number % 3, number % 2) for number in range(60))
        for known in random.Random(6).sample(keys, len(keys)):
            await put(store, known, b"x")
        for limit in (1, 7, 59, 60, 61, 1_000):
            assert list(await store.keys(None, limit)) == keys[:limit], "the first come first"
            for after in (0, 30, 58, 59):
                page = list(await store.keys(keys[after], limit))
                assert page == keys[after + 1 :][:limit], "keys() go on after the key that is given"
        assert await store.delete(keys[20])
        assert list(await store.keys(keys[20], 3)) == keys[21:24], (
            "keys() go on after a key that is not there any more"
        )
        between = keys[40]._replace(index=keys[40].index + 1)
        assert list(await store.keys(between, 2)) == keys[41:43], "or was never there"
        assert list(await store.keys(FragmentKey(b"\xff" * 32, b"\xff" * 32, 254), 5)) == [], (
            "behind the last key there is none"
        )

    async def test_a_deleted_fragment_is_gone_and_may_come_back(
        self, session: StoreSession
    ) -> None:
        store = session.store
        for turn in range(3):
            await put(store, key(7), content(turn))
            await put(store, key(8), content(8))
            assert await store.delete(key(7)) is True, "delete() says that the fragment was there"
            assert await store.delete(key(7)) is False, "delete() says that it was not there"
            await check(store, {key(8): content(8)})
            with pytest.raises(FragmentMissing):
                await store.read(key(7), 0, 1)
        await check(await session.reopen(), {key(8): content(8)})

    async def test_a_fragment_that_is_read_while_it_is_deleted_is_whole_or_missing(
        self, session: StoreSession
    ) -> None:
        store, meant = session.store, content(9, 200_000)

        async def read() -> None:
            with suppress(FragmentMissing):
                got = await store.read(key(9), 0, len(meant))
                assert got == meant, "read() gives all of it or raises FragmentMissing"

        for _ in range(10):
            await put(store, key(9), meant, size=100_000)
            before = [asyncio.create_task(read()) for _ in range(4)]
            delete = asyncio.create_task(store.delete(key(9)))
            after = [asyncio.create_task(read()) for _ in range(4)]
            await asyncio.gather(*before, delete, *after)
            assert delete.result(), "delete() says that the fragment was there"
        assert await whole(store, key(9)) is None
