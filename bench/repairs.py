"""What rebalancing reads and writes when stores of many objects are lost or come; prints JSON.

    python bench/repairs.py [--objects 10000] [--bytes 65536] [--folder DIR]

Four folders of a disk, 2 + 2, chunks of 64 KiB. One of them is emptied, and all is made whole;
then a fifth comes, and gets its share; then nothing is to be done. ``read`` and ``written`` are
megabytes from and to stores; ``least`` is what this code cannot do without: k fragments read and
one written for each that is lost, one read and one written for each that moves. Seconds are by the
clock, all synced; ``memory_mib`` is the most that the process had until then.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.fragments.inventory import every_object
from citychain.fragments.layout import Layout, Shape
from citychain.fragments.manifest import fragment_bytes
from citychain.fragments.pacing import Pace
from citychain.fragments.placement import Place
from citychain.fragments.rebalancing import rebalance_objects
from citychain.fragments.relocating import Means
from citychain.fragments.storing import store_object
from citychain.ports import Compute, FragmentStore, StorageContext

MIB = 1 << 20
SHAPE = Shape()
AT_ONCE = 8


async def fill(
    stores: Mapping[str, FragmentStore], count: int, size: int, compute: Compute
) -> None:
    """Store objects, some at a time."""
    places = [Place(name, 1.0, name) for name in stores]
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            content = random.Random(number).randbytes(size)
            stored = await store_object(io.BytesIO(content), SHAPE, stores, places, compute)
            assert not stored.missing

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def step(stores: Mapping[str, FragmentStore], size: int, compute: Compute) -> dict[str, Any]:
    """Rebalance everything."""
    pace = Pace(SystemClock())
    places = [Place(name, 1.0, name) for name in stores]
    made = moved = 0
    began, began_cpu = time.perf_counter(), time.process_time()
    objects = every_object(stores, compute, lambda fault: print(fault, file=sys.stderr))
    async for outcome in rebalance_objects(objects, Means(stores, places, (), compute, pace)):
        assert outcome.is_settled
        made += len(outcome.made)
        moved += len(outcome.moved)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    fragment = fragment_bytes(Layout(SHAPE, size))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "made": made,
        "moved": moved,
        "read": round(pace.read / 1e6, 1),
        "least_read": round((SHAPE.data * made + moved) * fragment / 1e6, 1),
        "written": round(pace.written / 1e6, 1),
        "least_written": round((made + moved) * fragment / 1e6, 1),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "memory_mib": round(most / (MIB if sys.platform == "darwin" else 1024)),
    }


async def run(folder: Path, count: int, size: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        compute = await stack.enter_async_context(Executor())

        async def opened(name: str) -> FragmentStore:
            (place := folder / name).mkdir()
            options, context = (
                DirectoryOptions(path=place),
                StorageContext(folder, compute, SystemClock()),
            )
            return await stack.enter_async_context(DirectoryStore(options, context))

        stores = {name: await opened(name) for name in ("a", "b", "c", "d")}
        began = time.perf_counter()
        await fill(stores, count, size, compute)
        results["stored_seconds"] = round(time.perf_counter() - began, 1)
        for path in (folder / "b").iterdir():
            if path.name != "new":
                shutil.rmtree(path)
        results["one_of_four_lost"] = await step(stores, size, compute)
        stores["e"] = await opened("e")
        results["a_fifth_comes"] = await step(stores, size, compute)
        results["nothing_to_do"] = await step(stores, size, compute)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=65_536)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        results = asyncio.run(run(Path(name), arguments.objects, arguments.bytes))
    about = {"objects": arguments.objects, "bytes": arguments.bytes, "cores": os.cpu_count()}
    print(json.dumps({**about, **results}, indent=1))


if __name__ == "__main__":
    main()
