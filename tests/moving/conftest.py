"""Cities with two storages to live in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc

from citychain import record
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.moves import request_move
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Genesis
from citychain.moving.moving import MoveResult, Told
from citychain.moving.request import MoveRequest
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.testing.server import CityServer
from citychain.types import State

OPERATOR = SigningKey(b"o" * 32)
AUTHORS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
STORAGES = {"old": {"backend": "sqlite"}, "new": {"backend": "sqlite"}}
TOKYO = {"tokyo": {"storage": "old", "num_hashes": 10}}
BATCH = 5


def signed(genesis: bytes, key: SigningKey, count: int, mark: str) -> list[SignedTransaction]:
    return [
        sign_transaction(key, genesis=genesis, data=f"{mark} {n}".encode(), with_public_key=True)
        for n in range(count)
    ]


async def move(
    server: CityServer,
    storage: str,
    *,
    city: str = "tokyo",
    operator: SigningKey = OPERATOR,
    told: Told = lambda phase, done, of: None,
    **request: bool,
) -> MoveResult:
    async with server.client(city) as client:
        genesis = Genesis.from_bytes((await client.info()).genesis_file)
    channels = ChannelFactory([server.address])
    return await request_move(
        channels, city, genesis, operator, MoveRequest(storage, **request), told
    )


@dataclass
class Load:
    """Residents who go on writing. Nothing is repeated: a refusal, or a failed call, ends it."""

    server: CityServer
    genesis: bytes
    pause: float = 0.0
    """Seconds that each rests after a call."""
    sent: list[SignedTransaction] = field(default_factory=list)
    longest: float = 0.0
    """Seconds that a call took."""
    _stopped: bool = False

    async def write(self, key: SigningKey) -> None:
        options = [("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(self.server.address, options=options) as channel:
            stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
            number = 0
            while not self._stopped:
                batch = signed(self.genesis, key, BATCH, f"load {number}")
                number += 1
                envelopes = [transaction.with_public_key() for transaction in batch]
                began = time.monotonic()
                answer = await stub.SubmitBatch(
                    services_pb2.SubmitBatchRequest(city="tokyo", transactions=envelopes)
                )
                self.longest = max(self.longest, time.monotonic() - began)
                assert [result.state for result in answer.results] == [State.RECEIVED] * BATCH
                self.sent += batch
                await asyncio.sleep(self.pause)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Load]:
        writers = [asyncio.create_task(self.write(key)) for key in AUTHORS]
        try:
            yield self
        finally:
            self._stopped = True
            done = await asyncio.gather(*writers, return_exceptions=True)
        for result in done:
            if result is not None:
                raise result

    async def grown(self, count: int) -> None:
        """Wait until so many more were received."""
        wanted = len(self.sent) + count
        async with asyncio.timeout(120):
            while len(self.sent) < wanted:
                await asyncio.sleep(0.01)


async def receipts_of(
    client: CityClient, sent: Sequence[SignedTransaction]
) -> dict[bytes, Receipt]:
    """Receipts of all, once all are final; each is checked."""
    tx_ids = [transaction.tx_id for transaction in sent]
    await client.wait(tx_ids, timeout=timedelta(seconds=300))
    receipts = await client.receipts(tx_ids)
    assert receipts.keys() == set(tx_ids)
    verifier = ReceiptVerifier(Genesis.from_bytes((await client.info()).genesis_file))
    for receipt in receipts.values():
        verifier.verify(receipt)
    return receipts


async def once_each(client: CityClient, sent: Sequence[SignedTransaction]) -> None:
    """Each is in one round, and rounds have no gaps."""
    sealed: list[bytes] = []
    rounds = await client.rounds(1, 100_000)
    assert [stored.round for stored in rounds] == list(range(1, len(rounds) + 1))
    for stored in rounds:
        sealed += record.decode(stored.record).tx_ids
    assert len(sealed) == len(set(sealed))
    assert {transaction.tx_id for transaction in sent} <= set(sealed)
