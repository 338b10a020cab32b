"""``grpc.health.v1.Health``: of the server and of each city.

========================= =====================================================
service                   status
========================= =====================================================
(empty), or a service of  SERVING until the server stops
citychain.v1
``city/NAME``             by any name of the city: NOT_SERVING while it could not
                          be opened, else SERVING; asking does not open it
========================= =====================================================
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeAlias

from grpc_health.v1 import health_pb2, health_pb2_grpc

from citychain.city.listing import CityState
from citychain.errors import NotFound, Overloaded
from citychain.rpc import requests
from citychain.rpc.directory import CityDirectory
from citychain.rpc.draining import Drain
from citychain.rpc.open_calls import RETRY_AFTER

__all__ = ["HealthService"]

CITY_PREFIX: Final = "city/"
WATCHERS_MAX: Final = 512
"""At a time. Anybody may watch, from however many addresses: a watcher holds one of the server's
calls, and asks the directory each second."""
POLL_SECONDS: Final = 1.0
"""How late a watcher may hear of a city's change; of the server's end it hears at once."""

_Response: TypeAlias = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):
    """Health by asking the directory.

    Args:
        services: Full names of the services that share the server's own status.
    """

    def __init__(self, directory: CityDirectory, drain: Drain, services: Collection[str]) -> None:
        self._directory = directory
        self._drain = drain
        self._services = frozenset(services)
        self._watchers = 0

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> _Response:
        status = await self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            raise NotFound("service", request.service)
        return _Response(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        if self._watchers >= WATCHERS_MAX:
            raise Overloaded(f"{WATCHERS_MAX} calls watch health already", RETRY_AFTER)
        self._watchers += 1
        try:
            await self._tell(request.service, context)
        finally:
            self._watchers -= 1

    async def _tell(self, service: str, context: Any) -> None:
        told: int | None = None
        while True:
            status = await self._status(service)
            if status != told:
                await context.write(_Response(status=status))
                told = status
            if self._drain.begun.is_set():
                return
            await self._drain.begun_within(POLL_SECONDS)

    async def _status(self, service: str) -> Any:
        if service.startswith(CITY_PREFIX):
            name = requests.text(service.removeprefix(CITY_PREFIX), "service")
            try:
                listing = await self._directory.listing(name)
            except NotFound:
                return _Response.SERVICE_UNKNOWN
            serving = listing.state != CityState.FAILED
        elif service in self._services or not service:
            serving = True
        else:
            return _Response.SERVICE_UNKNOWN
        serving = serving and not self._drain.begun.is_set()
        return _Response.SERVING if serving else _Response.NOT_SERVING
