"""Channels to one or several servers."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import grpc

from citychain.city.names import normalise
from citychain.client._spread import SpreadChannel
from citychain.client._traced import TracedChannel
from citychain.client.tokens import AuthorisedChannel, Token
from citychain.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["EVERY_CITY", "Balancing", "ChannelFactory"]

Balancing: TypeAlias = Literal["pick_first", "round_robin"]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

EVERY_CITY: Final = "*"
"""In the place of a city's name: all that have no route of their own."""

MESSAGE_BYTES_MAX: Final = 64 << 20
KEEPALIVE: Final = timedelta(seconds=4)
CONNECT: Final = timedelta(seconds=1)

_HOST: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
"""A name, in any script."""

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
    """Makes channels to servers that are equals: what one cannot answer, another is asked.

    A call fails over by itself: at once where a connection is refused or broken, after
    twice ``keepalive`` where a server is silent.

    Args:
        endpoints: ``host:port`` each, of addresses, of names, or of both. Or such a list by
            city, for cities that are reached elsewhere; ``"*"`` is all other cities.
        policy: ``pick_first`` uses one server until it fails; ``round_robin`` spreads calls
            over all that answer.
        keepalive: After so long without a word, while a call waits, a server is asked
            whether it is there; it has as long again to answer.
        connect: How long an attempt to connect may take.
        token: Gives the token that says who calls (`citychain.client.tokens`).
        credentials: To speak TLS, from `citychain.client.tls.read_credentials`; without them
            nothing is encrypted. Each server must show a certificate for its endpoint's host.
        tracer: Of OpenTelemetry, to make each call, also one that is repeated, a span of your
            program's traces, which servers go on with.

    Raises:
        ConfigurationError: the endpoints are not such a list, or the policy is none, or a token
            would leave this machine unencrypted.
    """

    def __init__(
        self,
        endpoints: Sequence[str] | Mapping[str, Sequence[str]],
        policy: Balancing = "pick_first",
        *,
        keepalive: timedelta = KEEPALIVE,
        connect: timedelta = CONNECT,
        max_message_bytes: int = MESSAGE_BYTES_MAX,
        token: Token | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        routes = endpoints if isinstance(endpoints, Mapping) else {EVERY_CITY: endpoints}
        if not routes:
            raise ConfigurationError("endpoints: give at least one host:port")
        if policy not in ("pick_first", "round_robin"):
            raise ConfigurationError(f"policy: {policy!r} is not pick_first or round_robin")
        # The name in a certificate is compared with that of the target, which must be of one host.
        apart = credentials is not None
        self._targets = {_name(city): _targets(it, apart) for city, it in routes.items()}
        self._credentials = credentials
        if token is not None and credentials is None:
            _check_private(endpoint for listed in routes.values() for endpoint in listed)
        self._token = token
        self._tracer = tracer
        self._policy = policy
        milliseconds = round(keepalive.total_seconds() * 1_000)
        self._options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.keepalive_time_ms", milliseconds),
            ("grpc.keepalive_timeout_ms", milliseconds),
            # Without this, the answer to a ping is waited for a minute.
            ("grpc.http2.ping_timeout_ms", milliseconds),
            # Or pings are rationed on a stream that has had nothing to tell for a while.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # As long an attempt to connect has.
            ("grpc.min_reconnect_backoff_ms", connect // timedelta(milliseconds=1)),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            # A name is asked for again as soon as no address of it answers, not after 30 s.
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ]

    def targets(self, city: str = EVERY_CITY) -> Sequence[str]:
        """What gRPC is told of a city's servers: one target that has all addresses, or one
        for each endpoint where some are names, and in TLS.

        Raises:
            ConfigurationError: there is no route to this city.
        """
        found = self._targets.get(_name(city)) or self._targets.get(EVERY_CITY)
        if found is None:
            raise ConfigurationError(
                f"endpoints: no route to {city!r}, and none for {EVERY_CITY!r}, every other city"
            )
        return found

    def channel(self, city: str = EVERY_CITY, *, repeat: bool = True) -> grpc.aio.Channel:
        """A new channel, not connected yet; an async context manager.

        Channels of one process to the same servers share connections. Small calls that a
        server refuses for a moment are repeated by a channel, but not by one over several
        names, which leaves that to `CityClient`.

        Args:
            city: Any name of the city, or its genesis id, as its route has it.
            repeat: Whether the channel repeats calls; else that belongs to who makes them.

        Raises:
            ConfigurationError: there is no route to this city.
        """
        targets = self.targets(city)
        channel: grpc.aio.Channel
        if len(targets) == 1:
            channel = self._channel(targets[0], repeat=repeat)
        else:
            # What one of them refuses, another may answer: repeating belongs to who sees them all.
            channels = [self._channel(target, repeat=False) for target in targets]
            channel = SpreadChannel(channels, in_turn=self._policy == "round_robin")
        if self._tracer is not None:
            channel = TracedChannel(channel, self._tracer)
        return channel if self._token is None else AuthorisedChannel(channel, self._token)

    def _channel(self, target: str, *, repeat: bool) -> grpc.aio.Channel:
        config: dict[str, Any] = {"loadBalancingConfig": [{self._policy: {}}]}
        if repeat:
            config["methodConfig"] = [{"name": [{}], "retryPolicy": _RETRY_POLICY}]
        options = [*self._options, ("grpc.service_config", json.dumps(config))]
        if self._credentials is not None:
            return grpc.aio.secure_channel(target, self._credentials, options=options)
        if self._token is not None:
            # A proxy that the environment names is asked even for what is on this machine, and
            # could read the token on its way there and back.
            options.append(("grpc.enable_http_proxy", 0))
        return grpc.aio.insecure_channel(target, options=options)


def _check_private(endpoints: Iterable[str]) -> None:
    """Raises `ConfigurationError`: who listens on the way to one of them could read a token."""
    for endpoint in endpoints:
        address, _ = _address(endpoint)
        if not (address.is_loopback if address else endpoint.rpartition(":")[0] == "localhost"):
            raise ConfigurationError(
                f"endpoints: a token would be sent to {endpoint} unencrypted: whoever reads it on "
                "the way could use it; speak TLS, by a CA to trust"
            )


def _name(city: str) -> str:
    """As names are compared; one that is none has no route, and the server says so."""
    try:
        return normalise(city)
    except InvalidRequest:
        return EVERY_CITY


def _targets(endpoints: Sequence[str], apart: bool) -> tuple[str, ...]:
    """One target for addresses, of both families too; else, and with ``apart``,
    ``dns:///name:port`` or the like for each endpoint: a target has one name."""
    if not endpoints or isinstance(endpoints, str):
        raise ConfigurationError("endpoints: give a list of at least one host:port")
    found = [_address(endpoint) for endpoint in dict.fromkeys(endpoints)]
    if apart or any(address is None for address, _ in found):
        return tuple(
            f"dns:///{endpoint}" if address is None else _of_addresses([(address, port)])
            for endpoint, (address, port) in zip(dict.fromkeys(endpoints), found, strict=True)
        )
    return (_of_addresses([(address, port) for address, port in found if address is not None]),)


def _of_addresses(addresses: Sequence[tuple[Address, str]]) -> str:
    if all(address.version == 4 for address, _ in addresses):
        return "ipv4:" + ",".join(f"{address}:{port}" for address, port in addresses)
    # A target has one family, and IPv6 has a form for IPv4 addresses: RFC 4291, section 2.5.5.2.
    return "ipv6:" + ",".join(
        f"[{'::ffff:' if address.version == 4 else ''}{address}]:{port}"
        for address, port in addresses
    )


def _address(endpoint: str) -> tuple[Address | None, str]:
    """The address and port of an endpoint; no address where its host is a name."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigurationError(f"endpoints: {endpoint!r} is not host:port")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ConfigurationError(
                f"endpoints: {endpoint!r} has neither an address nor a name as its host"
            ) from None
        return None, port
    if address.version == 6 and bare == host:
        raise ConfigurationError(f"endpoints: write {endpoint!r} as [{host}]:{port}")
    return address, port
