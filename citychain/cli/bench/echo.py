"""A server that does nothing with what it gets: what gRPC alone costs.

``python -m citychain.cli.bench.echo DIRECTORY READY_FILE``
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from citychain.config import CitySettings, PluginsSettings, ServerSettings, Settings
from citychain.containers import open_server
from citychain.handler import Received
from citychain.types import State

__all__ = ["EchoHandler"]


class EchoHandler:
    """A `CityHandler` as far as a load of transactions needs one."""

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Received]:
        """Claim to have received them."""
        return [Received(bytes(32), State.RECEIVED, False)] * len(envelopes)


async def _serve(directory: Path, ready: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings(
        data_dir=directory,
        operator_key=directory / "operator.key",
        server=ServerSettings(listen="127.0.0.1:0"),
        plugins=PluginsSettings(allow=()),
        cities={"echo": CitySettings()},
    )
    async with open_server(settings, {"echo": EchoHandler()}) as server:
        _tell(ready, server.address)
        await stop.wait()


def _tell(ready: Path, address: str) -> None:
    ready.write_text(address)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
