"""The core server: cities of a directory behind one gRPC port."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.certificates import Certificates
from citychain.rpc.directory import CityDirectory, CityMoves, PluginRecord
from citychain.rpc.draining import Drain
from citychain.rpc.interceptors import StatusInterceptor
from citychain.rpc.listening import ConnectionBounds, address_of, bind, channel_options
from citychain.rpc.services.admin import AdminService
from citychain.rpc.services.cities import CityService
from citychain.rpc.services.dag import DagService
from citychain.rpc.services.exchange import ExchangeService
from citychain.rpc.services.health import HealthService
from citychain.rpc.services.plugins import PluginService
from citychain.rpc.services.transactions import TransactionService
from citychain.rpc.services.votes import VoteService
from citychain.tracing import UNTRACED, Tracer

__all__ = ["CoreServer", "ServerOptions"]

logger = logging.getLogger(__name__)

SERVICES: Final = tuple(
    service.full_name for service in services_pb2.DESCRIPTOR.services_by_name.values()
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the server listens."""

    listen: str = "127.0.0.1:50051"
    """Address and port; port 0 takes a free one."""
    drain: timedelta = timedelta(seconds=10)
    """How long calls under way may take to finish when the server stops."""
    max_message_bytes: int = 32 << 20
    """Of a request or response. A genesis file has up to 16 MiB, a round about 9."""
    connections: ConnectionBounds = field(default_factory=ConnectionBounds)


class CoreServer:
    """Serves while it is entered; leaving it stops it within the drain time.

    Args:
        plugins: What `ListPlugins` tells.
        interceptors: The plugins' own; they stand behind the one that makes statuses.
        counting: Stand before that one.
        moves: Moves cities for their operators; without it nobody can.
        certificates: To speak TLS, entered; without them nothing is encrypted.
        tracer: Told of each call.
    """

    def __init__(
        self,
        directory: CityDirectory,
        plugins: Sequence[PluginRecord] = (),
        options: ServerOptions | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        moves: CityMoves | None = None,
        counting: Sequence[grpc.aio.ServerInterceptor] = (),
        certificates: Certificates | None = None,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._directory = directory
        self._moves = moves
        self._plugins = plugins
        self._options = options or ServerOptions()
        self._interceptors = (*counting, StatusInterceptor(tracer), *interceptors)
        self._certificates = certificates
        self._drain: Drain
        self._server: grpc.aio.Server
        self.port = 0
        """The port that it listens on, once entered."""

    @property
    def address(self) -> str:
        """Where it listens, once entered: host and port."""
        return address_of(self._options.listen, self.port)

    async def __aenter__(self) -> Self:
        """Listen and serve.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._drain = Drain()
        self._server = grpc.aio.server(
            interceptors=self._interceptors,
            options=channel_options(self._options.max_message_bytes, self._options.connections),
        )
        self._add_services()
        self.port = await bind(self._server, self._options.listen, self._certificates)
        await self._server.start()
        logger.info("listening on %s", self.address)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Report NOT_SERVING, end open streams, let calls under way finish, stop."""
        self._drain.begin()
        await self._server.stop(self._options.drain.total_seconds())

    def _add_services(self) -> None:
        directory, drain, server = self._directory, self._drain, self._server
        services_pb2_grpc.add_CityServiceServicer_to_server(CityService(directory), server)
        services_pb2_grpc.add_TransactionServiceServicer_to_server(
            TransactionService(directory, drain), server
        )
        services_pb2_grpc.add_DagServiceServicer_to_server(DagService(directory, drain), server)
        services_pb2_grpc.add_VoteServiceServicer_to_server(VoteService(directory), server)
        services_pb2_grpc.add_ExchangeServiceServicer_to_server(ExchangeService(directory), server)
        services_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminService(directory, drain, self._moves), server
        )
        services_pb2_grpc.add_PluginServiceServicer_to_server(PluginService(self._plugins), server)
        health_pb2_grpc.add_HealthServicer_to_server(
            HealthService(directory, drain, SERVICES), server
        )
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*SERVICES, health, reflection.SERVICE_NAME), server)
