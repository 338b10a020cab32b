"""Load: pre-signed transactions, sent through streams or batches, timed one by one.

Speaks to the generated stubs, so that it measures the server's road and as
little as possible of a client's comfort.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from citychain.crypto.keys import SCHEME_ML_DSA_87, key_id
from citychain.crypto.signatures import SigningKey
from citychain.rpc._generated.citychain.v1 import (
    ledger_pb2,
    services_pb2,
    services_pb2_grpc,
    transaction_pb2,
)

__all__ = ["CHUNK", "Sent", "channel", "presign", "run_load"]

CHUNK: Final = 100
"""Transactions a message."""
BODY_BYTES: Final = 300
CONTEXT: Final = b"citychain/tx/v1"
MESSAGE_BYTES_MAX: Final = 32 << 20

STATE_UNSPECIFIED: Final = ledger_pb2.State.STATE_UNSPECIFIED


@dataclass(slots=True)
class Sent:
    """What a load saw."""

    count: int
    seconds_acknowledged: float
    seconds_approved: float
    acknowledged_ms: Sequence[float] = field(repr=False)
    """Latency of each chunk from sending to its response."""
    approved_ms: Sequence[float] = field(repr=False)
    """Latency of each transaction from sending to being told that it is approved."""
    pushed_back: int
    """Chunks that the server asked to send again later."""


def channel(address: str) -> grpc.aio.Channel:
    """A channel of its own connection."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )


