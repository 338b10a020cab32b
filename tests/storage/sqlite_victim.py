"""A process that writes until it is killed, and says what was acknowledged.

    python sqlite_victim.py DIRECTORY BATCHES ROUNDS

It goes on after so many batches and rounds. Batch and round ``n`` always have
the same content, so whoever reads the storage afterwards can tell what is
missing. Lines of its output: ``open``, ``batch n``, ``round n``.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.ports import CityStorage, StorageContext
from citychain.storage.sqlite import SqliteBackend, SqliteOptions
from citychain.types import NodeRef, ObjectWrite, RawTransaction, SealedRound

GENESIS = bytes(range(32))
BATCH = 20


def batch(number: int) -> list[RawTransaction]:
    """Batch ``number``, from 1."""
    source = random.Random(number)
    return [
        RawTransaction(source.randbytes(32), source.randbytes(32), source.randbytes(2000))
        for _ in range(BATCH)
    ]


def round_of(number: int) -> SealedRound:
    """Round ``number``, from 1: it seals the batch of the same number."""
    source = random.Random(-number)
    return SealedRound(
        round=number,
        time_ms=number,
        epoch=0,
        first_index=BATCH * (number - 1),
        record=source.randbytes(5000),
        checkpoint=source.randbytes(300),
        checkpoint_hash=source.randbytes(32),
        transactions=cast(Any, batch(number)),
        verdicts=[None] * BATCH,
        node_ids=[source.randbytes(32) for _ in range(BATCH)],
        parents=[(NodeRef(0, 0, GENESIS),)] * BATCH,
        pops=None,
        held=(),
        writes=[ObjectWrite("round", number, b"%d" % number)],
        leaf_hashes=source.randbytes(32 * BATCH),
        peaks=source.randbytes(64),
    )


def storage_context(directory: Path, compute: Executor) -> StorageContext:
    """As the framework would give it."""
    return StorageContext(directory, compute, SystemClock())


def say(line: str) -> None:
    """One write, so that a kill cannot leave half a line."""
    os.write(1, f"{line}\n".encode())


@dataclass
class Counter:
    """The last number given out."""

    value: int

    def next(self) -> int:
        """The next number."""
        self.value += 1
        return self.value


async def append_for_ever(city: CityStorage, numbers: Counter, stored: asyncio.Queue[int]) -> None:
    """Append one batch after the other."""
    while True:
        number = numbers.next()
        await city.append(batch(number), {number.to_bytes(32): b"%d" % number})
        say(f"batch {number}")
        stored.put_nowait(number)


async def commit_for_ever(city: CityStorage, rounds: int, stored: asyncio.Queue[int]) -> None:
    """Seal each batch once it is stored."""
    waiting = set(range(rounds + 1, stored.qsize() + 1))
    while True:
        rounds += 1
        while rounds not in waiting:
            waiting.add(await stored.get())
        await city.commit(round_of(rounds))
        say(f"round {rounds}")


async def main(directory: Path, batches: int, rounds: int) -> None:
    """Write for ever; a small log makes for many checkpoints."""
    async with Executor(2) as compute:
        context = storage_context(directory, compute)
        async with SqliteBackend(SqliteOptions(checkpoint_mib=1), context) as backend:
            city = await backend.city(GENESIS, b"", ())
            say("open")
            numbers = Counter(batches)
            stored: asyncio.Queue[int] = asyncio.Queue()
            for number in range(rounds + 1, batches + 1):
                stored.put_nowait(number)
            await asyncio.gather(
                *(append_for_ever(city, numbers, stored) for _ in range(4)),
                commit_for_ever(city, rounds, stored),
            )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
