"""What the explorer costs: a browser that looks at a busy city, and many viewers.

Prints one JSON object. The browser needs Chromium, and `pip install playwright`; it draws by
software, and the load comes from this machine, too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

tests = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(tests), str(tests / "explorer" / "browser")]

import websockets  # noqa: E402
from _browser import FRAMES, has_browser, open_page  # noqa: E402
from town import Town  # noqa: E402

from citychain.client import (  # noqa: E402
    ChannelFactory,
    CityClient,
    load_key,
    sign_transaction,
)

SECONDS = 12.0
RATES = (100, 1000)
VIEWERS = ((1, 100), (10, 100), (100, 100), (1, 1000), (10, 1000), (100, 1000))
"""How many, and at how many transactions a second."""

PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


async def load(town: Town, rate: int, stop: asyncio.Event) -> int:
    """Send so many a second until told to stop; returns how many were sent."""
    key = load_key(town.directory / "resident.key")
    sent, step = 0, max(1, rate // 10)
    async with CityClient("hometown", ChannelFactory([town.address])) as city:
        genesis = (await city.info()).genesis
        began = time.monotonic()
        while not stop.is_set():
            notes = [
                sign_transaction(key, genesis=genesis, data=b"%d %d" % (time.time_ns(), n))
                for n in range(step)
            ]
            await city.submit(notes)
            sent += step
            await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
    return sent


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def look(site: str, town: Town, rate: int) -> dict[str, Any]:
    """One browser at the live view, under a load."""
    async with open_page() as page:
        await page.goto(f"{site}#/city/hometown")
        await page.locator("dl.figures").wait_for()
        paint = await page.evaluate(PAINT)
        stop = asyncio.Event()
        began = time.monotonic()
        sending = asyncio.create_task(load(town, rate, stop))
        median, worst = await page.evaluate(FRAMES, SECONDS)
        heap = await page.evaluate("() => performance.memory.usedJSHeapSize")
        stop.set()
        sent = await sending
    return {
        "transactions_per_second": round(sent / (time.monotonic() - began)),
        "first_paint_ms": round(paint),
        "frame_ms": {"median": round(median, 1), "p99": round(worst, 1)},
        "heap_mib": round(heap / 2**20, 1),
    }


async def view(site: str, town: Town, count: int, rate: int) -> dict[str, Any]:
    """Viewers without a browser, under a load."""
    taken = 0
    server, explorer = town.pid("server"), town.pid("explorer")

    async def viewer() -> None:
        nonlocal taken
        url = f"ws{site.removeprefix('http')}live"
        async with websockets.connect(url, proxy=None) as connection:
            await connection.send(json.dumps({"watch": "hometown"}))
            async for message in connection:
                taken += len(message)

    viewers = [asyncio.create_task(viewer()) for _ in range(count)]
    stop = asyncio.Event()
    began = time.monotonic()
    sending = asyncio.create_task(load(town, rate, stop))
    await asyncio.sleep(1)
    taken, before = 0, (cpu_seconds(server), cpu_seconds(explorer))
    await asyncio.sleep(SECONDS)
    after, received = (cpu_seconds(server), cpu_seconds(explorer)), taken
    stop.set()
    sent = await sending
    elapsed = time.monotonic() - began
    for each in viewers:
        each.cancel()
    await asyncio.gather(*viewers, return_exceptions=True)
    return {
        "viewers": count,
        "transactions_per_second": round(sent / elapsed),
        "bytes_per_second_each": round(received / SECONDS / count),
        "server_cpu": round((after[0] - before[0]) / SECONDS, 3),
        "explorer_cpu": round((after[1] - before[1]) / SECONDS, 3),
    }


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        town = Town(Path(folder))
        try:
            town.serve()
            site = town.explore()
            pages: list[dict[str, Any]] | str = "needs Chromium and Playwright"
            if has_browser():
                pages = [await look(site, town, rate) for rate in RATES]
            viewers = [await view(site, town, count, rate) for count, rate in VIEWERS]
        finally:
            town.close()
    print(json.dumps({"page": pages, "viewers": viewers}, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
