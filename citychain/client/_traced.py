"""A span of each call, of which the server is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from citychain.client._ended import result_of
from citychain.client._wrapped import WrappedChannel

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["TracedChannel"]


class TracedChannel(WrappedChannel):
    """Makes a span of each call over a channel, which it owns, and sends its ``traceparent``."""

    def __init__(self, channel: grpc.aio.Channel, tracer: Tracer) -> None:
        from citychain._spans import begin_client_call

        super().__init__(channel)
        self._begin = begin_client_call
        self._tracer = tracer

    def _around(self, path: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
            parent, end = self._begin(self._tracer, path)
            made = method(*args, metadata=(*(metadata or ()), ("traceparent", parent)), **kwargs)
            made.add_done_callback(lambda ended: end(result_of(ended.code()).name))
            return made

        return call
