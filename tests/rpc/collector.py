"""Receives traces, as a collector does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What it was sent."""

    def __init__(self) -> None:
        self.address = ""
        self.received: list[ResourceSpans] = []

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.received += request.resource_spans
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        return [span for it in self.received for scope in it.scope_spans for span in scope.spans]

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
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
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
