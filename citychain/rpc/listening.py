"""How gRPC servers listen: the options of their channels, and their port."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from datetime import timedelta

import grpc

from citychain.errors import ConfigurationError
from citychain.rpc.certificates import Certificates

__all__ = ["ConnectionBounds", "address_of", "bind", "channel_options", "milliseconds"]


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """What bounds the connections of a server, whoever opens them."""

    count: int = 16_384
    """Open at a time, about 14 KiB each; but no more than half of the files that the process may
    have open, since storage needs some. What comes beyond is closed at once."""
    handshake: timedelta = timedelta(seconds=20)
    """Within it a connection must have said what HTTP/2, and TLS, begin with."""
    calls: int = 1_280
    """Open at a time on each, about 15 KiB each, also those that were refused and whose end nobody
    takes off the network. More than each caller may have, who otherwise would wait and not be
    told."""
    idle: timedelta = timedelta(minutes=10)
    """How long one without calls stays; a client makes another by itself when it calls again."""


def channel_options(max_message_bytes: int, connections: ConnectionBounds) -> list[tuple[str, int]]:
    """Options of a server.

    Args:
        max_message_bytes: Of a request or response.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = connections.count
    if files != resource.RLIM_INFINITY:
        count = min(count, files // 2)
    return [
        ("grpc.max_allowed_incoming_connections", count),
        ("grpc.max_concurrent_streams", connections.calls),
        # No compressed messages: signatures do not shrink, and a mebibyte can cost 32 to inflate.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.server_handshake_timeout_ms", milliseconds(connections.handshake)),
        ("grpc.max_connection_idle_ms", milliseconds(connections.idle)),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Of a call's metadata: from the first on some calls are refused, from the second on all.
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.absolute_max_metadata_size", 32 << 10),
        # Or a second server on the same port would start, and get some of the calls.
        ("grpc.so_reuseport", 0),
        # Dead clients are noticed, and clients may ask whether we are, also between calls.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A follower that waits for rounds pings more often than data comes; that is no abuse.
        ("grpc.http2.max_ping_strikes", 0),
    ]


def milliseconds(time: timedelta) -> int:
    """As gRPC's options have times."""
    return round(time.total_seconds() * 1_000)


async def bind(
    server: grpc.aio.Server, listen: str, certificates: Certificates | None = None
) -> int:
    """Take an address; returns its port. The server is stopped if it cannot be had.

    Args:
        certificates: To speak TLS; without them nothing is encrypted.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    try:
        if certificates is None:
            return server.add_insecure_port(listen)
        return server.add_secure_port(listen, certificates.credentials())
    except RuntimeError as error:
        await server.stop(None)
        raise ConfigurationError(
            f"cannot listen on {listen}: it is in use or no address of this machine; choose "
            "another address, or port 0 for a free one"
        ) from error


def address_of(listen: str, port: int) -> str:
    """Host and port, where ``listen`` may have said port 0."""
    return f"{listen.rpartition(':')[0]}:{port}"
