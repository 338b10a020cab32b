"""Who calls, whether they may, and whether they call too often: looked at before any service is.

Each call is taken as a stream of requests, also one that has a single request: so it is known who
calls, and whether they may, before anything of the request is received or decoded.

It stands behind the interceptor that makes statuses, and before those of plugins.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from urllib.parse import unquote

import grpc

from citychain.access.table import Need, need_of
from citychain.callers import network_of
from citychain.errors import InvalidRequest, NotAllowed, NotAuthenticated, Overloaded, PluginError
from citychain.rates import Rates
from citychain.roles import ALL_CITIES, NOTHING_GRANTED, Grants
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import services_pb2
from citychain.rpc.directory import CityDirectory
from citychain.rpc.open_calls import OpenCalls
from citychain.rpc.services.transactions import TRANSACTIONS_MAX

if TYPE_CHECKING:
    from citychain.access.tokens import TokenChecker

    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

__all__ = ["AccessInterceptor", "Authorisation"]

AUTHORIZATION_KEY: Final = "authorization"
SCHEME: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Authorisation:
    """By what callers are judged."""

    tokens: TokenChecker
    anonymous: Grants = NOTHING_GRANTED
    """What whoever calls may do, without a token too."""


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who makes a call."""

    name: str
    """For people, and to count by."""
    grants: Grants
    has_token: bool


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls of those who may not make them, or not so often, or not so many at a time.

    Args:
        authorisation: ``None`` where anybody may do anything.
        rates: ``None`` where calls are not counted.
        open_calls: How many each caller may have open.
        directory: Knows whose slug the name is that a request has; ``None`` for a server that has
            no cities.
    """

    def __init__(
        self,
        authorisation: Authorisation | None,
        rates: Rates | None,
        open_calls: OpenCalls,
        directory: CityDirectory | None,
    ) -> None:
        self._authorisation = authorisation
        self._rates = rates
        self._open_calls = open_calls
        self._directory = directory

    def judge_by(self, authorisation: Authorisation | None, rates: Rates | None) -> None:
        """Judge what comes from now on by these; a stream that has begun goes on."""
        self._authorisation = authorisation
        self._rates = rates

    def authorise_by(self, authorisation: Authorisation | None) -> None:
        """Likewise by this alone; what was counted goes on."""
        self._authorisation = authorisation

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return self._guarded(handler, handler_call_details.method)

    def _guarded(self, handler: Handler, method: str) -> Handler:
        """Raises `PluginError`: a plugin's service is not async."""
        need = need_of(method)
        request_kind = "stream" if handler.request_streaming else "unary"
        response_kind = "stream" if handler.response_streaming else "unary"
        behavior = getattr(handler, f"{request_kind}_{response_kind}")
        is_generator = inspect.isasyncgenfunction(behavior)
        if not is_generator and not inspect.iscoroutinefunction(behavior):
            raise PluginError(f"{method}: the service's method is not async")
        decode = handler.request_deserializer

        async def guard(messages: AsyncIterator[Any], context: Any) -> Any:
            caller = self._caller(need, context)
            self._open_calls.begin(caller.name, context)
            request: Any
            if handler.request_streaming:
                request = _Messages(self, need, caller, messages)
            else:
                self._count(caller.name, 1)
                request = await _single(context)
                if decode is not None:
                    request = decode(request)
                # Or who sends many at a time would have as many times what may come at once.
                self._count_more(caller.name, _weight(request) - 1)
                await self._allow(need, caller, request)
            if not is_generator:
                return await behavior(request, context)
            async with aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    await context.write(response)
            return None

        make = getattr(grpc, f"stream_{response_kind}_rpc_method_handler")
        deserializer = decode if handler.request_streaming else None
        guarded: Handler = make(guard, deserializer, handler.response_serializer)
        return guarded

    # --- who

    def _caller(self, need: Need, context: Any) -> _Caller:
        """Who calls; has the role somewhere.

        Raises:
            NotAuthenticated, NotAllowed: the call cannot be theirs, whatever city it is about.
        """
        peer = _peer(context)
        judged = self._authorisation
        if need.role is None:
            # Apart from other calls from there, or those would make the server look ill.
            return _Caller(f"{peer}, for what needs no role,", NOTHING_GRANTED, False)
        if judged is None:
            return _Caller(peer, NOTHING_GRANTED, False)
        token = _token(context.invocation_metadata() or ())
        if token is None:
            caller = _Caller(peer, judged.anonymous, False)
        else:
            identity = judged.tokens.known(token)
            if identity is None:
                # Or guessing tokens would keep the server busy.
                self._count(peer, 1)
                identity = judged.tokens.check(token)
            grants = identity.grants.with_all_of(judged.anonymous)
            caller = _Caller(f"token of {identity.name}", grants, True)
        if not caller.grants.of(need.role):
            raise _lacks(caller, f"the role {need.role}")
        if need.everywhere and ALL_CITIES not in caller.grants.of(need.role):
            raise _lacks(caller, f"the role {need.role} for all cities")
        return caller

    # --- whether

    async def _allow(self, need: Need, caller: _Caller, message: Any) -> None:
        """Raises `NotAllowed`, `NotAuthenticated`: not in the city that the message names."""
        if self._authorisation is None or need.role is None or not need.of_city:
            return
        cities = caller.grants.of(need.role)
        if ALL_CITIES in cities:
            return
        city = getattr(message, "city", None)
        if city is None or self._directory is None:
            raise _lacks(caller, f"the role {need.role} for all cities")
        listing = await self._directory.listing(requests.text(city, "city"))
        if listing.slug not in cities:
            raise _lacks(caller, f"the role {need.role} for {listing.slug}")

    # --- how often

    def _count(self, name: str, weight: int) -> None:
        """Raises `Overloaded`: they call too often."""
        if wait := self._wait(name, weight):
            raise _too_often(name, wait)

    def _wait(self, name: str, weight: int) -> timedelta:
        return timedelta() if self._rates is None else self._rates.take(name, weight)

    def _count_more(self, name: str, weight: int) -> None:
        """Count what turned out to be in a call that was let in.

        Raises:
            Overloaded: meanwhile others of theirs brought more than they may.
        """
        if self._rates is not None and (wait := self._rates.take_more(name, weight)):
            raise _too_often(name, wait)

    async def _pace(self, name: str, weight: int) -> None:
        """Wait for as long as they call too often: a stream is not broken off for that."""
        while True:
            wait = self._wait(name, weight)
            if not wait:
                return
            await asyncio.sleep(wait.total_seconds())