def presign(
    genesis: bytes, keys: Sequence[SigningKey], count: int, *, by_value: bool
) -> list[tuple[bytes, bytes]]:
    """Ids and envelopes of ``count`` data transactions, the keys taking turns."""
    now = time.time_ns() // 1_000_000
    with ThreadPoolExecutor() as pool:
        per_key = [count // len(keys) + (n < count % len(keys)) for n in range(len(keys))]
        signed = pool.map(
            lambda pair: _sign(genesis, pair[0], pair[1], now, by_value=by_value),
            zip(keys, per_key, strict=True),
        )
    columns = list(signed)
    return [column[row] for row in range(max(per_key)) for column in columns if row < len(column)]


def _sign(
    genesis: bytes, key: SigningKey, count: int, now: int, *, by_value: bool
) -> list[tuple[bytes, bytes]]:
    author = key_id(key.public_key)
    template = transaction_pb2.TransactionBody(
        genesis=genesis, author=author, nonce=bytes(8), created_at_ms=now
    )
    template.data.content = b""
    fill = BODY_BYTES - template.ByteSize() - 3
    bodies = []
    for _ in range(count):
        template.nonce = os.urandom(8)
        template.data.content = os.urandom(fill)
        bodies.append(template.SerializeToString())
    signer = {"public_key": key.public_key} if by_value else {"key_id": author}
    return [
        (
            hashlib.sha256(b"citychain/tx/v1\0" + body).digest(),
            transaction_pb2.SignedTransaction(
                body=body,
                scheme=transaction_pb2.Scheme.ValueType(SCHEME_ML_DSA_87),
                signature=signature,
                **signer,
            ).SerializeToString(),
        )
        for body, signature in zip(bodies, key.sign_batch(bodies, CONTEXT), strict=True)
    ]


async def run_load(
    addresses: Sequence[str],
    load: Iterable[tuple[str, Sequence[tuple[bytes, bytes]]]],
    *,
    streams: int = 4,
    window: int = 2,
    unary: bool = False,
    rate: float | None = None,
    until_approved: bool = True,
) -> Sent:
    """Send everything; wait until all is acknowledged, and approved.

    Args:
        addresses: Of the servers: streams take turns, and the last one is watched.
        load: By city, ids and envelopes.
        streams: Connections that send at the same time, a city's in turn.
        window: Chunks under way on each; 1 where a rate is given, or a chunk would wait for its
            turn before the answer to the one before it is read.
        unary: By `SubmitBatch` calls instead of a stream.
        rate: Transactions a second over all; as fast as it goes if ``None``.
    """
    load = [(city, list(items)) for city, items in load]
    count = sum(len(items) for _, items in load)
    run = _Run(count, rate)
    channels = [channel(addresses[number % len(addresses)]) for number in range(streams)]
    watching = channel(addresses[-1])
    try:
        watchers = [
            asyncio.create_task(run.watch(watching, city, len(items)))
            for city, items in load
            if until_approved
        ]
        await run.ready(len(watchers))
        chunks = _chunks(load)
        send = run.send_batches if unary else run.send_stream
        began = time.perf_counter()
        run.began = began
        async with asyncio.TaskGroup() as group:
            for number in range(streams):
                group.create_task(send(channels[number], chunks, window))
        acknowledged = time.perf_counter() - began
        await asyncio.gather(*watchers)
        approved = time.perf_counter() - began
    finally:
        await asyncio.gather(*(one.close() for one in (*channels, watching)))
    return Sent(
        count, acknowledged, approved, run.acknowledged_ms, run.approved_ms, run.pushed_back
    )


def _chunks(
    load: Sequence[tuple[str, Sequence[tuple[bytes, bytes]]]],
) -> Callable[[], tuple[str, Sequence[tuple[bytes, bytes]]] | None]:
    """The next chunk at each call, the cities taking turns."""
    queues = [
        iter([(city, items[at : at + CHUNK]) for at in range(0, len(items), CHUNK)])
        for city, items in load
    ]

    def take() -> tuple[str, Sequence[tuple[bytes, bytes]]] | None:
        while queues:
            queue = queues.pop(0)
            if (chunk := next(queue, None)) is not None:
                queues.append(queue)
                return chunk
        return None

    return take


class _Run:
    """One load under way."""

    def __init__(self, count: int, rate: float | None) -> None:
        self._rate = rate
        self._paced = 0
        self._sent_at: dict[bytes, float] = {}
        self._watching = 0
        self._ready = asyncio.Event()
        self.began = 0.0
        self.acknowledged_ms: list[float] = []
        self.approved_ms: list[float] = []
        self.pushed_back = 0

    async def ready(self, watchers: int) -> None:
        while self._watching < watchers:
            self._ready.clear()
            await self._ready.wait()

    async def watch(self, to: grpc.aio.Channel, city: str, count: int) -> None:
        """Note when each of a city's next ``count`` transactions is approved."""
        stub: Any = services_pb2_grpc.TransactionServiceStub(to)
        cities: Any = services_pb2_grpc.CityServiceStub(to)
        found = await cities.GetCity(services_pb2.GetCityRequest(city=city))
        events = stub.Watch(
            services_pb2.WatchRequest(
                city=city, everything=True, after_position=found.head.approved_round
            )
        )
        self._watching += 1
        self._ready.set()
        async for response in events:
            now = time.perf_counter()
            for event in response.events:
                if (sent := self._sent_at.get(event.tx_id)) is not None:
                    self.approved_ms.append((now - sent) * 1e3)
                    count -= 1
            if count <= 0:
                events.cancel()
                return

    async def _pace(self, items: int) -> None:
        if self._rate is not None:
            due = self.began + self._paced / self._rate
            self._paced += items
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    def _sending(self, items: Sequence[tuple[bytes, bytes]]) -> float:
        now = time.perf_counter()
        for tx_id, _ in items:
            self._sent_at.setdefault(tx_id, now)
        return now

    def _received(self, response: services_pb2.SubmitBatchResponse, sent: float) -> None:
        self.acknowledged_ms.append((time.perf_counter() - sent) * 1e3)
        for result in response.results:
            if result.state == STATE_UNSPECIFIED:
                raise RuntimeError(f"refused: {result.refusal.code} {result.refusal.detail}")

    async def send_batches(self, to: grpc.aio.Channel, take: Any, window: int) -> None:
        stub: Any = services_pb2_grpc.TransactionServiceStub(to)

        async def one() -> None:
            while (chunk := take()) is not None:
                city, items = chunk
                await self._pace(len(items))
                sent = self._sending(items)
                request = services_pb2.SubmitBatchRequest(
                    city=city, transactions=[envelope for _, envelope in items]
                )
                while True:
                    try:
                        response = await stub.SubmitBatch(request)
                        break
                    except grpc.aio.AioRpcError as error:
                        await self._pushed_back(error)
                self._received(response, sent)

        async with asyncio.TaskGroup() as group:
            for _ in range(window):
                group.create_task(one())

    async def send_stream(self, to: grpc.aio.Channel, take: Any, window: int) -> None:
        """Send through one stream; opened again, from the first unanswered chunk, when the
        server pushes back."""
        stub: Any = services_pb2_grpc.TransactionServiceStub(to)
        unanswered: list[tuple[float, services_pb2.SubmitBatchRequest]] = []
        while True:
            call = stub.SubmitStream()
            try:
                for _, request in unanswered:
                    await call.write(request)
                while True:
                    while len(unanswered) < window and (chunk := take()) is not None:
                        city, items = chunk
                        await self._pace(len(items))
                        request = services_pb2.SubmitBatchRequest(
                            city=city, transactions=[envelope for _, envelope in items]
                        )
                        unanswered.append((self._sending(items), request))
                        await call.write(request)
                    if not unanswered:
                        await call.done_writing()
                        return
                    response = await call.read()
                    if response is grpc.aio.EOF:
                        await self._pushed_back(await _error_of(call))
                        break
                    self._received(response, unanswered.pop(0)[0])
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await self._pushed_back(await _error_of(call))

    async def _pushed_back(self, error: grpc.aio.AioRpcError) -> None:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise error
        self.pushed_back += 1
        await asyncio.sleep(0.02)


async def _error_of(call: Any) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        details=await call.details(),
    )
