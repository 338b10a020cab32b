"""Channels to one or several servers."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any, Final, Literal

import grpc

from citychain.errors import ConfigurationError

__all__ = ["ChannelFactory"]

MESSAGE_BYTES_MAX: Final = 64 << 20

_RETRY_POLICY: Final[dict[str, Any]] = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # A server that is overloaded says how long to wait, or not to repeat: docs/errors.md. One
    # that stops can drop a call that arrives at that moment, which comes back as CANCELLED.
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
}


class ChannelFactory:
    """Makes channels; small calls that a server refuses for a moment are repeated by them.

    Args:
        endpoints: ``host:port`` each. Several must be IP addresses of one family: a name
            that resolves to several addresses is one endpoint.
        policy: ``pick_first`` uses one server until it fails; ``round_robin`` spreads calls
            over all that answer.

    Raises:
        ConfigurationError: the endpoints are not such a list.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        policy: Literal["pick_first", "round_robin"] = "pick_first",
        *,
        max_message_bytes: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self.target = _target(endpoints)
        service_config = {
            "loadBalancingConfig": [{policy: {}}],
            "methodConfig": [{"name": [{}], "retryPolicy": _RETRY_POLICY}],
        }
        self._options: list[tuple[str, Any]] = [
            ("grpc.service_config", json.dumps(service_config)),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            # A server that vanished is noticed while a call waits for it.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1_000),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]

    def channel(self) -> grpc.aio.Channel:
        """A new channel, not connected yet; an async context manager.

        Channels of one process to the same servers share connections.
        """
        return grpc.aio.insecure_channel(self.target, options=self._options)


def _target(endpoints: Sequence[str]) -> str:
    """The gRPC target: ``ipv4:a:1,b:2``, ``ipv6:[a]:1``, or ``dns:///name:port``."""
    if not endpoints or isinstance(endpoints, str):
        raise ConfigurationError("endpoints: give a list of at least one host:port")
    families = {_family(endpoint) for endpoint in endpoints}
    if families == {"dns"} and len(endpoints) == 1:
        return f"dns:///{endpoints[0]}"
    if "dns" in families or len(families) > 1:
        raise ConfigurationError(
            f"endpoints: {', '.join(endpoints)}: several must be IP addresses of one family; "
            "give the addresses, or one name that resolves to all of them"
        )
    return f"{families.pop()}:{','.join(endpoints)}"


def _family(endpoint: str) -> str:
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigurationError(f"endpoints: {endpoint!r} is not host:port")
    try:
        return f"ipv{ipaddress.ip_address(host.strip('[]')).version}"
    except ValueError:
        return "dns"
