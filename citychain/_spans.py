"""Spans of calls, as OpenTelemetry's semantic conventions for RPC have them.

It needs of OpenTelemetry what a program has that makes spans of its own, and is imported where
somebody asks for traces, and only there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

NAME_MAX: Final = 255
"""Characters of a method's name, which a caller may make up."""


def begin_call(tracer: Tracer, method: str, kind: SpanKind, context: Context | None) -> Span:
    """Begin the span of a call of ``/service/method``; ``None`` for the present context."""
    name = method.removeprefix("/")[:NAME_MAX]
    told = {"rpc.system.name": "grpc", "rpc.method": name}
    return tracer.start_span(name, context, kind, attributes=told)


def end_call(span: Span, code: str, *, failed: bool) -> None:
    """End the span of a call that ended with this status, by its name in gRPC."""
    span.set_attribute("rpc.response.status_code", code)
    if failed:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", code)
    span.end()


def begin_client_call(tracer: Tracer, method: str) -> tuple[str, Callable[[str], None]]:
    """Begin the span of a call, a child of the program's present span.

    Returns its ``traceparent``, and what is to be told the status, by name, with which it ended.
    """
    span = begin_call(tracer, method, SpanKind.CLIENT, None)
    it = span.get_span_context()
    parent = f"00-{it.trace_id:032x}-{it.span_id:016x}-{it.trace_flags:02x}"
    return parent, lambda code: end_call(span, code, failed=code != "OK")
