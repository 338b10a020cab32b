"""How far the archive is behind at full load, what it costs, and how fast a city is rebuilt; JSON.

    python bench/archive.py [--transactions 20000] [--folder DIR]

A server process on SQLite and four folders of one disk, 2 + 2. It is given the transactions as fast
as it takes them, twice: ``without`` an archive, ``with`` one that closes segments at 8 MiB.
``per_second`` are transactions approved; ``cpu_us`` is the server's processor time for each.
``lag_rounds`` and ``lag_mib`` are the most that was approved and not archived, looked at every
`LOOK` seconds; ``lag_at_end_mib`` of these when the last was approved; ``caught_up_seconds`` from
then until less than a segment is left. ``rebuilt`` is the command alone, in a process of its own,
from two of the four folders, up to the last round that was archived.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from citychain.cli.bench.load import presign, run_load
from citychain.cli.bench.process import Usage
from citychain.cli.server_process import ServerProcess
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.crypto.signatures import SigningKey

LOOK = 0.1
PATIENT = timedelta(minutes=10)
SEGMENT_MIB = 8
KEYS = [SigningKey(secrets.token_bytes(32)) for _ in range(16)]
CONFIG = """\
operator_key = "operator.key"
[server]
listen = "127.0.0.1:0"
[plugins]
allow = []
[limits]
pending_transactions = 100_000
author_pending = 100_000
[archive]
enabled = {enabled}
[cities.tokyo]
storage = "sqlite"
""" + "".join(
    f"""
[fragments.stores.disk-{number}]
kind = "directory"
path = "disk-{number}"
"""
    for number in range(4)
)


@dataclass
class Lag:
    """What is approved and not archived."""

    bytes_each: float
    """Of a segment, for each transaction: envelope, its part of the record, and so on."""
    rounds: int = 0
    size: int = 0

    async def look(self, client: CityClient, sizes: dict[int, int]) -> int:
        """Transactions that are not archived now."""
        info = await client.info()
        sizes[info.head.round] = info.head.size
        archived = max((it for it in sizes if it <= info.archived_round), default=0)
        waiting = info.head.size - sizes.get(archived, 0)
        self.rounds = max(self.rounds, info.head.certified_round - info.archived_round)
        self.size = max(self.size, waiting)
        return waiting

    def mib(self, transactions: int) -> float:
        return round(transactions * self.bytes_each / (1 << 20), 1)


def prepare(place: Path, *, archived: bool) -> None:
    place.mkdir()
    create_key(place / "operator.key")
    for number in range(4):
        (place / f"disk-{number}").mkdir()
    (place / "citychain.toml").write_text(CONFIG.format(enabled=str(archived).lower()))


async def run(place: Path, count: int, *, archived: bool) -> dict[str, Any]:
    """Send so many, and watch the archive meanwhile."""
    prepare(place, archived=archived)
    server = ServerProcess(place)
    await server.start()
    try:
        channels = ChannelFactory([server.address])
        async with CityClient("tokyo", channels, timeout=PATIENT) as client:
            genesis = (await client.info()).genesis
            (place / "tokyo.json").write_bytes((await client.info()).genesis_file)
            warm = presign(genesis, KEYS, 64, by_value=True)
            await run_load([server.address], [("tokyo", warm)])
            items = presign(genesis, KEYS, count, by_value=True)
            lag = Lag(sum(len(envelope) for _, envelope in items[:100]) / 100 - 2_560)
            sizes = {0: 0}
            assert server.pid is not None
            before = Usage.of(server.pid)

            async def watch() -> None:
                while True:
                    await lag.look(client, sizes)
                    await asyncio.sleep(LOOK)

            watching = asyncio.create_task(watch())
            sent = await run_load([server.address], [("tokyo", items)])
            at_end, ended = await lag.look(client, sizes), time.perf_counter()
            found = {
                "per_second": round(count / sent.seconds_approved),
                "cpu_us": round(
                    1e6 * (Usage.of(server.pid).cpu_seconds - before.cpu_seconds) / count
                ),
            }
            if archived:
                await catch_up(client, lag, sizes)
                found |= {
                    "lag_rounds": lag.rounds,
                    "lag_mib": lag.mib(lag.size),
                    "lag_at_end_mib": lag.mib(at_end),
                    "caught_up_seconds": round(time.perf_counter() - ended, 1),
                    "archived_round": (await client.info()).archived_round,
                }
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    finally:
        await server.stop()
    return found


async def catch_up(client: CityClient, lag: Lag, sizes: dict[int, int]) -> None:
    """Wait until less than a segment is left."""
    while True:
        if lag.mib(await lag.look(client, sizes)) < SEGMENT_MIB:
            return
        await asyncio.sleep(LOOK)


async def rebuild(place: Path) -> dict[str, Any]:
    """Lose the storage and two of the folders, and rebuild the city."""
    shutil.rmtree(place / "data")
    for number in (0, 2):
        shutil.rmtree(place / f"disk-{number}")
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "citychain", "rebuild", "--city", "tokyo"),
        *("--genesis", "tokyo.json", "--config", "citychain.toml", "--json"),
        cwd=place,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    took = time.perf_counter() - began
    told = json.loads(out)
    return {
        "transactions": told["transactions"],
        "segments": told["segments"],
        "seconds": round(took, 1),
        "per_second": round(told["transactions"] / took),
    }


async def measure(folder: Path, count: int) -> None:
    without = await run(folder / "without", count, archived=False)
    print(json.dumps({"without": without}), flush=True)
    print(json.dumps({"with": await run(folder / "with", count, archived=True)}), flush=True)
    print(json.dumps({"rebuilt": await rebuild(folder / "with")}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        asyncio.run(measure(Path(folder), arguments.transactions))


if __name__ == "__main__":
    main()
