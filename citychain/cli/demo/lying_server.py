"""A server that lies, for the demonstration: ``python -m citychain.cli.demo.lying_server``.

It is the real server but for one thing: what the rules of its one city reject, it passes
off as approved. It stands in a process of its own, in a directory like any other's.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from citychain.config import load_settings
from citychain.containers import open_server
from citychain.testing.liars import LyingDag

__all__ = ["serve"]


async def serve(directory: Path, city: str, lie: str) -> None:
    """Serve until told to stop; the file ``address`` says where."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = load_settings(
        directory / "citychain.toml",
        server={"listen": "127.0.0.1:0", "drain_seconds": 0.5},
    )
    async with open_server(settings, {city: {"dag": LyingDag(lie)}}) as running:
        unfinished = directory / "address.new"
        unfinished.write_text(running.address)
        unfinished.replace(directory / "address")
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), *sys.argv[2:]))
