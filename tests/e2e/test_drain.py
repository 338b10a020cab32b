"""A server that is told to stop under load: who watches its health hears of it, calls under way are
answered, and all that was acknowledged is approved before it ends."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
from e2e.test_kill import serving
from grpc_health.v1 import health_pb2, health_pb2_grpc

from citychain.cli.saving import founded
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.config import load_settings
from citychain.containers import CoreContainer
from citychain.crypto.signatures import SigningKey
from citychain.moving.composing import open_home
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.types import State

CONFIG = """\
operator_key = "operator.key"
data_dir = "data"
[server]
drain_seconds = 300
[plugins]
allow = []
[pacer]
min_seconds = 0.05
max_seconds = 0.2
[cities.tokyo]
num_hashes = 10
"""
BATCH = 5
LOAD = 60
"""Acknowledged transactions after which the server is told to stop, while more are under way."""
Status = health_pb2.HealthCheckResponse


async def write(address: str, genesis: bytes, key: SigningKey, acknowledged: list[bytes]) -> None:
    """Submit until the server takes no more; nothing is sent twice."""
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        for number in range(100_000):
            batch = [
                sign_transaction(
                    key, genesis=genesis, data=f"{number} {n}".encode(), with_public_key=True
                )
                for n in range(BATCH)
            ]
            request = services_pb2.SubmitBatchRequest(
                city="tokyo", transactions=[one.with_public_key() for one in batch]
            )
            try:
                answer = await stub.SubmitBatch(request)
            except grpc.aio.AioRpcError as error:
                # Of gRPC itself: what arrives while a server stops may be dropped as cancelled.
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    return
                raise
            assert [result.state for result in answer.results] == [State.RECEIVED] * BATCH
            acknowledged += [one.tx_id for one in batch]
    raise AssertionError("the server goes on accepting")


async def test_what_was_acknowledged_under_load_is_approved_when_the_server_has_stopped(
    tmp_path: Path,
) -> None:
    create_key(tmp_path / "operator.key")
    (tmp_path / "citychain.toml").write_text(CONFIG)
    acknowledged: list[bytes] = []
    async with serving(tmp_path, "127.0.0.1:0") as process:
        address = (tmp_path / "ready").read_text().strip()
        async with CityClient("tokyo", ChannelFactory([address])) as client:
            genesis = (await client.info()).genesis
        async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(300):
            health: Any = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == Status.SERVING
            keys = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]
            writers = [
                asyncio.create_task(write(address, genesis, key, acknowledged)) for key in keys
            ]
            while len(acknowledged) < LOAD:
                assert not any(writer.done() for writer in writers)
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == Status.NOT_SERVING
            await asyncio.gather(*writers)
            assert await process.wait() == 0

    settings = load_settings(tmp_path / "citychain.toml", environment={})
    core = CoreContainer(settings=settings)
    async with core.compute(), core.engines():
        plan, genesis_file = founded(core, "tokyo")
        storage = (await open_home(core, plan, genesis_file)).storage
        assert await storage.pending_ids() == []
        head = await storage.head()
        assert head.certified_round == head.round
        nodes = await storage.find(acknowledged)
        assert nodes.keys() == set(acknowledged)
        assert all(node.rejection is None for node in nodes.values())
