"""What traces cost a call, and a transaction of its round; prints JSON.

    python bench/tracing.py [--chunk 1 100 1000] [--times 2000]

Microseconds of CPU: ``call_us`` for a call with its trace, ``transaction_us_of_N`` for each of N
transactions that a call brings, with their round and its approval; where nobody asks for traces,
and where all are kept. What the thread takes that sends the spans is in it; a collector in another
process takes them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from concurrent import futures
from contextvars import copy_context
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from citychain.config_traces import TracesSettings
from citychain.ports import StoredRound
from citychain.tracing import UNTRACED, Tracer, open_tracer, span_parent
from citychain.types import SealedRound

METHOD = "/citychain.v1.TransactionService/SubmitBatch"
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class Transaction:
    """As far as a trace knows it."""

    def __init__(self, tx_id: bytes) -> None:
        self.tx_id = tx_id


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes what it gets."""

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        return trace_service_pb2.ExportTraceServiceResponse()


def collect(pipe: Any) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    pipe.recv()
    server.stop(None)


def call(tracer: Tracer) -> object:
    span = tracer.call(METHOD, span_parent(PARENT))
    caller = tracer.caller()
    span.end("OK")
    return caller


def measure(tracer: Tracer, chunks: list[int], times: int) -> dict[str, float]:
    began = time.process_time()
    for _ in range(times):
        copy_context().run(call, tracer)  # As in a task of its own.
    each = (time.process_time() - began) / times
    figures = {"call_us": 1e6 * each}
    for chunk in chunks:
        many: list[Any] = [Transaction(b"%d" % number) for number in range(chunk)]
        rest = ((), (), (), None, (), (), b"", b"")
        sealed = SealedRound(1, 0, 1, 0, b"", b"", b"", many, *rest)  # type: ignore[arg-type]
        stored = StoredRound(1, 0, 0, chunk, b"", b"", b"", b"")
        began = time.process_time()
        for _ in range(times):
            caller = copy_context().run(call, tracer)
            tracer.received(caller, [it.tx_id for it in many])
            tracer.sealed("hometown", sealed)
            tracer.approved("hometown", stored)
        figures[f"transaction_us_of_{chunk}"] = 1e6 * (time.process_time() - began) / times / chunk
    return figures


def main(chunks: list[int], times: int) -> None:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    collector = multiprocessing.get_context("spawn").Process(target=collect, args=(theirs,))
    collector.start()
    tracer = open_tracer(TracesSettings(endpoint=f"http://127.0.0.1:{ours.recv()}"))
    figures = {
        "untraced": measure(UNTRACED, chunks, times),
        "traced": measure(tracer, chunks, times),
    }
    asyncio.run(tracer.aclose())
    ours.send(None)
    collector.join()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunk", type=int, nargs="+", default=[1, 100, 1_000])
    parser.add_argument("--times", type=int, default=2_000)
    options = parser.parse_args()
    main(options.chunk, options.times)
