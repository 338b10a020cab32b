"""A server that is killed while a city moves: nothing acknowledged is lost, doubled or changed."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from e2e.test_kill import serving
from free_ports import free_address
from moving.conftest import AUTHORS, once_each, receipts_of, signed

from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key, load_key
from citychain.client.moves import request_move
from citychain.client.transactions import SignedTransaction
from citychain.errors import CitychainError
from citychain.genesis import Genesis
from citychain.handler import Received
from citychain.moving.moving import Phase
from citychain.moving.request import MoveRequest

CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.01
max_seconds = 0.05
[storage.old]
backend = "sqlite"
[storage.new]
backend = "sqlite"
[cities.tokyo]
storage = "old"
num_hashes = 10
"""
DEATHS: tuple[tuple[Phase, float], ...] = (
    ("copying", 0.0),
    ("comparing", 0.0),
    ("holding", 0.0),
    ("holding", 0.03),
    ("holding", 0.1),
)
"""The phase in which it is killed, and so many seconds later."""


async def test_a_killed_move(tmp_path: Path) -> None:
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    acknowledged: list[SignedTransaction] = []
    address = free_address()
    for phase, later in DEATHS:
        async with serving(tmp_path, address) as process:
            address = (tmp_path / "ready").read_text().strip()
            await die(tmp_path, address, process, acknowledged, phase, later)
    async with (
        serving(tmp_path, address) as process,
        CityClient("tokyo", ChannelFactory([address])) as client,
    ):
        await receipts_of(client, acknowledged)
        await once_each(client, acknowledged)
        print(len(acknowledged), "acknowledged")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def die(
    place: Path,
    address: str,
    process: asyncio.subprocess.Process,
    acknowledged: list[SignedTransaction],
    phase: Phase,
    later: float,
) -> None:
    """Write, move the city, and kill the server in that phase."""
    channels = ChannelFactory([address])
    async with CityClient("tokyo", channels) as patient:
        genesis = Genesis.from_bytes((await patient.info()).genesis_file)
    operator = load_key(place / "operator.key")
    loop = asyncio.get_running_loop()

    def kill() -> None:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)

    def told(now: Phase, done: int, of: int) -> None:
        if now == phase:
            loop.call_later(later, kill)

    async with CityClient("tokyo", channels, timeout=timedelta(seconds=1)) as client:
        writing = asyncio.create_task(write(client, genesis.id, acknowledged, process))
        known = len(acknowledged)
        while len(acknowledged) < known + 100:
            assert not writing.done()
            await asyncio.sleep(0.01)
        for target in ("new", "old"):  # It lives in one of them already.
            with suppress(CitychainError):
                await request_move(channels, "tokyo", genesis, operator, MoveRequest(target), told)
        kill()
        await process.wait()
        await writing


async def write(
    client: CityClient,
    genesis: bytes,
    acknowledged: list[SignedTransaction],
    process: asyncio.subprocess.Process,
) -> None:
    """Write until the server is gone."""
    while True:
        batch = signed(genesis, AUTHORS[0], 10, str(len(acknowledged)))
        try:
            results = await client.submit(batch, timeout=timedelta(seconds=5))
        except (CitychainError, TimeoutError):
            if process.returncode is not None:
                return
            continue  # The machine is busy, or it is about to be found dead.
        acknowledged.extend(
            transaction
            for transaction, result in zip(batch, results, strict=True)
            if isinstance(result, Received)
        )
