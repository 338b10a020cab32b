"""Turns what handlers raise into statuses, for every call, and gives each call its ids.

It stands before the plugins' interceptors, so what they raise becomes a status too.
"""

from __future__ import annotations

import inspect
import logging
import re
import secrets
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from citychain.errors import InvalidRequest, PluginError
from citychain.log_fields import set_log_fields
from citychain.rpc.endings import ended_as
from citychain.rpc.status import row_of, status_of, trailing_metadata
from citychain.tracing import UNTRACED, Tracer, span_parent

__all__ = ["REQUEST_ID_KEY", "TRACE_ID_KEY", "StatusInterceptor"]

logger = logging.getLogger(__name__)

REQUEST_ID_KEY: Final = "x-request-id"
"""Metadata key: the client's own id if it sent a fit one; told back in the trailing metadata."""
TRACE_ID_KEY: Final = "x-trace-id"
"""Metadata key of the answer: the id of the trace that the call belongs to, which a client gives by
``traceparent`` of `W3C Trace Context <https://www.w3.org/TR/trace-context/>`_, or a new one."""

_FIT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """The outermost interceptor, but for what counts calls.

    Args:
        tracer: Told of each call.
    """

    def __init__(self, tracer: Tracer = UNTRACED) -> None:
        self._tracer = tracer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See `grpc.aio.ServerInterceptor`."""
        call = _Call(handler_call_details, self._tracer)
        try:
            handler = await continuation(handler_call_details)
            if handler is None:  # The library answers that there is no such method.
                call.span.end(grpc.StatusCode.UNIMPLEMENTED.name, known=False)
                return None
            return call.guarded(handler)
        except Exception as error:
            return call.refused(error)


class _Call:
    """One call, from its arrival."""

    def __init__(self, details: grpc.HandlerCallDetails, tracer: Tracer) -> None:
        self.method = details.method
        given = dict(details.invocation_metadata or ())
        self.request_id = _request_id(given.get(REQUEST_ID_KEY))
        self.span = tracer.call(self.method, span_parent(given.get("traceparent")))
        self.trace_id = self.span.trace_id
        # gRPC handles each call in a task of its own.
        set_log_fields(request_id=self.request_id, trace_id=self.trace_id)

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """What the client is told at the end, whatever that is."""
        return (REQUEST_ID_KEY, self.request_id), (TRACE_ID_KEY, self.trace_id)

    def guarded(self, handler: Handler) -> Handler:
        """A handler that answers with statuses."""
        kind = _kind(handler)
        behavior = getattr(handler, kind)
        is_generator = inspect.isasyncgenfunction(behavior)
        if not is_generator and not inspect.iscoroutinefunction(behavior):
            raise PluginError(f"{self.method}: an interceptor's handler is not async")
        # A single request is decoded here, so that a broken one is the caller's fault.
        decode = None if handler.request_streaming else handler.request_deserializer

        async def guard(request: Any, context: Any) -> Any:
            context.set_trailing_metadata(self.ids)
            try:
                if decode is not None:
                    request = decode(request)
                if not is_generator:
                    return await behavior(request, context)
                async with aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)
            except grpc.aio.BaseError:
                # Aborted already, or the connection is gone: nothing more can be said.
                raise
            except Exception as error:
                await self.abort(context, error)
            finally:
                self.span.end(ended_as(context, sys.exception()).name)

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        deserializer = handler.request_deserializer if decode is None else None
        guarded: Handler = make(guard, deserializer, handler.response_serializer)
        return guarded

    def refused(self, error: Exception) -> Handler:
        """A handler that only tells an error."""

        async def refuse(_: Any, context: Any) -> None:
            try:
                await self.abort(context, error)
            finally:
                self.span.end(row_of(error).code.name)

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def abort(self, context: Any, error: Exception) -> NoReturn:
        """End the call with the error's status."""
        if isinstance(error, DecodeError):
            error = InvalidRequest("request", "is not a message of this method's type")
        error_id = ""
        if row_of(error).hidden:
            error_id = secrets.token_hex(8)
            logger.error(
                "%s failed (error id %s, request id %s)",
                self.method,
                error_id,
                self.request_id,
                exc_info=error,
            )
        status = status_of(error, error_id)
        logger.debug("%s ends as %s: %s", self.method, row_of(error).code.name, status.message)
        await context.abort(
            row_of(error).code,
            status.message,
            (*trailing_metadata(error, status), *self.ids),
        )
        raise AssertionError("abort raises")


def _request_id(given: str | bytes | None) -> str:
    return given if isinstance(given, str) and _FIT.fullmatch(given) else secrets.token_hex(8)


def _kind(handler: Handler) -> str:
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    return f"{request}_{response}"
