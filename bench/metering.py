"""What metrics cost a transaction; prints JSON.

    python bench/metering.py [--chunk 1 100 1000] [--times 2000]

Microseconds of CPU a transaction, for calls and rounds of so many: one call, its answers, and one
round, as a server counts them. Compare with ``server_cpu_us`` of ``citychain bench``. ``scrape_ms``
is what one answer to Prometheus takes, with 20 cities.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any, get_args

import grpc
from prometheus_client import CollectorRegistry, generate_latest

from citychain import record
from citychain.city.metering import CityMeter, Step
from citychain.clock import SystemClock
from citychain.handler import Received
from citychain.metrics.cities import CityMetrics
from citychain.ports import StoredRound
from citychain.rpc.counting import CallMetrics, CountingInterceptor
from citychain.types import SealedNode, SealedRound, State

METHOD = "/citychain.v1.TransactionService/SubmitBatch"


class Context:
    """Of a call that ends well."""

    def code(self) -> None:
        return None


class Details:
    """Of a call."""

    method = METHOD


def rounds(size: int) -> tuple[SealedRound, StoredRound, list[SealedNode]]:
    """A round of so many transactions, as far as it is counted."""
    entry = bytes(record.POH_BYTES)
    sealed: Any = SealedRound(
        1, 0, 1, 0, entry, b"", b"", [None] * size, (), (), (), None, (), (), b"", b""
    )
    nodes = [SealedNode(b"%d" % seq, b"", 1, seq, None, (), None) for seq in range(size)]
    return sealed, StoredRound(1, 0, 0, size, entry, b"", b"", b""), nodes


def count_a_round(
    meter: CityMeter,
    sealed: SealedRound,
    stored: StoredRound,
    nodes: list[SealedNode],
    received: list[Received],
) -> None:
    for step in get_args(Step):
        with meter.timed(step):
            pass
    meter.answered(received)
    meter.sealed(sealed)
    meter.final(nodes)
    meter.approved(stored, nodes)


async def call_cost(interceptor: CountingInterceptor, times: int) -> float:
    """Seconds that counting adds to a call."""

    async def answer(request: bytes, context: Any) -> bytes:
        return b""

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)

    async def find(_: Any) -> Any:
        return handler

    context = Context()
    began = time.process_time()
    for _ in range(times):
        counted: Any = await interceptor.intercept_service(find, Details())  # type: ignore[arg-type]
        counted.response_serializer(await counted.unary_unary(b"", context))
    counting = time.process_time() - began
    began = time.process_time()
    for _ in range(times):
        found = await find(None)
        await found.unary_unary(b"", context)
    return (counting - (time.process_time() - began)) / times


def measure(chunks: list[int], times: int) -> dict[str, Any]:
    registry = CollectorRegistry()
    cities = CityMetrics(registry, 20, SystemClock(), {})
    call = asyncio.run(call_cost(CountingInterceptor(CallMetrics(registry)), times))
    meters = [cities.meter(f"city-{number}") for number in range(20)]
    figures: dict[str, Any] = {"call_us": 1e6 * call}
    for chunk in chunks:
        sealed, stored, nodes = rounds(chunk)
        received = [Received(node.tx_id, State.RECEIVED, False) for node in nodes]
        began = time.process_time()
        for _ in range(times):
            count_a_round(meters[0], sealed, stored, nodes, received)
        each = (time.process_time() - began) / times + call
        figures[f"transaction_us_of_{chunk}"] = 1e6 * each / chunk
    began = time.process_time()
    generate_latest(registry)
    figures["scrape_ms"] = 1e3 * (time.process_time() - began)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunk", type=int, nargs="+", default=[1, 100, 1_000])
    parser.add_argument("--times", type=int, default=2_000)
    options = parser.parse_args()
    print(json.dumps(measure(options.chunk, options.times), indent=2))
