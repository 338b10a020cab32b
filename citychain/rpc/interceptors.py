"""Turns what handlers raise into statuses, for every call, and gives each call an id.

It stands before the plugins' interceptors, so what they raise becomes a status too.
"""

from __future__ import annotations

import inspect
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from citychain.errors import InvalidRequest, PluginError
from citychain.rpc.status import row_of, status_of, trailing_metadata

__all__ = ["REQUEST_ID_KEY", "StatusInterceptor"]

logger = logging.getLogger(__name__)

REQUEST_ID_KEY: Final = "x-request-id"
"""Metadata key: the client's own id if it sent a fit one; told back in the trailing metadata."""
_FIT = re.compile(r"[A-Za-z0-9._-]{1,64}")

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """The outermost interceptor."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See `grpc.aio.ServerInterceptor`."""
        call = _Call(handler_call_details)
        try:
            handler = await continuation(handler_call_details)
            return None if handler is None else call.guarded(handler)
        except Exception as error:
            return call.refused(error)


class _Call:
    """One call, from its arrival."""

    def __init__(self, details: grpc.HandlerCallDetails) -> None:
        self.method = details.method
        given = dict(details.invocation_metadata or ()).get(REQUEST_ID_KEY, "")
        self.request_id = secrets.token_hex(8)
        if isinstance(given, str) and _FIT.fullmatch(given):
            self.request_id = given

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
            context.set_trailing_metadata(((REQUEST_ID_KEY, self.request_id),))
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

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        deserializer = handler.request_deserializer if decode is None else None
        guarded: Handler = make(guard, deserializer, handler.response_serializer)
        return guarded

    def refused(self, error: Exception) -> Handler:
        """A handler that only tells an error."""

        async def refuse(_: Any, context: Any) -> None:
            await self.abort(context, error)

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
        await context.abort(
            row_of(error).code,
            status.message,
            (*trailing_metadata(error, status), (REQUEST_ID_KEY, self.request_id)),
        )
        raise AssertionError("abort raises")


def _kind(handler: Handler) -> str:
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    return f"{request}_{response}"
