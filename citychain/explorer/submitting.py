"""Passing on transactions that the browser signed."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from citychain.client.tokens import checked_token
from citychain.errors import (
    ConfigurationError,
    InvalidRequest,
    NotAuthenticated,
    Overloaded,
    TransactionRefused,
)
from citychain.explorer.reading import json_response
from citychain.explorer.upstream import Upstream
from citychain.rpc.messages import Refused

__all__ = ["Submitting"]

BODY_BYTES_MAX: Final = (4 << 20) + (16 << 10)
"""The largest body that a city can be told to take, a signature and a key."""
READ_SECONDS: Final = 30.0
MEDIA_TYPE: Final = "application/x-protobuf"
"""No form of another site can send it without being asked first."""


class Submitting:
    """Submits as who is signed in."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def submit(self, request: Request) -> Response:
        """One signed transaction."""
        if request.headers.get("content-type") != MEDIA_TYPE:
            raise InvalidRequest("content-type", f"must be {MEDIA_TYPE}")
        client = self._upstream.city_for(request.path_params["city"], _token(request))
        async with asyncio.timeout(READ_SECONDS):
            envelope = await _body(request)
        async with client as city:
            [result] = await city.submit([envelope])
        if isinstance(result, Refused):
            if result.retry_after:
                raise Overloaded(result.detail, result.retry_after, result.code)
            raise TransactionRefused(result.code, result.field or "", result.detail)
        shown = {"tx_id": result.tx_id, "state": result.state.name.lower()}
        return json_response(shown | {"duplicate": result.duplicate})


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES_MAX:
                raise InvalidRequest("body", f"has more than {BODY_BYTES_MAX} bytes")
    except ClientDisconnect:
        raise InvalidRequest("body", "ended early") from None
    if not body:
        raise InvalidRequest("body", "is empty; it must be a SignedTransaction")
    return bytes(body)


def _token(request: Request) -> str | None:
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated("authorization: is not 'Bearer' and a token")
    try:
        return checked_token(token, "authorization")
    except ConfigurationError as error:
        raise NotAuthenticated(str(error)) from None
