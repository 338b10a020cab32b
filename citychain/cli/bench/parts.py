"""The bare parts of a transaction's road, each alone: signature, disk, gRPC."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from citychain._native.transactions import Limits, Transaction, check_batch, decode_batch
from citychain.cli.bench.load import CONTEXT, presign, run_load
from citychain.client.keys import create_key
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.crypto import signatures
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, PreparedKey, SigningKey
from citychain.ports import StorageContext
from citychain.storage.sqlite import SqliteBackend, SqliteOptions
from citychain.types import RawTransaction

__all__ = ["measure_append", "measure_echo", "measure_verify", "per_second"]

BATCH: Final = 1_000
APPENDS: Final = 20


def per_second(count: int, work: Callable[[], object]) -> float:
    """Rate of the best of three runs: the machine's other work only ever slows one down."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return count / min(seconds)


def measure_verify(keys: Sequence[SigningKey]) -> dict[str, float]:
    """Signatures checked a second: on one core with a prepared key and from bytes, and whole
    transactions in batches on all cores."""
    genesis = bytes(32)
    items = [envelope for _, envelope in presign(genesis, keys, BATCH, by_value=False)]
    transactions: list[Transaction] = decode_batch(items)
    prepared = {key_id(key.public_key): PreparedKey(key.public_key) for key in keys}
    cache = KeyCache(len(keys), len(keys))
    for key in keys:
        cache.add_public_key(key_id(key.public_key), key.public_key)

    def one_by_one() -> None:
        for item in transactions:
            prepared[item.author].verify(item.body, CONTEXT, item.signature)

    def from_bytes() -> None:
        for item in transactions[:200]:
            signatures.verify(prepared[item.author].public_key, item.body, CONTEXT, item.signature)

    def batch() -> None:
        checked = check_batch(items, genesis, cache, Limits(), 0)
        assert all(isinstance(item, Transaction) for item in checked)

    batch()
    return {
        "prepared_per_core": per_second(len(items), one_by_one),
        "from_bytes_per_core": per_second(200, from_bytes),
        "batch_all_cores": per_second(len(items), batch),
    }


def _raw(genesis: bytes, keys: Sequence[SigningKey], count: int) -> list[RawTransaction]:
    signed = [envelope for _, envelope in presign(genesis, keys, count, by_value=False)]
    return [
        RawTransaction(item.tx_id, item.author, item.envelope)
        for at in range(0, count, BATCH)
        for item in decode_batch(signed[at : at + BATCH])
    ]


async def measure_append(keys: Sequence[SigningKey]) -> dict[str, float]:
    """Transactions made durable a second by the SQLite backend, in batches of 100 and 1,000."""
    genesis = bytes(32)
    result = {}
    with tempfile.TemporaryDirectory(prefix="citychain-bench-") as directory:
        async with Executor() as compute:
            context = StorageContext(Path(directory), compute, SystemClock())
            async with SqliteBackend(SqliteOptions(), context) as backend:
                city = await backend.city(genesis, b"bench", ())
                for size in (100, BATCH):
                    raw = _raw(genesis, keys, size * APPENDS)
                    began = time.perf_counter()
                    await asyncio.gather(
                        *(city.append(raw[at : at + size], {}) for at in range(0, len(raw), size))
                    )
                    result[f"batches_of_{size}"] = len(raw) / (time.perf_counter() - began)
    return result


async def measure_echo(keys: Sequence[SigningKey], count: int) -> dict[str, float]:
    """Transactions carried by gRPC a second to a server that does nothing with them."""
    items = presign(bytes(32), keys, count, by_value=False)
    with tempfile.TemporaryDirectory(prefix="citychain-bench-") as directory:
        create_key(Path(directory) / "operator.key")
        ready = Path(directory) / "ready"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "citychain.cli.bench.echo", directory, str(ready)
        )
        try:
            while not (ready.exists() and (address := ready.read_text())):
                if process.returncode is not None:
                    raise RuntimeError("the echo server did not start")
                await asyncio.sleep(0.02)
            sent: dict[str, Any] = {
                name: await run_load(
                    [address], [("echo", items)], unary=unary, until_approved=False
                )
                for name, unary in (("streams", False), ("batches", True))
            }
        finally:
            process.terminate()
            await process.wait()
    return {name: run.count / run.seconds_acknowledged for name, run in sent.items()}
