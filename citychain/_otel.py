"""Traces of a server over OpenTelemetry's SDK; imported where they are asked for, and only there.

A thread of the SDK's sends the spans. One that has ended is put into a queue, which drops what does
not fit, so that a collector that is away holds nothing up.

No provider is made the process' own: it may have several servers, and a tracer of its program.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_HEADERS,
    OTEL_EXPORTER_OTLP_TRACES_HEADERS,
)
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
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from citychain._spans import begin_call, end_call
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
NO_METHOD: Final = "_OTHER"
"""In the place of a method that is none, as semantic conventions have it."""
UNTRACED_METHODS: Final = "/grpc."
"""Health and reflection: probes would be most of what is traced."""
SERVERS_FAULTS: Final = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Statuses that make the span of a server one of an error, as semantic conventions have it."""
NO_CALL: Final = Context()
HEADER: Final = re.compile(r"[A-Za-z0-9_.-]+(?<!-bin)=[ -~]*")
UNFIT: Final = re.compile(r'[;"\\]')
"""What the value of a header in a variable may not have without being URL-encoded."""


class ServerTracer:
    """See `citychain.tracing.Tracer`.

    Args:
        ratio: As ``[traces]``, and the service's name; ``None`` for what the environment says.

    Raises:
        ValueError: a variable of OpenTelemetry's is wrong; or another error, of the library's.
    """

    def __init__(self, endpoint: str, ratio: float | None, service_name: str | None) -> None:
        _check_headers()
        plain = endpoint.startswith("http://")
        # A proxy that the environment names is asked even for what is on this machine, and could
        # read a password on the way.
        options: Any = (("grpc.enable_http_proxy", 0),) if plain else None
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=plain, channel_options=options
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
        span = begin_call(self._tracer, method, SpanKind.SERVER, context)
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

    def end(self, code: str, *, known: bool = True) -> None:
        if not known:
            self._span.update_name(NO_METHOD)
            self._span.set_attribute("rpc.method", NO_METHOD)
        end_call(self._span, code, failed=code in SERVERS_FAULTS)


def _check_headers() -> None:
    """Raises `ValueError` about headers that are wrong, without them: the library would log each
    whole, and leave it out; it can be a password."""
    for variable in (OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TRACES_HEADERS):
        for header in filter(None, map(str.strip, os.environ.get(variable, "").split(","))):
            sent = unquote(header.partition("=")[2])
            if not HEADER.fullmatch(header) or UNFIT.search(header) or not _is_printable(sent):
                raise ValueError(
                    f"{variable} is not name=value,name=value, with URL-encoded values"
                )


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _within(parent: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(parent), NO_CALL)


def _named(slug: str, round: int) -> dict[str, Any]:
    return {"citychain.city": slug, "citychain.round": round}
