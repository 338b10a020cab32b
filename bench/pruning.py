"""What a city's storage takes before and after pruning, by storage; prints JSON.

    python bench/pruning.py [--transactions 20000] [--storage sqlite mongodb]

A server process is sent data transactions by 64 keys, archives them on four folders of a disk, and
is stopped. ``citychain prune --dry-run`` then says how much is due, and ``citychain prune`` lets it
go. Bytes are those of the whole storage, as ``citychain db stats`` has them: files of SQLite,
closed; what MongoDB says of its database. ``dry_seconds`` and ``seconds`` are of these processes
from start to end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _mongodb import Database, database

from citychain.cli.bench.load import presign, run_load
from citychain.cli.server_process import ServerProcess
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.crypto.signatures import SigningKey

CONFIG = """\
operator_key = "operator.key"
retention = "1s"
[server]
listen = "127.0.0.1:0"
[plugins]
allow = []
[archive]
every = "1s"
[cities.town]
storage = "{storage}"
"""
STORE = """\
[fragments.stores.{name}]
kind = "directory"
path = "{name}"
"""
MONGODB = """\
[storage.shared]
backend = "mongodb"
uri = "{database.uri}"
database = "{database.name}"
"""
STORES = ("north", "east", "south", "west")


async def fill(place: Path, count: int) -> None:
    """Have so many approved and archived."""
    create_key(place / "operator.key")
    server = ServerProcess(place)
    await server.start()
    try:
        async with CityClient("town", ChannelFactory([server.address])) as city:
            genesis = (await city.info()).genesis
            signers = [SigningKey(bytes([number]) * 32) for number in range(64)]
            for by_value, some in ((True, 64), (False, count - 64)):
                load = presign(genesis, signers, some, by_value=by_value)
                await run_load([server.address], [("town", load)])
            last = (await city.info()).head.certified_round
            while (await city.info()).archived_round < last:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    finally:
        await server.stop()


def prune(place: Path, *options: str) -> tuple[dict[str, Any], float]:
    """What the command says at its end, and how long it took."""
    command = (sys.executable, "-m", "citychain", "prune", "--city", "town", "--json", *options)
    began = time.perf_counter()
    done = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began


def measure(place: Path, storage: str, where: Database | None, count: int) -> dict[str, Any]:
    """One storage."""
    config = CONFIG.format(storage="shared" if where else storage)
    config += "".join(STORE.format(name=name) for name in STORES)
    (place / "citychain.toml").write_text(
        config + (MONGODB.format(database=where) if where is not None else "")
    )
    for name in STORES:
        (place / name).mkdir()
    asyncio.run(fill(place, count))
    time.sleep(2)  # Until the last segment is old enough.
    due, dry_seconds = prune(place, "--dry-run")
    pruned, seconds = prune(place)
    return {
        "kind": where.kind if where is not None else storage,
        "transactions": pruned["transactions"],
        "segments": pruned["segments"],
        "due_bytes": due["bytes"],
        "bytes_before": pruned["storage_bytes_before"],
        "bytes_after": pruned["storage_bytes"],
        "dry_seconds": round(dry_seconds, 1),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--storage", nargs="*", default=["sqlite", "mongodb"])
    options = parser.parse_args()
    figures = {}
    for storage in options.storage:
        with ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            where = stack.enter_context(database()) if storage == "mongodb" else None
            figures[storage] = measure(place, storage, where, options.transactions)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
