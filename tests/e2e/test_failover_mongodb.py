"""Three server processes on one MongoDB, and a load over all: whoever dies, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from free_ports import free_address

from citychain.cli.server_process import ServerProcess
from citychain.client import ChannelFactory, CityClient, create_key, sign_transaction
from citychain.client.transactions import identity
from citychain.crypto.signatures import SigningKey
from citychain.handler import Received
from citychain.types import State

CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.02
max_seconds = 0.1
[cluster]
lease_seconds = 1
[storage.mongodb]
backend = "mongodb"
uri = "{uri}"
database = "{database}"
[cities.tokyo]
storage = "mongodb"
num_hashes = 1000
"""
WRITERS = [SigningKey(bytes([number]) * 32) for number in range(3)]
PHASE_TRANSACTIONS = 8
"""That each writer sees final before, and after, what befalls a server."""


class Application:
    """Writers who see each transaction final before the next, and one who watches all."""

    def __init__(self, client: CityClient) -> None:
        self._client = client
        self.sent: list[bytes] = []
        self.finals: Counter[bytes] = Counter()
        """By writer's key."""
        self.told: list[tuple[int, int, bytes]] = []

    async def run(self) -> None:
        """Until cancelled, or something fails."""
        genesis = (await self._client.info()).genesis
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for key in WRITERS:
                group.create_task(self._write(genesis, key))

    async def _write(self, genesis: bytes, key: SigningKey) -> None:
        while True:
            data = b"%d" % self.finals[key.public_key]
            signed = sign_transaction(key, genesis=genesis, data=data, with_public_key=True)
            [result] = await self._client.submit([signed])
            assert isinstance(result, Received), result
            self.sent.append(signed.tx_id)
            told = await self._client.wait([signed.tx_id])
            assert told[signed.tx_id].state is State.APPROVED
            self.finals[key.public_key] += 1

    async def _watch(self) -> None:
        async for batch in self._client.watch(after=0):
            self.told += [(event.round, event.seq, event.tx_id) for event in batch.events]

    async def more(self, running: asyncio.Task[None]) -> None:
        """Wait until every writer saw so many more final."""
        want = {key.public_key: self.finals[key.public_key] + PHASE_TRANSACTIONS for key in WRITERS}
        while any(self.finals[key] < count for key, count in want.items()):
            if running.done():
                running.result()
            await asyncio.sleep(0.01)


async def test_an_application_does_not_notice_that_servers_die(
    tmp_path: Path, mongodb_uri: str, mongodb_database: str
) -> None:
    servers = []
    async with AsyncExitStack() as stack:
        for number in range(3):
            directory = tmp_path / str(number)
            directory.mkdir()
            config = CONFIG.format(uri=mongodb_uri, database=mongodb_database)
            (directory / "citychain.toml").write_text(config)
            if servers:
                shutil.copy(tmp_path / "0" / "operator.key", directory)
            else:
                create_key(directory / "operator.key")
            servers.append(ServerProcess(directory))
            servers[-1].address = free_address()
            stack.push_async_callback(servers[-1].kill)
        await asyncio.gather(*(server.start() for server in servers))
        channels = ChannelFactory(
            [server.address for server in servers],
            "round_robin",
            keepalive=timedelta(milliseconds=250),
        )
        async with CityClient("tokyo", channels) as client, asyncio.timeout(300):
            application = Application(client)
            running = asyncio.create_task(application.run())
            await application.more(running)
            # Each in turn, so that whoever leads is among them.
            for server in servers:
                await server.kill()
                await application.more(running)
                await server.start()
            for server in servers:
                assert server.pid is not None
                os.kill(server.pid, signal.SIGSTOP)
                await application.more(running)
                os.kill(server.pid, signal.SIGCONT)
            await application.more(running)
            running.cancel()
            await asyncio.wait({running})
            await client.wait(application.sent)
            assert [*application.told] == sorted(set(application.told))
            # A follower may be behind; whoever leads is not.
            heads = [await _head(server.address) for server in servers]
            await _check_ledger(client, application, max(heads))


async def _head(address: str) -> int:
    async with CityClient("tokyo", ChannelFactory([address])) as client:
        return (await client.info()).head.round


async def _check_ledger(client: CityClient, application: Application, last: int) -> None:
    """Each transaction stands in the ledger once, and the watcher was told of each in order.

    Args:
        last: The last round.
    """
    sealed: list[bytes] = []
    async for followed in client.follow_transactions():
        sealed += [identity(envelope)[0] for envelope in followed.envelopes]
        if followed.stored.round == last:
            break
    counts: Any = Counter(sealed)
    assert max(counts.values()) == 1
    assert set(application.sent) <= set(sealed)
    told = [tx_id for _, _, tx_id in application.told]
    assert told == sealed[: len(told)]
