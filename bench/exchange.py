"""Amounts from a city on one server to a city on another; prints JSON.

    python bench/exchange.py [--remittances 2000] [--storage sqlite memory mongodb]

Two server processes on this machine, each with a city, one key a committee, rounds of 0.1 to 0.5
seconds. For each storage: on MongoDB (`_mongodb.database`) each city has a database of its own.
All amounts are submitted at once. ``per_second`` counts from then until the last one is delivered,
that is until the receiving city's certified receipt is certified in the sending city;
``approved_per_second`` until all are in escrow. ``seconds`` are of one amount alone, from
submitting it to its delivery: the median of five. ``cpu_ms`` is what both servers took for each,
together and each alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from _mongodb import Database, database

from citychain.cli.bench.process import Usage
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key, load_key
from citychain.client.transactions import sign_batch, transaction_body
from citychain.crypto.keys import key_id
from citychain.genesis import balance_object, escrow_account
from citychain.types import Remittance

CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.1
max_seconds = 0.5
[limits]
pending_transactions = 100_000
author_pending = 100_000
[cities.{city}]
storage = "{storage}"
[peers.{other}]
endpoints = ["{address}"]
genesis = "../{other}/data/genesis/{other}.json"
"""
MONGODB = """\
[storage.shared]
backend = "mongodb"
uri = "{database.uri}"
database = "{database.name}-{city}"
"""
STORAGES = ("sqlite", "memory", "mongodb")
PATIENT = timedelta(minutes=10)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def command(*arguments: str, cwd: Path) -> None:
    """Run a command of citychain to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "citychain", *arguments, cwd=cwd, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0, arguments


@asynccontextmanager
async def serving(folder: Path, address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server process."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "citychain", "serve", "--config", "citychain.toml"),
            *("--listen", address, "--ready-file", "ready"),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        while not (folder / "ready").exists():
            assert process.returncode is None, (folder / "log").read_text()
            await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def until(holds: Callable[..., Awaitable[bool]], *arguments: object) -> None:
    """Look again and again until something holds."""
    while True:
        if await holds(*arguments):
            return
        await asyncio.sleep(0.1)  # Looking costs the server a little.


async def pinned(client: CityClient) -> bool:
    """Whether a city has its peer in its ledger."""
    return any(peer.pinned for peer in await client.peers())


async def emptied(client: CityClient, escrow: bytes) -> bool:
    """Whether nothing is in escrow any more, by certified rounds."""
    name = balance_object("coin", escrow)
    if int.from_bytes((await client.objects([name]))[name].value, "big"):
        return False
    return not any(peer.pending for peer in await client.peers())


async def measure(
    folder: Path, remittances: int, storage: str, database: Database | None
) -> dict[str, object]:
    """Set up both servers and measure."""
    alice = create_key(folder / "alice.key")
    bob = key_id(create_key(folder / "bob.key").public_key)
    addresses = {city: f"127.0.0.1:{free_port()}" for city in ("west", "east")}
    for city, other in (("west", "east"), ("east", "west")):
        asset = f"coin={folder / 'alice.key'}:{1 << 40}"
        more = ["--balance", asset] if city == "west" else []
        await command("init", city, "--city", city, *more, cwd=folder)
        name = storage if database is None else "shared"
        config = CONFIG.format(city=city, storage=name, other=other, address=addresses[other])
        if database is not None:
            config += MONGODB.format(city=city, database=database)
        (folder / city / "citychain.toml").write_text(config)
    async with (
        serving(folder / "west", addresses["west"]) as west,
        serving(folder / "east", addresses["east"]) as east,
        CityClient("west", ChannelFactory([addresses["west"]]), timeout=PATIENT) as home,
        CityClient("east", ChannelFactory([addresses["east"]]), timeout=PATIENT) as there,
    ):
        ours, other = (await home.info()).genesis, (await there.info()).genesis
        for client in (home, there):
            await until(pinned, client)

        alone = []
        for _ in range(6):  # The first one opens the connection.
            began = time.perf_counter()
            sent = await home.remit(alice, asset="coin", amount=1, to=bob, city=other)
            await home.delivered(sent.tx_id)
            alone.append(time.perf_counter() - began)

        author = key_id(alice.public_key)
        action = Remittance("coin", other, bob, 1)
        bodies = [transaction_body(author, genesis=ours, action=action) for _ in range(remittances)]
        signed = await sign_batch(load_key(folder / "alice.key"), bodies)
        pids = {"west": west.pid, "east": east.pid}
        before = {city: Usage.of(pid).cpu_seconds for city, pid in pids.items()}
        began = time.perf_counter()
        await home.submit(signed)
        await home.wait([one.tx_id for one in signed])
        approved = time.perf_counter() - began
        await until(emptied, home, escrow_account(other))
        delivered = time.perf_counter() - began
        cpu = {city: Usage.of(pid).cpu_seconds - before[city] for city, pid in pids.items()}
        for one in signed[:: max(remittances // 20, 1)]:
            assert (await home.remittance(one.tx_id)).outgoing.state.name == "DELIVERED"
    return {
        "remittances": remittances,
        "approved_per_second": round(remittances / approved),
        "per_second": round(remittances / delivered, 1),
        "seconds": round(statistics.median(alone[1:]), 2),
        "cpu_ms": {
            "both": round(sum(cpu.values()) / remittances * 1000, 2),
            **{city: round(used / remittances * 1000, 2) for city, used in cpu.items()},
        },
    }


def main() -> None:
    """Measure each storage and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--remittances", type=int, default=2_000)
    parser.add_argument("--storage", nargs="+", choices=STORAGES, default=STORAGES)
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for storage in options.storage:
        with ExitStack() as stack:
            where = stack.enter_context(database()) if storage == "mongodb" else None
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            found = asyncio.run(measure(folder, options.remittances, storage, where))
        kind = {} if where is None else {"database": where.kind}
        figures[storage] = found | kind | {"load_average": os.getloadavg()[0]}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
