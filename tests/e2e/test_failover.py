"""Three server processes under load: one is killed, one stopped in its tracks; no call fails."""

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

import pytest
from free_ports import free_address

from citychain.cli.server_process import ServerProcess
from citychain.client import ChannelFactory, CityClient, create_key, sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.handler import Received

CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[cities.tokyo]
storage = "memory"
num_hashes = 1000
"""
KEY = SigningKey(bytes(32))
PHASE_CALLS = 30
"""Calls of each kind that must succeed before, and after, what befalls a server."""


class Load:
    """Calls that need nothing that servers would share, each made again and again."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failed: list[Exception] = []

    async def run(self, client: CityClient) -> None:
        """Until cancelled."""
        genesis = (await client.info()).genesis
        many = [
            sign_transaction(KEY, genesis=genesis, data=b"%d" % number, with_public_key=True)
            for number in range(300)
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again("info", client.info))
            group.create_task(self._again("objects", lambda: client.objects(["hall"])))
            group.create_task(self._again("submit", lambda: self._submit(client, many[:1])))
            group.create_task(self._again("stream", lambda: self._submit(client, many)))

    async def _submit(self, client: CityClient, items: list[Any]) -> None:
        results = await client.submit(items)
        assert all(isinstance(result, Received) for result in results)

    async def _again(self, name: str, call: Any) -> None:
        while True:
            try:
                await call()
            except Exception as error:
                self.failed.append(error)
            self.done[name] += 1
            await asyncio.sleep(0)

    async def more(self, calls: int) -> None:
        """Wait for so many more of every small call, and some streams."""
        want = {name: self.done[name] + calls for name in ("info", "objects", "submit")}
        want["stream"] = self.done["stream"] + 3
        while any(self.done[name] < count for name, count in want.items()):
            assert not self.failed
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
async def test_no_call_fails_when_one_of_three_servers_dies(tmp_path: Path, policy: Any) -> None:
    servers = []
    async with AsyncExitStack() as stack:
        for number in range(3):
            directory = tmp_path / str(number)
            directory.mkdir()
            (directory / "citychain.toml").write_text(CONFIG)
            if servers:
                shutil.copy(tmp_path / "0" / "operator.key", directory)
            else:
                create_key(directory / "operator.key")
            servers.append(ServerProcess(directory))
            servers[-1].address = free_address()
            stack.push_async_callback(servers[-1].kill)
        await asyncio.gather(*(server.start() for server in servers))
        # Addresses, and a name: what serves one serves the other.
        port = servers[2].address.rpartition(":")[2]
        for last in (servers[2].address, f"localhost:{port}"):
            channels = ChannelFactory(
                [servers[0].address, servers[1].address, last],
                policy,
                keepalive=timedelta(milliseconds=250),
            )
            load = Load()
            async with CityClient("tokyo", channels) as client, asyncio.timeout(120):
                running = asyncio.create_task(load.run(client))
                await load.more(PHASE_CALLS)
                await servers[0].kill()
                await load.more(PHASE_CALLS)
                await servers[0].start()
                pid = servers[1].pid
                assert pid is not None
                os.kill(pid, signal.SIGSTOP)
                await load.more(PHASE_CALLS)
                os.kill(pid, signal.SIGCONT)
                await load.more(PHASE_CALLS)
                running.cancel()
                await asyncio.wait({running})
            assert load.failed == []
            print(policy, last, dict(load.done))
