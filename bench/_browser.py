"""The browser that benches look at the explorer with: Chromium, which draws by software."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["FRAMES", "has_browser", "open_page", "renderer_mib"]

FRAMES = """(seconds) => new Promise((done) => {
  const began = performance.now(), times = [];
  let last = began;
  const frame = (now) => {
    times.push(now - last); last = now;
    if (now - began < seconds * 1000) requestAnimationFrame(frame);
    else { times.sort((a, b) => a - b);
      done([times[times.length >> 1], times[Math.floor(times.length * 0.99)]]); }
  };
  requestAnimationFrame(frame);
})"""
"""Milliseconds between frames, for so many seconds: their median and 99th percentile."""


def has_browser() -> bool:
    """Whether Chromium and Playwright are here."""
    return shutil.which("chromium") is not None and find_spec("playwright") is not None


@asynccontextmanager
async def open_page() -> AsyncIterator[Any]:
    """An empty page of Playwright's, in a browser of its own."""
    from playwright.async_api import async_playwright

    async with async_playwright() as running:
        browser = await running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield await browser.new_page()
        await browser.close()


async def renderer_mib(page: Any) -> float:
    """Memory of the process that runs the page: the largest of those that run any."""
    tools = await page.context.browser.new_browser_cdp_session()
    processes = (await tools.send("SystemInfo.getProcessInfo"))["processInfo"]
    await tools.detach()
    return max(resident_mib(it["id"]) for it in processes if it["type"] == "renderer")


def resident_mib(pid: int) -> float:
    """What of a process is in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = (it for it in status.splitlines() if it.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
