"""Bare figures of the SQLite backend: durable appends, commits, look-ups; prints JSON.

    python bench/storage.py [--stored 10000 100000 1000000] [--directory DIR]

One city; envelopes of 4,927 bytes (an ML-DSA-87 signature and a 300-byte body),
rounds of 2,000 transactions with three parents each, 50,000 authors. Rates are
medians over batches; CPU is of the whole process without what makes the rounds;
bytes are what the process sent to the disk (``/proc/self/io``), in ``append`` and
``commit`` with the closing checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import apsw

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.ports import StorageContext
from citychain.storage.sqlite import SqliteBackend, SqliteCity, SqliteOptions
from citychain.types import NodeRef, RawTransaction, SealedRound

ENVELOPE_BYTES = 4927
ROUND = 2000
BATCH = 1000
GENESIS = bytes(32)


@dataclass
class Phase:
    """Measures a number of batches, and what they cost together."""

    batch: int
    seconds: list[float] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> Phase:
        self._before = _costs()
        return self

    def __exit__(self, *exc_info: object) -> None:
        count = self.batch * len(self.seconds)
        after = _costs()
        self.costs = {key: round((after[key] - self._before[key]) / count, 1) for key in after}

    async def run(self, call: Awaitable[Any]) -> Any:
        """Time one batch."""
        began = time.perf_counter()
        result = await call
        self.seconds.append(time.perf_counter() - began)
        return result

    def report(self) -> dict[str, float]:
        """Rates and costs a transaction."""
        return {
            "tx_per_s": round(self.batch / statistics.median(self.seconds)),
            "tx_per_s_mean": round(self.batch * len(self.seconds) / sum(self.seconds)),
            "slowest_batch_ms": round(1000 * max(self.seconds), 1),
            **self.costs,
        }


def _costs() -> dict[str, float]:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return {
        "bytes_written_per_tx": float(fields["write_bytes"]),
        "cpu_us_per_tx": time.process_time() * 1e6,
    }


class Load:
    """Makes transactions and rounds, and remembers nodes to be parents."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._authors = [os.urandom(32) for _ in range(50_000)]
        self._envelope = os.urandom(1 << 20)
        self._round = 0
        self._size = 0
        self._tips = [NodeRef(0, 0, GENESIS)]
        self._previous: dict[bytes, NodeRef] = {}
        self.cpu_us = 0.0
        """Spent on making rounds."""

    def transactions(self, count: int, size: int) -> list[RawTransaction]:
        """New ones."""
        pick = self._random.randrange
        return [
            RawTransaction(
                os.urandom(32),
                self._authors[pick(len(self._authors))],
                self._envelope[(at := pick(1 << 19)) : at + size],
            )
            for _ in range(count)
        ]

    def round(self, transactions: list[RawTransaction]) -> SealedRound:
        """The next round: parents are the author's previous node and two tips."""
        began = time.thread_time()
        sealed = self._make_round(transactions)
        self.cpu_us += (time.thread_time() - began) * 1e6
        return sealed

    def _make_round(self, transactions: list[RawTransaction]) -> SealedRound:
        self._round += 1
        count = len(transactions)
        node_ids = [os.urandom(32) for _ in range(count)]
        parents = []
        for seq, (transaction, node_id) in enumerate(zip(transactions, node_ids, strict=True)):
            chosen = dict.fromkeys(self._random.choices(self._tips, k=2))
            if (previous := self._previous.get(transaction.author)) is not None:
                chosen[previous] = None
            parents.append(tuple(chosen))
            self._previous[transaction.author] = NodeRef(self._round, seq, node_id)
        self._tips = [NodeRef(self._round, seq, id) for seq, id in enumerate(node_ids)]
        self._size += count
        return SealedRound(
            round=self._round,
            time_ms=self._round,
            epoch=0,
            first_index=self._size - count,
            record=os.urandom(40 * count),
            checkpoint=bytes(400),
            checkpoint_hash=bytes(32),
            transactions=cast(Any, transactions),
            verdicts=[None] * count,
            node_ids=node_ids,
            parents=parents,
            pops=None,
            held=(),
            writes=(),
            leaf_hashes=os.urandom(32 * count),
            peaks=bytes(320),
        )


Open = Callable[[], SqliteBackend]


async def fill(backend: Open, load: Load, count: int) -> None:
    """Store transactions, with empty envelopes, and seal them."""
    async with backend() as engine:
        city = await engine.city(GENESIS, b"", ())
        for _ in range(0, count, ROUND):
            batch = load.transactions(ROUND, 0)
            await city.append(batch, {})
            await city.commit(load.round(batch))


async def measure(backend: Open, load: Load, batches: int) -> dict[str, Any]:
    """Append, commit and look up at the present size."""
    received = load.transactions(batches * BATCH, ENVELOPE_BYTES)
    with Phase(BATCH) as append:
        async with backend() as engine:
            city = await engine.city(GENESIS, b"", ())
            for begin in range(0, len(received), BATCH):
                await append.run(city.append(received[begin : begin + BATCH], {}))
    rounds = [load.round(received[i : i + ROUND]) for i in range(0, len(received), ROUND)]
    with Phase(ROUND) as commit:
        async with backend() as engine:
            city = await engine.city(GENESIS, b"", ())
            for sealed in rounds:
                await commit.run(city.commit(sealed))
    async with backend() as engine:
        city = await engine.city(GENESIS, b"", ())
        misses, hits = Phase(BATCH), Phase(BATCH)
        with misses, hits:
            for _ in range(10):
                await misses.run(city.find([os.urandom(32) for _ in range(BATCH)]))
                ids = [t.tx_id for t in random.sample(received, BATCH)]
                assert len(await hits.run(city.find(ids))) == BATCH
        road = await together(city, load, batches * BATCH)
    return {
        "append": append.report(),
        "commit": commit.report(),
        "find_misses_per_s": misses.report()["tx_per_s"],
        "find_hits_per_s": hits.report()["tx_per_s"],
        "together": road,
    }


