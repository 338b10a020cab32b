"""Receives traces, as a collector does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What it was sent.

    Args:
        before: Awaited before each answer, with the call's context.
    """

    def __init__(self, before: Callable[[Any], Awaitable[Any]] | None = None) -> None:
        self.address = ""
        self.received: list[ResourceSpans] = []
        self.asked = asyncio.Event()
        self._before = before

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.received += request.resource_spans
        self.asked.set()
        if self._before is not None:
            await self._before(context)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        return [span for it in self.received for scope in it.scope_spans for span in scope.spans]

    @property
    def wire(self) -> bytes:
        """All that it was sent."""
        return b"".join(it.SerializeToString() for it in self.received)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    @property
    def services(self) -> set[str]:
        return {
            attribute.value.string_value
            for it in self.received
            for attribute in it.resource.attributes
            if attribute.key == "service.name"
        }


@asynccontextmanager
async def collecting(
    before: Callable[[Any], Awaitable[Any]] | None = None,
) -> AsyncIterator[Collector]:
    collector = Collector(before)
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(None)


def told(span: Span) -> dict[str, Any]:
    """Its attributes."""
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in span.attributes}
