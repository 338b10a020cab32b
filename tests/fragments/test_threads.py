"""Threads of a store's own where the system gives none."""

from __future__ import annotations

import asyncio
import threading

import pytest

from citychain.fragments._threads import Threads


async def test_threads_that_could_not_be_started_are_started_later() -> None:
    threads = Threads("test", 2)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start"):
                await threads(int)
    async with asyncio.timeout(120):
        assert await threads(int, "7") == 7
    threads.close()


async def test_what_finds_no_thread_of_its_own_waits_for_one_that_runs() -> None:
    threads, go_on = Threads("test", 2), threading.Event()

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first = asyncio.create_task(threads(go_on.wait, 60))
    await asyncio.sleep(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        second = asyncio.create_task(threads(int, "7"))
        await asyncio.sleep(0)
    go_on.set()
    assert await first
    assert await second == 7
    threads.close()
