"""Counts calls, as go-grpc-prometheus does: the names that dashboards for gRPC know.

It stands before all other interceptors, so that it sees how a call ended for its caller.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import CollectorRegistry, Counter, Histogram

from citychain.rpc._generated.citychain.v1 import services_pb2
from citychain.rpc.endings import ended_as

__all__ = ["CallMetrics", "CountingInterceptor"]

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

Labels: TypeAlias = tuple[str, str, str]
"""Type, service and method."""

UNKNOWN: Final[Labels] = ("unknown", "unknown", "unknown")
"""A method that no service has. What callers make up becomes no label."""
CALL: Final = ("grpc_type", "grpc_service", "grpc_method")
BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
CODES: Final = {code: code.name.title().replace("_", "") for code in grpc.StatusCode} | {
    grpc.StatusCode.OK: "OK",
    grpc.StatusCode.CANCELLED: "Canceled",
}
"""Statuses as Go spells them."""


class CallMetrics:
    """Those of one server's calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.started = Counter("grpc_server_started", "Calls that began.", CALL, registry=registry)
        self.handled = Counter(
            "grpc_server_handled",
            "Calls that ended, by the status that the caller got, as Go spells it.",
            (*CALL, "grpc_code"),
            registry=registry,
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "How long calls took; a watcher's lasts as long as it watches.",
            CALL,
            buckets=BUCKETS,
            registry=registry,
        )
        self.received = Counter(
            "grpc_server_msg_received", "Messages from callers.", CALL, registry=registry
        )
        self.sent = Counter("grpc_server_msg_sent", "Messages to callers.", CALL, registry=registry)


class CountingInterceptor(grpc.aio.ServerInterceptor):
    """The outermost interceptor."""

    def __init__(self, metrics: CallMetrics) -> None:
        self._metrics = metrics
        self._methods = {method: _Method(metrics, labels) for method, labels in _methods()}
        self._unknown = _Method(metrics, UNKNOWN)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        method = self._methods.get(handler_call_details.method, self._unknown)
        if handler is None:  # The library answers that there is no such method.
            method.started.inc()
            method.ended("Unimplemented")
            return None
        return method.counted(handler)


class _Method:
    """The counters of one method."""

    def __init__(self, metrics: CallMetrics, labels: Labels) -> None:
        self._handled = metrics.handled
        self._labels = labels
        self.started = metrics.started.labels(*labels)
        self._seconds = metrics.seconds.labels(*labels)
        self._received = metrics.received.labels(*labels)
        self._sent = metrics.sent.labels(*labels)
        self.ended("OK", 0)

    def ended(self, code: str, calls: int = 1) -> None:
        """So many calls ended with a status."""
        self._handled.labels(*self._labels, code).inc(calls)

    def counted(self, handler: Handler) -> Handler:
        """A handler that counts its calls."""
        kind = (
            f"{'stream' if handler.request_streaming else 'unary'}_"
            f"{'stream' if handler.response_streaming else 'unary'}"
        )
        behavior = getattr(handler, kind)

        async def count(request: Any, context: Any) -> Any:
            began = time.monotonic()
            self.started.inc()
            if not handler.request_streaming:
                self._received.inc()
            try:
                response = await behavior(request, context)
            except BaseException as error:
                self.ended(CODES[ended_as(context, error)])
                raise
            else:
                self.ended(CODES[ended_as(context, None)])
                return response
            finally:
                self._seconds.observe(time.monotonic() - began)

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        deserializer = handler.request_deserializer
        if handler.request_streaming:
            deserializer = _counting(self._received, deserializer)
        counted: Handler = make(
            count, deserializer, _counting(self._sent, handler.response_serializer)
        )
        return counted


def _counting(counter: Counter, convert: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Converts messages between the wire and the model, and counts them."""

    def counting(message: Any) -> Any:
        counter.inc()
        return message if convert is None else convert(message)

    return counting


def _methods() -> Iterator[tuple[str, Labels]]:
    """All methods that the server has."""
    for file in (services_pb2, health_pb2, reflection_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                labels = (_type(method), service.full_name, method.name)
                yield f"/{service.full_name}/{method.name}", labels


def _type(method: MethodDescriptor) -> str:
    if method.client_streaming:
        return "bidi_stream" if method.server_streaming else "client_stream"
    return "server_stream" if method.server_streaming else "unary"
