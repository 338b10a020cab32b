"""What a browser holds that looks at a busy city for a long time.

Prints one JSON object a minute. The explorer and the browser, which draws by software, are real;
1,000 transactions a second are made up, so that an hour needs neither keys nor disk. It needs
Chromium, and `pip install playwright`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

tests = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(tests), str(tests / "explorer" / "browser")]

from _browser import FRAMES, has_browser, open_page, renderer_mib  # noqa: E402
from _busy_city import BusyUpstream  # noqa: E402
from town import Town  # noqa: E402

from citychain.client import ChannelFactory  # noqa: E402
from citychain.explorer.serving import ExplorerOptions, open_explorer  # noqa: E402
from citychain.explorer.upstream import Upstream  # noqa: E402

RATE = 1000
FRAMES_SECONDS = 5.0
HELD = {"JSHeapUsedSize": "heap_mib", "Nodes": "dom_nodes", "JSEventListeners": "listeners"}


async def look(site: str, minutes: int) -> None:
    """Tell each minute what the browser holds, and what has come so far."""
    async with open_page() as page:
        await page.goto(f"{site}#/city/hometown")
        figure = page.locator("dl.figures dd").nth(2)
        await figure.filter(has_text=re.compile("[0-9]")).wait_for()
        began = time.monotonic()
        first = await transactions(figure)
        tools = await page.context.new_cdp_session(page)
        await tools.send("Performance.enable")
        for minute in range(1, minutes + 1):
            await asyncio.sleep(began + 60 * minute - FRAMES_SECONDS - time.monotonic())
            median, worst = await page.evaluate(FRAMES, FRAMES_SECONDS)
            come, elapsed = await transactions(figure) - first, time.monotonic() - began
            process = await renderer_mib(page)
            await tools.send("HeapProfiler.collectGarbage")
            found = (await tools.send("Performance.getMetrics"))["metrics"]
            held: dict[str, Any] = {
                HELD[each["name"]]: each["value"] for each in found if each["name"] in HELD
            }
            told = held | {
                "minute": minute,
                "transactions_per_second": round(come / elapsed),
                "heap_mib": round(held["heap_mib"] / 2**20, 2),
                "process_mib": round(process),
                "frame_ms": {"median": round(median, 1), "p99": round(worst, 1)},
            }
            print(json.dumps(told), flush=True)


async def transactions(figure: Any) -> int:
    """What the page says there are."""
    return int((await figure.inner_text()).replace(",", ""))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=1)
    minutes = parser.parse_args().minutes
    if not has_browser():
        print(json.dumps("needs Chromium and Playwright"))
        return
    with tempfile.TemporaryDirectory() as folder:
        town = Town(Path(folder))
        try:
            town.serve()
            real = Upstream(lambda _: ChannelFactory([town.address]))
            options = ExplorerOptions("127.0.0.1:0")
            async with open_explorer(BusyUpstream(real, RATE), options) as explorer:
                await look(explorer.url, minutes)
        finally:
            town.close()


if __name__ == "__main__":
    asyncio.run(main())
