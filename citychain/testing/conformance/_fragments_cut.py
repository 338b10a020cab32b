"""Fragment store tests: calls cut short at each of their steps, by cancelling and by errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from citychain.ports import FragmentKey, FragmentStore
from citychain.testing.conformance._fragments_session import (
    Factory,
    StoreSession,
    check,
    content,
    key,
    put,
    whole,
)
from citychain.testing.conformance._storage_cut import FailingCompute, cancelled_at

__all__ = ["CutTests"]

SECONDS = 60
"""After which a call counts as hanging; a machine may be busy."""


async def _agree(
    store: FragmentStore, known: FragmentKey, meant: bytes, others: dict[FragmentKey, bytes]
) -> bool:
    """Whether the fragment is there; fails if a part of it is, or others are not."""
    found = await whole(store, known)
    assert found in (None, meant), "of a put that was cut short there is a part"
    await check(store, others if found is None else {**others, known: meant})
    return found is not None


class CutTests:
    """Part of `FragmentStoreSuite`."""

    async def test_a_put_cancelled_at_any_await_is_whole_or_absent(
        self, session: StoreSession
    ) -> None:
        store = session.store
        others: dict[FragmentKey, bytes] = {}
        for number in count(1):
            known, meant = key(number), content(number, 4_000)
            beside = key(number, 1)
            neighbour = asyncio.create_task(put(store, beside, content(number, 100)))
            came = await cancelled_at(number, put(store, known, meant, size=1_500))
            await neighbour
            others[beside] = content(number, 100)
            is_there = await _agree(store, known, meant, others)
            assert is_there or came, "a put returned, and nothing of it is stored"
            store = await session.reopen()
            await _agree(store, known, meant, others)
            async with asyncio.timeout(SECONDS):
                await put(store, known, meant)  # Nothing is in its way.
            others[known] = meant
            await check(store, others)
            if not came:
                break

    async def test_a_cancelled_put_gives_its_room_back(self, limited: StoreSession) -> None:
        store = limited.store
        limit = (await store.space()).limit
        assert limit is not None, "space() says the limit that was set"
        meant = content(70, limit)
        for number in count(1):
            came = await cancelled_at(number, put(store, key(70), meant, size=limit // 2))
            async with asyncio.timeout(SECONDS):
                await put(store, key(70), meant, size=limit)
            await check(store, {key(70): meant})
            assert await store.delete(key(70))
            if not came:
                break

    async def test_cancelled_calls_give_back_what_they_used(self, session: StoreSession) -> None:
        store = session.store
        expected = {key(number): content(number, 500) for number in range(80, 90)}
        for it in expected.items():
            await put(store, *it)
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: store.read(key(80), 0, 500),
            lambda: store.size(key(81)),
            lambda: store.find(key(82).object_id),
            lambda: store.keys(None, 5),
            lambda: store.space(),
            lambda: store.delete(key(1_000)),
        ]
        for _ in range(10):
            for number in count(1):
                if not any([await cancelled_at(number, call()) for call in calls]):
                    break
        async with asyncio.timeout(SECONDS):
            await check(store, expected)

    async def test_a_delete_cancelled_at_any_await_happens_or_not(
        self, session: StoreSession
    ) -> None:
        store = session.store
        for number in count(1):
            await put(store, key(90), content(90))
            came = await cancelled_at(number, store.delete(key(90)))
            is_there = await _agree(store, key(90), content(90), {})
            assert came or not is_there, "a delete returned, and the fragment is there"
            await store.delete(key(90))
            await check(store, {})
            if not came:
                break

    async def test_a_put_that_fails_at_any_step_is_whole_or_absent(
        self, session: StoreSession, store_compute: FailingCompute
    ) -> None:
        """Each call into the framework's executor fails once."""
        store = session.store
        others: dict[FragmentKey, bytes] = {}
        for number in count(1):
            known, meant = key(number), content(number, 4_000)
            returned = True
            with store_compute.failing(number):
                try:
                    await put(store, known, meant, size=1_500)
                except Exception:
                    assert store_compute.failed, "it fails of itself"
                    returned = False
                came = store_compute.failed
            is_there = await _agree(store, known, meant, others)
            assert is_there or not returned, "a put returned, and nothing of it is stored"
            await _agree(await session.reopen(), known, meant, others)
            store = session.store
            await put(store, known, meant)
            others[known] = meant
            await check(store, others)
            if not came:
                break

    async def test_an_opening_that_is_cut_short_keeps_nobody_out(
        self, stores: Factory, store_compute: FailingCompute
    ) -> None:
        async def cancelled(number: int) -> bool:
            store = stores()
            if await cancelled_at(number, store.__aenter__()):
                return True
            await store.__aexit__(None, None, None)
            return False

        async def failed(number: int) -> bool:
            store = stores()
            with store_compute.failing(number):
                try:
                    await store.__aenter__()
                except Exception:
                    assert store_compute.failed, "it fails of itself"
                    return True
            await store.__aexit__(None, None, None)
            return False

        for cut in (cancelled, failed):
            for number in count(1):
                came = await cut(number)
                async with asyncio.timeout(SECONDS), stores() as store:
                    known = key(number)
                    await put(store, known, content(number))
                    assert await whole(store, known) == content(number)
                    assert await store.delete(known)
                if not came:
                    break
