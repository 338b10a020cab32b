"""What the wire alone costs: transactions through the real server to a city that only says yes.

    python bench/grpc_echo.py [--seconds 5] [--bytes 5000] [--chunk 100 250 1000]

Server and client are processes of their own. For each way of submitting and each chunk size:
transactions a second, and microseconds of CPU a transaction in either process, all threads
included. No signature is checked and nothing is stored. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from citychain.client import submission
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.errors import NotFound
from citychain.handler import Received
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.types import State

PASSES = 4


class YesCity:
    """Acknowledges everything; an id is cut from the bytes, since hashing is not the wire's."""

    async def submit(self, envelopes: Sequence[bytes]) -> list[Received]:
        received = State.RECEIVED
        return [Received(envelope[:32], received, False) for envelope in envelopes]


class Directory:
    """One city."""

    def __init__(self) -> None:
        self._city = YesCity()

    async def handler(self, name: str) -> Any:
        return self._city

    async def listing(self, name: str) -> Any:
        raise NotFound("city", name)

    def listings(self, query: str, after: str, limit: int) -> Sequence[Any]:
        return ()


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve(pipe: Connection) -> None:
    """Serve until told to end; answers each question with the CPU time used so far."""

    async def run() -> None:
        async with CoreServer(Directory(), options=ServerOptions(listen="127.0.0.1:0")) as server:
            pipe.send(server.address)
            while await asyncio.to_thread(pipe.recv):
                pipe.send(cpu_seconds())

    asyncio.run(run())


async def measure(
    address: str, pipe: Connection, stream: bool, chunk: int, size: int, seconds: float
) -> dict[str, Any]:
    """One way of submitting at one chunk size."""
    submission.CHUNK_TRANSACTIONS = chunk
    submission.CHUNK_BYTES = chunk * size if stream else 1 << 62
    items = [os.urandom(size) for _ in range(PASSES * 5 * chunk if stream else chunk)]
    lanes = 1 if stream else 4
    done = 0
    async with AsyncExitStack() as stack:
        channels = ChannelFactory([address])
        client = await stack.enter_async_context(
            CityClient("city", channels, timeout=timedelta(seconds=60))
        )
        await client.submit(items)

        async def lane() -> None:
            nonlocal done
            while time.perf_counter() < until:
                results = await client.submit(items)
                done += len(results)

        pipe.send(True)
        server_before, client_before = pipe.recv(), cpu_seconds()
        began = time.perf_counter()
        until = began + seconds
        await asyncio.gather(*(lane() for _ in range(lanes)))
        elapsed, client_cpu = time.perf_counter() - began, cpu_seconds() - client_before
        pipe.send(True)
        server_cpu = pipe.recv() - server_before
    return {
        "method": "SubmitStream" if stream else "SubmitBatch",
        "chunk": chunk,
        "tx_per_second": round(done / elapsed),
        "server_cpu_us_per_tx": round(server_cpu / done * 1e6, 2),
        "client_cpu_us_per_tx": round(client_cpu / done * 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What the wire alone costs.")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--bytes", type=int, default=5_000)
    parser.add_argument("--chunk", type=int, nargs="+", default=[100, 250, 1_000])
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    server = context.Process(target=serve, args=(other,), daemon=True)
    server.start()
    address = pipe.recv()
    results = [
        asyncio.run(measure(address, pipe, stream, chunk, arguments.bytes, arguments.seconds))
        for stream in (False, True)
        for chunk in arguments.chunk
    ]
    pipe.send(False)
    server.join()
    print(json.dumps({"bytes": arguments.bytes, "cpus": os.cpu_count(), "runs": results}, indent=1))


if __name__ == "__main__":
    main()
