"""A server killed at any moment: nothing acknowledged is lost, doubled or changed."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from free_ports import free_address

from citychain import record
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.errors import CitychainError
from citychain.genesis import Genesis
from citychain.handler import Received
from citychain.receipt import Receipt, ReceiptVerifier

KILLS = 4
KEYS = [SigningKey(bytes([number]) * 32) for number in range(4)]
CONFIG = """\
operator_key = "operator.key"
[plugins]
allow = []
[pacer]
min_seconds = 0.01
max_seconds = 0.05
max_tx = 50
[cities.tokyo]
num_hashes = 1000
"""


@asynccontextmanager
async def serving(directory: Path, address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server process, killed on leaving."""
    ready = directory / "ready"
    ready.unlink(missing_ok=True)
    with (directory / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "citychain", "serve", "--config", "citychain.toml"),
            *("--listen", address, "--ready-file", "ready"),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(120):
            while not ready.exists():
                assert process.returncode is None, (directory / "log").read_text()
                await asyncio.sleep(0.01)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_every_acknowledged_transaction_is_final_exactly_once(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    choose = random.Random(seed)
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)

    acknowledged: dict[bytes, SignedTransaction] = {}
    receipts: dict[bytes, Receipt] = {}
    stop = asyncio.Event()
    address = free_address()

    async def send(client: CityClient, genesis: bytes, key: SigningKey) -> None:
        while not stop.is_set():
            batch = [
                sign_transaction(key, genesis=genesis, data=b"x" * 200, with_public_key=True)
                for _ in range(choose.randint(1, 20))
            ]
            try:
                results = await client.submit(batch)
            except (CitychainError, TimeoutError):
                continue
            for signed, result in zip(batch, results, strict=True):
                if isinstance(result, Received):
                    acknowledged[signed.tx_id] = signed

    async def collect(client: CityClient) -> None:
        """Receipts while it goes on: those given before a kill must hold after it."""
        while not stop.is_set():
            missing = [tx_id for tx_id in acknowledged if tx_id not in receipts][:200]
            try:
                receipts.update(await client.receipts(missing))
            except (CitychainError, TimeoutError):
                continue
            await asyncio.sleep(0.02)

    for _ in range(KILLS):
        stop.clear()
        async with serving(tmp_path, address) as process:
            address = (tmp_path / "ready").read_text().strip()
            channels = ChannelFactory([address])
            async with CityClient("tokyo", channels) as patient:
                genesis = (await patient.info()).genesis
            async with CityClient("tokyo", channels, timeout=timedelta(seconds=1)) as client:
                tasks = [asyncio.create_task(send(client, genesis, key)) for key in KEYS]
                tasks.append(asyncio.create_task(collect(client)))
                before = len(acknowledged)
                await asyncio.sleep(choose.uniform(0.2, 1.0))
                # A busy machine may have needed all that for the first answer.
                async with asyncio.timeout(120):
                    while len(acknowledged) == before:
                        await asyncio.sleep(0.005)
                process.send_signal(signal.SIGKILL)
                await process.wait()
                stop.set()
                await asyncio.gather(*tasks)

    async with (
        serving(tmp_path, address) as process,
        CityClient("tokyo", ChannelFactory([address])) as client,
    ):
        events = await client.wait(list(acknowledged), timeout=timedelta(seconds=120))
        assert events.keys() == acknowledged.keys()
        final = await client.receipts(list(acknowledged))
        assert final.keys() == acknowledged.keys()
        verifier = ReceiptVerifier(Genesis.from_bytes((await client.info()).genesis_file))
        for receipt in (*receipts.values(), *final.values()):
            verifier.verify(receipt)
        assert {tx_id: final[tx_id] for tx_id in receipts} == receipts
        sealed: list[bytes] = []
        rounds = await client.rounds(1, 100_000)
        assert [stored.round for stored in rounds] == list(range(1, len(rounds) + 1))
        for stored in rounds:
            sealed += record.decode(stored.record).tx_ids
        assert len(sealed) == len(set(sealed))
        assert acknowledged.keys() <= set(sealed)
        print(len(acknowledged), "acknowledged,", len(receipts), "receipts before the last start")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
