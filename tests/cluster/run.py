"""The whole of it: servers, load, trouble, and what came of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from citychain.cli.bench.process import Usage
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from cluster.load import Load
from cluster.nodes import cluster, weigh
from cluster.reading import Reading
from cluster.trouble import Fault, Trouble
from cluster.verdict import CityVerdict, TakeOver, judge, late, take_overs
from cluster.witness import Witness

CITIES = ("east", "north", "south", "west")
SKEWS = (0, -180, 180)
"""Seconds by which the servers' clocks are wrong."""


@dataclass(slots=True)
class Outcome:
    """What a run showed."""

    seed: int
    seconds: float
    lease: float
    allowance: float
    cities: Sequence[CityVerdict]
    faults: Sequence[Fault]
    take_overs: Sequence[TakeOver]
    rate: float
    """Acknowledged transactions a second, trouble included."""
    servers_mib: Sequence[int]
    """The most memory that each server had."""
    own_mib: int
    """That this process had, which writes, reads and watches."""

    @property
    def differences(self) -> list[str]:
        """What is not as it must be; empty where all is well."""
        told = [f"{city.city}: {fault}" for city in self.cities for fault in city.faults]
        told += [
            f"{item.city}: after {item.kind} another server led only after "
            f"{item.lease_seconds} s, and sealed after {item.round_seconds} s"
            for item in self.take_overs
            if late(item, self.lease, self.allowance)
        ]
        return told


async def run(
    directory: Path,
    uri: str,
    *,
    seconds: float,
    lease: float = 3.0,
    allowance: float = 1.0,
    rate: float = 60.0,
    calm: tuple[float, float] = (2.0, 5.0),
    seed: int,
    say: Callable[[str], None],
) -> Outcome:
    """Run three servers for a while.

    Args:
        directory: A new one.
        uri: Of the database; one of the run's own is made in it, and dropped.
        lease: Seconds.
        allowance: Seconds, see `late`.
        rate: Transactions a second and city.
        calm: Seconds between troubles.
    """
    database = f"citychain-cluster-{secrets.token_hex(6)}"
    async with cluster(directory, uri, database, CITIES, skews=SKEWS, lease=lease) as nodes:
        endpoints = [node.process.address for node in nodes]
        say(f"three servers answer on {', '.join(endpoints)}; their database is {database}")
        genesis = {await _genesis(slug, endpoints): slug for slug in CITIES}
        witness = Witness(uri, database, genesis)
        stop = asyncio.Event()
        readings = [Reading(endpoints, slug) for slug in CITIES]
        loads = [
            Load(endpoints, slug, reading.ledger, seed + n, rate)
            for n, (slug, reading) in enumerate(zip(CITIES, readings, strict=True))
        ]
        reads = [asyncio.create_task(reading.read()) for reading in readings]
        beside = [asyncio.create_task(witness.watch()), asyncio.create_task(weigh(nodes))]
        writing = [asyncio.create_task(load.write(stop)) for load in loads]
        trouble = Trouble(nodes, lambda: witness.leases, lease=lease, calm=calm, seed=seed, say=say)
        began = time.monotonic()
        try:
            await trouble.make(began + seconds)
        finally:
            stop.set()
            await asyncio.gather(*writing, return_exceptions=True)
        took = time.monotonic() - began
        say("all servers are back; what came of everything?")
        verdicts = [
            await judge(load.written, reading, endpoints)
            for load, reading in zip(loads, readings, strict=True)
        ]
        await _ended([*beside, *reads])
        for writes, verdict in zip(writing, verdicts, strict=True):
            if error := writes.exception():
                verdict.faults.append(f"its resident gave up: {error!r}")
        acknowledged = sum(len(load.written.acknowledged) for load in loads)
        outcome = Outcome(
            seed,
            round(took, 1),
            lease,
            allowance,
            verdicts,
            trouble.faults,
            take_overs(trouble.faults, witness),
            round(acknowledged / took, 1),
            [round(node.resident_max / 2**20) for node in nodes],
            round(Usage.of_self().resident_bytes_max / 2**20),
        )
    await witness.drop()
    return outcome


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them; raises what one of them failed with before."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _genesis(slug: str, endpoints: Sequence[str]) -> bytes:
    """Of a city, as all servers say."""
    found = set()
    for endpoint in endpoints:
        channels = ChannelFactory([endpoint])
        async with CityClient(slug, channels, timeout=timedelta(seconds=30)) as client:
            found.add((await client.info()).genesis)
    [genesis] = found
    return genesis