class _Messages:
    """The messages of a call's stream, each looked at before the service gets it."""

    def __init__(
        self, access: AccessInterceptor, need: Need, caller: _Caller, messages: AsyncIterator[Any]
    ) -> None:
        self._access = access
        self._need = need
        self._caller = caller
        self._messages = messages
        self._city: str | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        message = await anext(self._messages)
        await self._access._pace(self._caller.name, _weight(message))
        city = getattr(message, "city", "")
        # A message that names none goes on with that of the message before.
        if self._city is None or city not in ("", self._city):
            await self._access._allow(self._need, self._caller, message)
            self._city = city
        return message


async def _single(context: Any) -> Any:
    """The request of a call that has one.

    Raises:
        InvalidRequest: it has none.
    """
    # Not by the iterator, which would have to be closed for each call.
    message = await context.read()
    if message is grpc.aio.EOF:
        raise InvalidRequest("request", "is missing")
    return message


def _too_often(name: str, wait: timedelta) -> Overloaded:
    return Overloaded(f"{name} calls too often: wait", wait)


def _lacks(caller: _Caller, what: str) -> NotAllowed | NotAuthenticated:
    if caller.has_token:
        return NotAllowed(f"the {caller.name} does not grant {what}")
    return NotAuthenticated(f"this needs {what}, and the call has no token")


def _token(metadata: Sequence[tuple[str, str | bytes]]) -> str | None:
    """The token that a call brings, if it brings any."""
    given = [value for key, value in metadata if key == AUTHORIZATION_KEY]
    if not given:
        return None
    if len(given) > 1:
        raise NotAuthenticated("the call has several tokens")
    [value] = given
    if not isinstance(value, str) or not value.lower().startswith(SCHEME):
        raise NotAuthenticated("authorization: is not 'Bearer' and a token")
    return value[len(SCHEME) :].strip()


def _peer(context: Any) -> str:
    """Whose connection it is: the name in a client's certificate, else an address or network."""
    names = [*(context.peer_identities() or ())]
    if names:
        return f"certificate of {names[0].decode('utf-8', 'replace')}"
    kind, _, address = unquote(context.peer()).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return "a local caller"
    return network_of(address.rpartition(":")[0].strip("[]"))


def _weight(message: Any) -> int:
    """What a message counts: each transaction that it brings, but at least one, and no more than
    are taken at once."""
    if isinstance(message, services_pb2.SubmitBatchRequest | services_pb2.SubmitStreamRequest):
        return min(max(1, len(message.transactions)), TRANSACTIONS_MAX)
    return 1
