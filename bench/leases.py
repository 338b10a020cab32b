"""What a city in which little happens costs who leads it, and who follows it; prints JSON.

    python bench/leases.py [--cities 100] [--lease 10] [--seconds 30] [--rate 0]

Servers in this process, on MongoDB (`_mongodb.database`). First one server with one city, then the
same with all, then a second one beside it that has all open as well, so that each leads half and
follows half. What a city more costs is what it takes to be ``led``; what the second server costs
more than a server by itself, by city, is what it takes to be ``followed``. Servers settle for
``--settle`` seconds before each look: a city in which something happened is looked at more often
for a while.

With ``--rate`` so many transactions a second come to each city, one at a time: to its leader where
there is one server, else to either in turn. Signing them, 0.3 ms each, is in the processor time.

Of each: commands a second, in all and by name; bytes a second of commands and answers as documents;
microseconds of processor time a second, all counted in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import bson
from _mongodb import Database, database
from pymongo import monitoring

from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.config import load_settings
from citychain.containers import RunningServer, open_server
from citychain.crypto.signatures import SigningKey
from citychain.handler import Received

CONFIG = """\
operator_key = "operator.key"
[server]
listen = "127.0.0.1:0"
[plugins]
allow = []
[cluster]
lease_seconds = {lease}
[storage.shared]
backend = "mongodb"
uri = "{database.uri}"
database = "{database.name}"
"""
CITY = """
[cities.city-{number}]
storage = "shared"
num_hashes = 1000
"""

Cost = Counter[str]
"""A second, by what it is."""


class Commands(monitoring.CommandListener):
    """Counts commands and their bytes."""

    def __init__(self) -> None:
        self.seen: Cost = Counter()
        self.counts = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.counts:
            name = event.command_name
            if name in ("find", "update", "getMore"):
                name += " " + str(event.command.get("collection") or event.command[name])
            self.seen["commands"] += 1
            self.seen[f"commands: {name}"] += 1
            self.seen["bytes"] += len(bson.encode(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if self.counts:
            self.seen["bytes"] += len(bson.encode(event.reply))

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        if self.counts:
            self.seen["failures"] += 1

    async def look(self, seconds: float) -> Cost:
        """What passes in so many seconds, and the processor time of as many after them: counting
        takes some."""
        self.seen.clear()
        self.counts, began = True, time.monotonic()
        await asyncio.sleep(seconds)
        self.counts, took = False, time.monotonic() - began
        found: Cost = Counter({name: count / took for name, count in self.seen.items()})
        used, began = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        used, took = time.process_time() - used, time.monotonic() - began
        found["cpu_us"] = 1e6 * used / took
        return found


async def open_all(server: RunningServer, cities: int) -> None:
    """Open all cities on a server."""
    for number in range(cities):
        await server.directory.handler(f"city-{number}")


async def until_led(servers: Sequence[RunningServer], cities: int) -> None:
    """Wait until each city is led, and each server leads its share."""
    while True:
        led = [
            sum(
                getattr(handler, "leads", False)
                for handler in server.directory.open_cities().values()
            )
            for server in servers
        ]
        if sum(led) == cities and max(led) - min(led) <= 1:
            return
        await asyncio.sleep(0.1)


async def trickle(servers: Sequence[RunningServer], cities: int, rate: float) -> None:
    """A transaction after the other, the cities taking turns, until cancelled."""
    key = SigningKey(secrets.token_bytes(32))

    async def submit(server: RunningServer, slug: str) -> None:
        handler = await server.directory.handler(slug)
        genesis, data = handler.genesis.id, secrets.token_bytes(200)
        signed = sign_transaction(key, genesis=genesis, data=data, with_public_key=True)
        [result] = await handler.submit([signed.envelope])
        assert isinstance(result, Received), result

    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            server = servers[number // cities % len(servers)]
            group.create_task(submit(server, f"city-{number % cities}"))
            due += 1 / (rate * cities)
            await asyncio.sleep(due - time.monotonic())


async def measure(place: Path, where: Database, options: argparse.Namespace) -> dict[str, Any]:
    """All three."""
    commands = Commands()
    monitoring.register(commands)
    create_key(place / "operator.key")
    text = CONFIG.format(lease=options.lease, database=where)
    text += "".join(CITY.format(number=number) for number in range(options.cities))
    folders = [place / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        shutil.copy(place / "operator.key", folder)
        (folder / "citychain.toml").write_text(text)
    totals: dict[str, Cost] = {}
    async with AsyncExitStack() as stack:
        servers: list[RunningServer] = []

        async def start() -> None:
            settings = load_settings(folders[len(servers)] / "citychain.toml")
            servers.append(await stack.enter_async_context(open_server(settings)))

        async def look(name: str) -> None:
            print(name, file=sys.stderr)
            cities = len(servers[0].directory.open_cities())
            coming = [trickle(servers, cities, options.rate)] if options.rate else []
            tasks = [asyncio.create_task(work) for work in coming]
            await asyncio.sleep(options.settle)
            totals[name] = await commands.look(options.seconds)
            for task in tasks:
                task.cancel()
                await asyncio.wait({task})
                assert task.cancelled(), task.exception()

        await start()
        await open_all(servers[0], 1)
        await until_led(servers, 1)
        await look("one city")
        await open_all(servers[0], options.cities)
        await until_led(servers, options.cities)
        await look("one server")
        await start()
        await open_all(servers[1], options.cities)
        await until_led(servers, options.cities)
        await look("two servers")
    names = sorted(set().union(*totals.values()))
    single, one, two = (totals[name] for name in ("one city", "one server", "two servers"))
    led = {name: (one[name] - single[name]) / (options.cities - 1) for name in names}
    server = {name: single[name] - led[name] for name in names}
    followed = {name: (two[name] - one[name] - server[name]) / options.cities for name in names}
    return {
        "cities": options.cities,
        "transactions_a_second_and_city": options.rate,
        "lease_seconds": options.lease,
        "seconds": options.seconds,
        "a_second_and_city": {"led": shown(led), "followed": shown(followed)},
        "a_second_and_server": shown(server),
        "a_second": {name: shown(cost) for name, cost in totals.items()},
    }


def shown(cost: dict[str, float]) -> dict[str, float]:
    """The whole first, then by command, the most costly first."""
    order = sorted(cost, key=lambda name: (":" in name, -cost[name]))
    return {name: round(cost[name], 4) for name in order if abs(cost[name]) > 0.0005}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cities", type=int, default=100)
    parser.add_argument("--lease", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--settle", type=float, default=60.0)
    options = parser.parse_args()
    with database() as where, tempfile.TemporaryDirectory() as place:
        figures = asyncio.run(measure(Path(place), where, options))
        figures |= {"database": where.kind, "load_average": os.getloadavg()[1]}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
