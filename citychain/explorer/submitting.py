"""Passing on transactions that the browser signed."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from citychain.acknowledgement import to_fields
from citychain.client.city import CityClient
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
from citychain.genesis import Genesis
from citychain.handler import Received
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
        """One signed transaction. The answer has what the city signed for it, if it signs."""
        if request.headers.get("content-type") != MEDIA_TYPE:
            raise InvalidRequest("content-type", f"must be {MEDIA_TYPE}")
        name = request.path_params["city"]
        client = self._upstream.city_for(name, _token(request))
        async with asyncio.timeout(READ_SECONDS):
            envelope = await _body(request)
        # Who submits may not be allowed to read.
        async with self._upstream.city(name) as city:
            file = (await city.info()).genesis_file
        async with client as city:
            genesis = await asyncio.to_thread(Genesis.from_bytes, file)
            result = await _submitted(city, envelope, genesis)
        if isinstance(result, Refused):
            if result.retry_after:
                raise Overloaded(result.detail, result.retry_after, result.code)
            raise TransactionRefused(result.code, result.field or "", result.detail)
        shown = {
            "tx_id": result.tx_id,
            "state": result.state.name.lower(),
            "duplicate": result.duplicate,
        }
        signed = {} if result.promise is None else {"acknowledgement": to_fields(result.promise)}
        return json_response(shown | signed)


async def _submitted(city: CityClient, envelope: bytes, genesis: Genesis) -> Received | Refused:
    try:
        [result] = await city.submit([envelope], acknowledge=genesis)
    except InvalidRequest as error:
        if error.field != "acknowledge":
            raise
        # The server has not the key of the city's operator, and so has stored nothing yet.
        [result] = await city.submit([envelope])
    return result


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