async def together(city: SqliteCity, load: Load, count: int) -> dict[str, float]:
    """Intake in batches of 100, eight at a time, while rounds are sealed behind it."""
    received = load.transactions(count, ENVELOPE_BYTES)
    acknowledged: asyncio.Queue[list[RawTransaction]] = asyncio.Queue()
    batches = iter([received[i : i + 100] for i in range(0, count, 100)])
    latencies: list[float] = []

    async def client() -> None:
        for batch in batches:
            began = time.perf_counter()
            await city.append(batch, {})
            latencies.append(time.perf_counter() - began)
            acknowledged.put_nowait(batch)

    async def sequencer() -> None:
        sealed = 0
        while sealed < count:
            batch: list[RawTransaction] = []
            while len(batch) < min(ROUND, count - sealed):
                batch += await acknowledged.get()
            await city.commit(load.round(batch))
            sealed += len(batch)

    before, began, making = _costs(), time.perf_counter(), load.cpu_us
    await asyncio.gather(sequencer(), *(client() for _ in range(8)))
    seconds, after = time.perf_counter() - began, _costs()
    after["cpu_us_per_tx"] -= load.cpu_us - making
    return {
        "tx_per_s": round(count / seconds),
        "append_p50_ms": round(1000 * statistics.median(latencies), 1),
        "append_p99_ms": round(1000 * statistics.quantiles(latencies, n=100)[-1], 1),
        **{key: round((after[key] - before[key]) / count, 1) for key in after},
    }


@contextlib.contextmanager
def busy_thread() -> Any:
    """A thread that holds the interpreter whenever it can, as a busy event loop does."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def beside_a_busy_thread(backend: Open, load: Load, directory: Path) -> dict[str, float]:
    """Commits while another thread wants the interpreter; as many rows in one step and in many."""
    async with backend() as engine:
        city = await engine.city(GENESIS, b"", ())
        commit = Phase(ROUND)
        for _ in range(10):
            batch = load.transactions(ROUND, 0)
            await city.append(batch, {})
            sealed = load.round(batch)
            with busy_thread():
                await commit.run(city.commit(sealed))
    figures = {"commit_ms": round(1000 * statistics.median(commit.seconds), 1)}
    connection = apsw.Connection(str(directory / "rows.db"))
    connection.execute("CREATE TABLE ids (id BLOB PRIMARY KEY, place INTEGER) WITHOUT ROWID")
    rows = [(os.urandom(8), place) for place in range(7 * ROUND)]

    def one_statement() -> None:
        values = ",".join(["(?,?)"] * len(rows))
        bindings: list[int | bytes] = list(itertools.chain.from_iterable(rows))
        connection.execute(f"INSERT INTO ids VALUES {values}", bindings)

    def executemany() -> None:
        connection.executemany("INSERT INTO ids VALUES (?,?)", rows)

    for insert in (one_statement, executemany):
        for beside, run in (("alone", contextlib.nullcontext), ("busy", busy_thread)):
            seconds = []
            for _ in range(7):
                connection.execute("BEGIN")
                with run():
                    began = time.perf_counter()
                    await asyncio.to_thread(insert)
                    seconds.append(time.perf_counter() - began)
                connection.execute("ROLLBACK")
            figures[f"{insert.__name__}_{beside}_ms"] = round(1000 * statistics.median(seconds), 1)
            figures[f"{insert.__name__}_{beside}_worst_ms"] = round(1000 * max(seconds), 1)
    connection.close()
    return figures


def disk(directory: Path) -> dict[str, float]:
    """What the disk takes to sync one page more, and a batch of envelopes more."""
    result = {}
    for size in (4096, BATCH * ENVELOPE_BYTES):
        data, seconds = os.urandom(size), []
        with (directory / "disk").open("wb", buffering=0) as file:
            for _ in range(20):
                began = time.perf_counter()
                file.write(data)
                os.fdatasync(file.fileno())
                seconds.append(time.perf_counter() - began)
        result[f"sync_{size}_bytes_ms"] = round(1000 * statistics.median(seconds), 2)
    return result


async def main() -> None:
    """Measure at each size and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=40, help="of 1,000 transactions")
    parser.add_argument("--checkpoint-mib", type=int, default=None)
    parser.add_argument("--directory", type=Path, help="on the disk to measure")
    arguments = parser.parse_args()
    options = (
        SqliteOptions()
        if arguments.checkpoint_mib is None
        else SqliteOptions(checkpoint_mib=arguments.checkpoint_mib)
    )
    directory = Path(tempfile.mkdtemp(dir=arguments.directory))
    result: dict[str, Any] = {"disk": disk(directory)}
    try:
        async with Executor() as compute:
            context = StorageContext(directory / "storage", compute, SystemClock())
            load = Load()
            for stored in arguments.stored:
                await fill(lambda: SqliteBackend(options, context), load, stored - load._size)
                figures = await measure(
                    lambda: SqliteBackend(options, context), load, arguments.batches
                )
                result[f"stored_{stored}"] = figures
            result["beside_a_busy_thread"] = await beside_a_busy_thread(
                lambda: SqliteBackend(options, context), load, directory
            )
    finally:
        shutil.rmtree(directory)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
