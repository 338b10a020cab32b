"""The storage server: fragments behind a gRPC port of their own."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from citychain.config_tls import is_loopback
from citychain.errors import ConfigurationError
from citychain.fragments.owned import OwnedFragments
from citychain.rpc._generated.citychain.v1 import storage_pb2, storage_pb2_grpc
from citychain.rpc.certificates import Certificates
from citychain.rpc.interceptors import StatusInterceptor
from citychain.rpc.listening import (
    ConnectionBounds,
    address_of,
    bind,
    channel_options,
    milliseconds,
)
from citychain.rpc.messages.fragments import PART_BYTES_MAX
from citychain.rpc.services.storage import StorageService

__all__ = ["StorageServer", "StorageServerOptions"]

logger = logging.getLogger(__name__)

SERVICE: Final = storage_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name
_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class StorageServerOptions:
    """How the server listens."""

    listen: str = "127.0.0.1:50061"
    """Address and port; port 0 takes a free one."""
    plaintext: bool = False
    """Whether others than this machine may be served without TLS."""
    drain: timedelta = timedelta(seconds=10)
    """How long calls under way may take to finish when the server stops."""
    max_message_bytes: int = 2 * PART_BYTES_MAX
    """Of a request or response."""
    max_concurrent_calls: int = 256
    """Each holds a few parts in memory. The guard among the interceptors holds it to that."""
    connections: ConnectionBounds = field(default_factory=ConnectionBounds)
    connection_max: timedelta = timedelta(hours=1)
    """A connection takes no more calls when it is so old; clients make another one."""
    call_max: timedelta = timedelta(hours=12)
    """Then calls under way on it are ended: one of which nobody reads the answer does not end by
    itself."""

    def check(self, *, encrypted: bool) -> None:
        """Refuse what is no address, or one that is not to be listened on.

        Args:
            encrypted: Whether the server has certificates.

        Raises:
            ConfigurationError: says so, and what to do.
        """
        found = _ADDRESS.fullmatch(self.listen)
        if found is None or int(found["port"]) > 65_535:
            raise ConfigurationError(
                f"--listen: {self.listen!r} is not host:port, with a port from 0 to 65535"
            )
        if not encrypted and not self.plaintext and not is_loopback(self.listen):
            raise ConfigurationError(
                f"--listen: {self.listen} can be reached from other machines, and nothing is "
                "encrypted: give --certificate and --key, or listen on 127.0.0.1, or say "
                "--plaintext as well"
            )


class StorageServer:
    """Serves while it is entered; leaving it stops it within the drain time. What is not stored by
    then is not stored at all.

    Args:
        interceptors: Stand behind the one that makes statuses.
        certificates: To speak TLS, entered; without them nothing is encrypted.
    """

    def __init__(
        self,
        fragments: OwnedFragments,
        options: StorageServerOptions,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        certificates: Certificates | None = None,
    ) -> None:
        self._fragments = fragments
        self._options = options
        self._interceptors = interceptors
        self._certificates = certificates
        self._health = health.aio.HealthServicer()
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
        self._options.check(encrypted=self._certificates is not None)
        self._server = grpc.aio.server(
            interceptors=(StatusInterceptor(), *self._interceptors),
            options=[
                *channel_options(self._options.max_message_bytes, self._options.connections),
                ("grpc.max_connection_age_ms", milliseconds(self._options.connection_max)),
                ("grpc.max_connection_age_grace_ms", milliseconds(self._options.call_max)),
            ],
        )
        storage_pb2_grpc.add_StorageServiceServicer_to_server(
            StorageService(self._fragments), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in ("", SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((SERVICE, name, reflection.SERVICE_NAME), self._server)
        self.port = await bind(self._server, self._options.listen, self._certificates)
        await self._server.start()
        logger.info("listening on %s", self.address)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Report NOT_SERVING, let calls under way finish, stop."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._options.drain.total_seconds())
