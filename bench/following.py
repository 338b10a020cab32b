"""How soon a server that was away is at the head again, and one that takes over at work; JSON.

    python bench/following.py [--transactions 10000] [--pending 4000]

Server processes on this machine, on MongoDB (`_mongodb.database`).

``catching_up``: a server that follows the city is stopped (SIGSTOP) while another one seals the
transactions, in rounds of two sizes, and goes on (SIGCONT). ``per_second`` counts from then until
it stands at the head; ``first_seconds`` until it has read its first round; ``cpu_us`` is its
processor time a transaction. ``watched``: beside it a client watches everything through it, and
waits for the last.

``opening``: new servers in turn, each of which opens one city: one without a transaction, and the
ones with all. ``answers_seconds`` is from asking until the first answer, ``approved_seconds`` until
the first transaction, submitted after that, is approved.

``taking_over``: the leader is stopped, and the follower receives other transactions until the lease
of `LONG_LEASE` is over. ``seconds`` are from the first round of who leads then until all are
approved; ``resident_mib_max`` is the most memory that it had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from _mongodb import Database, database

from citychain.cli.bench.load import presign, run_load
from citychain.cli.bench.process import Usage
from citychain.cli.server_process import ServerProcess
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.crypto.signatures import SigningKey
from citychain.types import Head

LEASE = 3.0
LONG_LEASE = 30.0
"""Seconds: long enough to send all that is to be pending."""
SETTLE = 1.0
"""Seconds before a server is stopped: one that is stopped while it looks rests after it."""
CONFIG = """\
operator_key = "operator.key"
[server]
listen = "127.0.0.1:0"
[plugins]
allow = []
[cluster]
lease_seconds = {lease}
[pacer]
min_seconds = 0.05
max_seconds = 0.2
max_tx = {round}
[limits]
pending_transactions = 100_000
author_pending = 100_000
[storage.shared]
backend = "mongodb"
uri = "{database.uri}"
database = "{database.name}"
"""
CITY = """
[cities.{city}]
storage = "shared"
"""
CITIES = {"large": 2_000, "small": 50, "empty": 2_000}
"""By slug how many transactions a round may have; but for the last, which has none."""
PATIENT = timedelta(minutes=10)
KEYS = [SigningKey(secrets.token_bytes(32)) for _ in range(16)]


class Bench:
    """Servers of the same cities, each in a directory of its own."""

    def __init__(self, place: Path, where: Database) -> None:
        self._place = place
        self._where = where
        self._count = 0
        create_key(place / "operator.key")

    @asynccontextmanager
    async def server(self, round: int, lease: float = LEASE) -> AsyncIterator[ServerProcess]:
        """One more; ``round`` is how many transactions its rounds may have."""
        self._count += 1
        folder = self._place / f"server-{self._count}"
        folder.mkdir()
        shutil.copy(self._place / "operator.key", folder)
        text = CONFIG.format(lease=lease, round=round, database=self._where)
        text += "".join(CITY.format(city=city) for city in CITIES)
        (folder / "citychain.toml").write_text(text)
        server = ServerProcess(folder)
        try:
            await server.start()
            yield server
        finally:
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)
            await server.stop()


def client(server: ServerProcess, city: str) -> CityClient:
    """Of one server alone."""
    return CityClient(city, ChannelFactory([server.address]), timeout=PATIENT)


def usage(server: ServerProcess) -> Usage:
    """Of a server that runs."""
    assert server.pid is not None
    return Usage.of(server.pid)


async def reach(city: CityClient, round: int) -> float:
    """Wait until a server stands at a round, approved; when, by the performance counter."""
    while True:
        if (await city.info()).head.certified_round >= round:
            return time.perf_counter()
        await asyncio.sleep(0.01)


async def reach_size(city: CityClient, size: int) -> Head:
    """Wait until a city has so many transactions."""
    while True:
        if (head := (await city.info()).head).size >= size:
            return head
        await asyncio.sleep(0.01)


async def catch_up(bench: Bench, city: str, count: int, *, watched: bool) -> dict[str, Any]:
    """One server away while another one seals so many."""
    async with (
        bench.server(CITIES[city]) as leader,
        client(leader, city) as asked,
    ):
        genesis = (await asked.info()).genesis
        await send(leader, city, genesis, 1)
        async with bench.server(CITIES[city]) as away, client(away, city) as behind:
            first = (await behind.info()).head.round
            await asyncio.sleep(SETTLE)
            before = usage(away)
            assert away.pid is not None
            os.kill(away.pid, signal.SIGSTOP)
            await send(leader, city, genesis, count)
            last = (await asked.info()).head.round
            began = time.perf_counter()
            os.kill(away.pid, signal.SIGCONT)
            watching = asyncio.create_task(watch(behind, first, last)) if watched else None
            moved = await reach(behind, first + 1) - began
            took = await reach(behind, last) - began
            if watching is not None:
                took = await watching - began
            after = usage(away)
    return {
        "transactions": count,
        "rounds": last - first,
        "first_seconds": round(moved, 2),
        "seconds": round(took, 2),
        "per_second": round(count / took),
        "rounds_per_second": round((last - first) / took, 1),
        "cpu_us": round(1e6 * (after.cpu_seconds - before.cpu_seconds) / count),
        "resident_mib": mib(after),
    }


async def watch(city: CityClient, first: int, last: int) -> float:
    """Be told of everything up to a round; when, by the performance counter."""
    async for batch in city.watch(after=first):
        if batch.events and batch.events[-1].round >= last:
            break
    return time.perf_counter()


async def send(
    server: ServerProcess, city: str, genesis: bytes, count: int, *, until_approved: bool = True
) -> None:
    """So many transactions; their keys come with them."""
    load = [(city, presign(genesis, KEYS, count, by_value=True))]
    await run_load([server.address], load, until_approved=until_approved)


async def opening(bench: Bench, city: str) -> dict[str, Any]:
    """A new server, which opens the city and leads it."""
    async with bench.server(CITIES[city]) as server, client(server, city) as asked:
        began = time.perf_counter()
        info = await asked.info()
        answered = time.perf_counter() - began
        began = time.perf_counter()
        await send(server, city, info.genesis, 1)
        approved = time.perf_counter() - began
        return {
            "transactions": info.head.size,
            "rounds": info.head.round,
            "answers_seconds": round(answered, 3),
            "approved_seconds": round(approved, 3),
            "resident_mib": mib(usage(server)),
        }


async def taking_over(bench: Bench, city: str, count: int) -> dict[str, Any]:
    """The leader is gone while many are pending."""
    async with bench.server(CITIES[city], LONG_LEASE) as leader, client(leader, city) as asked:
        genesis = (await asked.info()).genesis
        await send(leader, city, genesis, 1)
        async with bench.server(CITIES[city], LONG_LEASE) as other, client(other, city) as asked:
            size = (await asked.info()).head.size
            assert leader.pid is not None
            os.kill(leader.pid, signal.SIGSTOP)
            await send(other, city, genesis, count, until_approved=False)
            assert (await asked.info()).head.size == size, "the lease was over before"
            await reach_size(asked, size + 1)
            began = time.perf_counter()
            head = await reach_size(asked, size + count)
            took = await reach(asked, head.round) - began
            used = usage(other)
            await leader.kill()
            return {
                "pending": count,
                "seconds": round(took, 2),
                "resident_mib": mib(used),
                "resident_mib_max": round(used.resident_bytes_max / 2**20),
            }


def mib(used: Usage) -> int:
    """Memory that a process has now."""
    return round(used.resident_bytes / 2**20)


async def measure(place: Path, where: Database, options: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    bench = Bench(place, where)
    catching_up = {}
    for city in ("large", "small"):
        for watched in (False, True):
            name = f"rounds of {CITIES[city]}" + ", watched" * watched
            print(name, file=sys.stderr)
            count = options.transactions
            catching_up[name] = await catch_up(bench, city, count, watched=watched)
    return {
        "catching_up": catching_up,
        "opening": [await opening(bench, city) for city in ("empty", "large", "small")],
        "taking_over": await taking_over(bench, "empty", options.pending),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--transactions", type=int, default=10_000)
    parser.add_argument("--pending", type=int, default=4_000)
    options = parser.parse_args()
    with database() as where, tempfile.TemporaryDirectory() as place:
        figures = asyncio.run(measure(Path(place), where, options))
        figures |= {"database": where.kind, "load_average": os.getloadavg()}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
