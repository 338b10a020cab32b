"""Fragment store tests: processes that are killed while they put.

The test starts itself in another process (`Elsewhere`), which puts fragments, several at a time,
and says which calls have returned. It is killed at some moment; then what was said must be in the
store, and nothing that is not whole. The next process goes on from there.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import ClassVar, Final

from citychain.hooks.definitions import FragmentStoreDefinition
from citychain.ports import FragmentKey, FragmentStore
from citychain.testing.conformance._elsewhere import Elsewhere
from citychain.testing.conformance._fragments_session import (
    Factory,
    StoreSession,
    check,
    content,
    key,
    put,
)

__all__ = ["KilledTests"]

SIZE: Final = 30_000
PART: Final = 4_096
LINES: Final = 60
"""What a process says before it is killed, at most."""
AT_ONCE: Final = 4
PUTS: Final = 600
"""By one process, at most; some more than it is waited for."""


async def _put_until_killed(stores: Factory, place: Path) -> None:
    parent = os.getppid()
    with place.open("ab", buffering=0) as said:  # One write a line: a kill leaves whole ones.
        async with stores() as store:
            numbers, left = count(), iter(range(PUTS))

            async def work() -> None:
                for number in _until(numbers, parent):
                    if await store.size(key(number)) is None:
                        if next(left, None) is None:
                            return
                        await put(store, key(number), content(number, SIZE), size=PART)
                        said.write(b"%d\n" % number)

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        while os.getppid() == parent:
            await asyncio.sleep(0.05)


def _until(numbers: Iterator[int], parent: int) -> Iterator[int]:
    """Numbers, as long as somebody waits for what comes of it."""
    for number in numbers:
        if os.getppid() != parent:
            return
        yield number


def _numbers(known: set[int]) -> dict[FragmentKey, int]:
    """The numbers of what there can be after the next kill, by key."""
    return {key(number): number for number in range(len(known) + PUTS + AT_ONCE)}


async def _judge(store: FragmentStore, said: set[int], known: set[int]) -> set[int]:
    """Look at the store after a kill; the numbers of what is there.

    What was known are all numbers up to some one; each process goes on from there.
    """
    numbers = _numbers(known)
    listed: list[FragmentKey] = []
    while page := await store.keys(listed[-1] if listed else None, 100):
        listed += page
    there = {numbers[found] for found in listed}
    lost = sorted((said | known) - there)
    assert not lost, f"put returned for these fragments, which a kill has lost: {lost[:5]}"
    await check(store, {key(number): content(number, SIZE) for number in there})
    return there


class KilledTests:
    """Part of `FragmentStoreSuite`."""

    kills: ClassVar[int]

    async def test_what_was_put_survives_a_kill(
        self,
        definition: FragmentStoreDefinition,
        stores: Factory,
        store_directory: Path,
        elsewhere: Elsewhere,
    ) -> None:
        """Kills a process at random moments while it puts; what it had not put whole is not there,
        takes no room, and can be put."""
        StoreSession(stores, definition).need_durable()
        if elsewhere.place is not None:
            await _put_until_killed(stores, elsewhere.place)
            return
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        moments = random.Random(seed)
        place = store_directory.with_name("said")
        known: set[int] = set()
        for _ in range(self.kills):
            place.unlink(missing_ok=True)
            await elsewhere.kill_after(place, moments.randint(1, LINES), moments.uniform(0, 0.02))
            said = {int(line) for line in place.read_text().splitlines()}
            async with stores() as store:
                known = await _judge(store, said, known)
                for number in set(range(max(known) + 1)) - known:
                    await put(store, key(number), content(number, SIZE), size=PART)
                    known.add(number)
                await _judge(store, set(), known)
