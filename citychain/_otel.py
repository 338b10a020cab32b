"""The one module that speaks OpenTelemetry; imported where traces are asked for, and only there.

A thread of the SDK's sends the spans. One that has ended is put into a queue, which drops what does
not fit, so that a collector that is away holds nothing up.

No provider is made the process' own: it may have several servers, and a tracer of its program.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from citychain.ports import StoredRound
from citychain.tracing import UNTRACED, CallSpan, SpanParent
from citychain.types import SealedRound

LINKS_MAX: Final = 128
"""Calls that a round's span links to: the first that brought it something."""
WAITING_MAX: Final = 100_000
"""Transactions of which is known what call brought them; of more, the latest."""
ROUNDS_MAX: Final = 10_000
"""Rounds that wait for their approval."""
CLOSE_SECONDS: Final = 5.0
"""For as long what is left is sent at the end."""
NAME_MAX: Final = 255
"""Characters of a method's name, which a caller may make up."""
UNTRACED_METHODS: Final = "/grpc."
"""Health and reflection: probes would be most of what is traced."""
SERVERS_FAULTS: Final = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Statuses that make the span of a server one of an error, as semantic conventions have it."""
NO_CALL: Final = Context()


class ServerTracer:
    """See `citychain.tracing.Tracer`.

    Args:
        ratio: As ``[traces]``, and the service's name; ``None`` for what the environment says.
    """

    def __init__(self, endpoint: str, ratio: float | None, service_name: str | None) -> None:
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=endpoint.startswith("http://")
        )
        named = {} if service_name is None else {SERVICE_NAME: service_name}
        told = {SERVICE_NAME: "citychain", **OTELResourceDetector().detect().attributes, **named}
        self._provider = TracerProvider(
            sampler=None if ratio is None else ParentBasedTraceIdRatio(ratio),
            resource=Resource.create(told),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("citychain")
        self._callers: OrderedDict[bytes, SpanContext] = OrderedDict()
        """By transaction that is not sealed, the oldest first."""
        self._rounds: OrderedDict[tuple[str, int], tuple[SpanContext, int]] = OrderedDict()
        """Those that are not approved, by city and number, and when they were committed."""

    def call(self, method: str, parent: SpanParent | None) -> CallSpan:
        if method.startswith(UNTRACED_METHODS):
            return UNTRACED.call(method, parent)
        context = NO_CALL
        if parent is not None:
            ids = int(parent.trace_id, 16), int(parent.span_id, 16)
            flags = TraceFlags(int(parent.flags, 16))
            context = _within(SpanContext(*ids, is_remote=True, trace_flags=flags))
        span = _call_span(self._tracer, method, SpanKind.SERVER, context)
        # gRPC handles each call in a task of its own, with which this ends.
        attach(set_span_in_context(span))
        if not span.get_span_context().is_valid:  # As OTEL_SDK_DISABLED says.
            return UNTRACED.call(method, parent)
        return _Call(span)

    def leave_call(self) -> None:
        attach(set_span_in_context(INVALID_SPAN))

    def caller(self) -> object:
        return get_current_span().get_span_context()

    def received(self, caller: object, tx_ids: Iterable[bytes]) -> None:
        assert isinstance(caller, SpanContext)
        if not caller.trace_flags.sampled:
            return
        for tx_id in tx_ids:
            self._callers.setdefault(tx_id, caller)
        while len(self._callers) > WAITING_MAX:
            self._callers.popitem(last=False)

    def sealed(self, slug: str, round: SealedRound) -> None:
        found = (self._callers.pop(it.tx_id, None) for it in round.transactions)
        callers = list({it.span_id: it for it in found if it is not None}.values())
        if not callers:
            return
        began = round.time_ms * 1_000_000
        span = self._tracer.start_span(
            "round",
            _within(callers[0]),
            attributes={
                **_named(slug, round.round),
                "citychain.transactions": len(round.transactions),
                "citychain.calls": len(callers),
            },
            links=[Link(caller) for caller in callers[:LINKS_MAX]],
            start_time=began,
        )
        ended = max(time.time_ns(), began)  # A clock that was set back.
        span.end(ended)
        self._rounds[slug, round.round] = span.get_span_context(), ended
        while len(self._rounds) > ROUNDS_MAX:
            self._rounds.popitem(last=False)

    def approved(self, slug: str, round: StoredRound) -> None:
        if (sealed := self._rounds.pop((slug, round.round), None)) is None:
            return
        parent, began = sealed
        span = self._tracer.start_span(
            "approval", _within(parent), attributes=_named(slug, round.round), start_time=began
        )
        span.end(max(time.time_ns(), began))

    async def aclose(self) -> None:
        closing = asyncio.create_task(asyncio.to_thread(self._provider.shutdown))
        try:
            await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        finally:
            if not closing.done():
                # Ends the waiting for the collector, and with it the thread, also where somebody
                # is in a hurry.
                self._exporter.shutdown(0)
        await closing


class _Call:
    """See `citychain.tracing.CallSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def end(self, code: str) -> None:
        _end(self._span, code, code in SERVERS_FAULTS)


def begin_client_call(tracer: Tracer, method: str) -> tuple[str, Callable[[str], None]]:
    """Begin the span of a call, a child of the program's present span.

    Returns its ``traceparent``, and what is to be told the status, by name, with which it ended.
    """
    span = _call_span(tracer, method, SpanKind.CLIENT, None)
    it = span.get_span_context()
    parent = f"00-{it.trace_id:032x}-{it.span_id:016x}-{it.trace_flags:02x}"
    return parent, lambda code: _end(span, code, code != "OK")


def _call_span(tracer: Tracer, method: str, kind: SpanKind, context: Context | None) -> Span:
    name = method.removeprefix("/")[:NAME_MAX]
    told = {"rpc.system.name": "grpc", "rpc.method": name}
    return tracer.start_span(name, context, kind, attributes=told)


def _end(span: Span, code: str, failed: bool) -> None:
    span.set_attribute("rpc.response.status_code", code)
    if failed:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", code)
    span.end()


def _within(parent: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(parent), NO_CALL)


def _named(slug: str, round: int) -> dict[str, Any]:
    return {"citychain.city": slug, "citychain.round": round}
