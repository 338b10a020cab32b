"""``python -m cluster``: three servers, one database, a load and a killer; a table in the end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mongodb.fixtures import VARIABLE
from mongodb.stand_in import StandIn
from rich.console import Console
from rich.table import Table

from cluster.run import Outcome, run
from cluster.verdict import TakeOver


def main() -> int:
    """Exit codes: 0 nothing is lost, doubled or unexplained; 1 something is, and is named."""
    options = _options()
    say = Console(stderr=True).print
    place = Path(tempfile.mkdtemp(prefix="citychain-cluster-"))
    with _database(place) as (uri, kind):
        say(f"the database is {kind}; seed {options.seed}")
        outcome = asyncio.run(
            run(
                place,
                uri,
                seconds=options.seconds,
                lease=options.lease,
                allowance=options.allowance,
                rate=options.rate,
                seed=options.seed,
                say=say,
            )
        )
    if options.json:
        print(json.dumps(asdict(outcome) | {"database": kind, "differences": outcome.differences}))
    else:
        _show(outcome)
    for difference in outcome.differences:
        say(f"difference: {difference}")
    if outcome.differences:
        say(f"kept: {place}")
        return 1
    shutil.rmtree(place)
    say(f"{outcome.seconds} s: nothing is lost, nothing doubled, nothing unexplained")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--lease", type=float, default=3.0)
    told = "seconds after a lease has run out within which another server has to lead"
    parser.add_argument("--allowance", type=float, default=1.0, help=told)
    parser.add_argument("--rate", type=float, default=60.0, help="transactions a second and city")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


@contextmanager
def _database(place: Path) -> Iterator[tuple[str, str]]:
    """Its URI, and what it is."""
    if uri := os.environ.get(VARIABLE):
        yield uri, f"the one that {VARIABLE} names"
        return
    server = StandIn(place / "mongodb")
    try:
        yield server.uri, "SecantusDB, a stand-in for MongoDB"
    finally:
        server.remove()


def _show(outcome: Outcome) -> None:
    cities = Table(title="What became of what the cities acknowledged")
    heads = ("city", "sent", "acknowledged", "approved", "lost", "unanswered", "rounds", "leaders")
    for head in (*heads, "receipts verified", "slowest call"):
        cities.add_column(head, justify="left" if head == "city" else "right")
    for city in outcome.cities:
        lost = city.acknowledged - city.approved
        counts = [city.sent, city.acknowledged, city.approved, lost, city.unanswered]
        counts += [city.rounds, city.leaders, city.receipts]
        cities.add_row(city.city, *map(str, counts), f"{city.slowest_call} s")
    troubles = Table(title=f"Trouble (a lease lasts {outcome.lease} s)")
    for head in ("trouble", "server", "city that it led", "another leads after", "seals after"):
        troubles.add_column(head)
    overs = iter(outcome.take_overs)
    for fault in outcome.faults:
        if not fault.led:
            troubles.add_row(fault.kind, fault.server, "none")
        for _ in fault.led:
            over = next(overs)
            troubles.add_row(fault.kind, fault.server, over.city, *_seconds(over))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 130)
    console.print(cities)
    console.print(troubles)
    console.print(f"{outcome.rate} transactions a second were acknowledged throughout.")
    servers = ", ".join(map(str, outcome.servers_mib))
    console.print(f"Most memory: servers {servers} MiB; load and readers {outcome.own_mib} MiB.")


def _seconds(over: TakeOver) -> list[str]:
    return [f"{seconds} s" for seconds in (over.lease_seconds, over.round_seconds)]


if __name__ == "__main__":
    sys.exit(main())
