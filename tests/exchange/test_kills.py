"""Servers killed while amounts are on their way between two cities: each arrives exactly once."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from e2e.test_kill import serving
from exchange.cities import (
    ALICE,
    ALICE_ID,
    BOB_ID,
    FUNDS,
    balance,
    founded,
    funded,
    genesis_of,
    plain,
)
from free_ports import free_address

from citychain.between_cities import RemittanceState
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.transactions import sign_transaction
from citychain.errors import CitychainError
from citychain.genesis import escrow_account
from citychain.handler import Received
from citychain.testing.server import CityServerFactory
from citychain.types import Remittance

SENT = 200
KILLS = 4
CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.01
max_seconds = 0.05
max_tx = 50
[cities.{city}]
{peers}
"""
PEER = """\
[peers.{city}]
endpoints = ["{address}"]
genesis = "{genesis}"
"""


async def test_each_remittance_arrives_once_whoever_is_killed(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    choose = random.Random(seed)
    tables = {"hill": funded(storage="sqlite"), "lake": plain(storage="sqlite")}
    folders = {city: tmp_path / city for city in tables}
    files = {
        city: await founded(city_server, folders[city], city, table)
        for city, table in tables.items()
    }
    addresses = {city: free_address() for city in tables}
    for city, other in (("hill", "lake"), ("lake", "hill")):
        peer = PEER.format(city=other, address=addresses[other], genesis=files[other])
        (folders[city] / "citychain.toml").write_text(CONFIG.format(city=city, peers=peer))

    def client(city: str, seconds: float = 60) -> CityClient:
        timeout = timedelta(seconds=seconds)
        return CityClient(city, ChannelFactory([addresses[city]]), timeout=timeout)

    async with AsyncExitStack() as stack:
        running = {}
        for city in tables:
            server = AsyncExitStack()
            stack.push_async_exit(server)
            running[city] = (
                server,
                await server.enter_async_context(serving(folders[city], addresses[city])),
            )
        async with client("hill") as home, client("lake") as there:
            ours, other = await genesis_of(home), await genesis_of(there)
            async with asyncio.timeout(120):
                while not all([peer.pinned for peer in await home.peers()] or [False]):
                    await asyncio.sleep(0.05)
            signed = [
                sign_transaction(
                    ALICE,
                    genesis=ours.id,
                    action=Remittance("coin", other.id, BOB_ID, number + 1),
                    with_public_key=True,
                )
                for number in range(SENT)
            ]

            async def send() -> None:
                async with client("hill", 1) as hasty:
                    for start in range(0, SENT, 10):
                        batch = signed[start : start + 10]
                        while True:
                            try:
                                results = await hasty.submit(batch)
                            except (CitychainError, TimeoutError):
                                continue
                            if all(isinstance(result, Received) for result in results):
                                break
                        await asyncio.sleep(choose.uniform(0, 0.1))

            sending = asyncio.create_task(send())
            for number in range(KILLS):
                await asyncio.sleep(choose.uniform(0.1, 0.8))
                city = ("hill", "lake")[number % 2]
                server, process = running[city]
                process.send_signal(signal.SIGKILL)
                await server.aclose()
                await asyncio.sleep(choose.uniform(0, 0.5))
                server = AsyncExitStack()
                stack.push_async_exit(server)
                running[city] = (
                    server,
                    await server.enter_async_context(serving(folders[city], addresses[city])),
                )
            await sending

            for one in signed:
                told = await home.delivered(one.tx_id, timeout=timedelta(seconds=300))
                assert told.outgoing.state is RemittanceState.DELIVERED
            decided = await there.deliveries(ours.id, [one.tx_id for one in signed])
            assert len(decided) == SENT
            assert all(one.accepted for one in decided.values())
            total = SENT * (SENT + 1) // 2
            assert await balance(there, BOB_ID) == total
            assert await balance(home, ALICE_ID) == FUNDS - total
            assert await balance(home, escrow_account(other.id)) == 0
