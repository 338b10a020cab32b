"""How long a test waits for the fixture `city_server`; prints JSON.

    python bench/fixtures.py [--times 50]

Milliseconds, for cities in memory and in SQLite: from asking for a server to its first
answered call; from submitting a transaction to knowing it approved; from leaving to the
end. ``cpu`` is the processor time up to the first answer, which a busy machine hardly
changes. Once for the first server of a process, whose modules are imported already, and
medians over those after it. ``import`` is what importing them takes, once a process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from citychain.testing.server import CityServerFactory

Timings = dict[str, float]


async def one(factory: CityServerFactory, storage: str) -> Timings:
    """One server, one city, one transaction."""
    from citychain.testing.server import TransactionFactory  # Its import is timed in `main`.

    cpu, marks = time.process_time(), [time.perf_counter()]
    async with factory({"tokyo": {"storage": storage}}) as server, server.client("tokyo") as city:
        await city.info()
        cpu = time.process_time() - cpu
        marks.append(time.perf_counter())
        [sent] = await TransactionFactory()(city)
        marks.append(time.perf_counter())
        await city.submit([sent])
        await city.wait([sent.tx_id])
        marks.append(time.perf_counter())
    marks.append(time.perf_counter())
    start, answered, signed, approved, left = marks
    return {
        "first_answer": answered - start,
        "cpu": cpu,
        "submit_to_approved": approved - signed,
        "stop": left - approved,
    }


async def measure(storage: str, times: int) -> dict[str, Timings]:
    """The first server of its kind, and medians over the others."""
    from citychain.testing.server import CityServerFactory

    with tempfile.TemporaryDirectory() as directory:
        factory = CityServerFactory(Path(directory))
        runs = [await one(factory, storage) for _ in range(times + 1)]
    return {
        "first": {name: _ms(runs[0][name]) for name in runs[0]},
        "median": {name: _ms(statistics.median(run[name] for run in runs[1:])) for name in runs[0]},
        "slowest": {name: _ms(max(run[name] for run in runs[1:])) for name in runs[0]},
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 1)


def main() -> None:
    """Measure both storages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    times = parser.parse_args().times
    begin = time.perf_counter()
    import citychain.testing.server  # noqa: F401

    figures: dict[str, object] = {"import": _ms(time.perf_counter() - begin)}
    for storage in ("memory", "sqlite"):
        figures[storage] = asyncio.run(measure(storage, times))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
