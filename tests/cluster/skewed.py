"""A server whose clock is wrong: ``python -m cluster.skewed SECONDS``, in its directory."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from citychain.cli.logs import Log
from citychain.clock import SystemClock
from citychain.config import load_settings
from citychain.containers import open_server


class SkewedClock(SystemClock):
    """The machine's, but for what the calendar says."""

    def __init__(self, seconds: int) -> None:
        self._skew_ms = seconds * 1_000

    def time_ms(self) -> int:
        return super().time_ms() + self._skew_ms


async def serve(seconds: int) -> None:
    """Serve on the address in the file ``address.known``; ``address`` says when it answers."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    listen = Path("address.known").read_text()
    settings = load_settings(Path("citychain.toml"), server={"listen": listen})
    async with open_server(settings, clock=SkewedClock(seconds)) as running:
        unfinished = Path("address.new")
        unfinished.write_text(running.address)
        unfinished.replace("address")
        await stop.wait()


if __name__ == "__main__":
    log = Log()
    log.show()
    asyncio.run(serve(int(sys.argv[1])))
    log.close()
