"""Serving the explorer over HTTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import uvicorn

from citychain.config_tls import ServerTlsSettings, is_loopback
from citychain.errors import ConfigurationError
from citychain.explorer.app import PAGE, explorer_app
from citychain.explorer.counting import Counts
from citychain.explorer.live import Live
from citychain.explorer.tls import open_context
from citychain.explorer.upstream import Upstream
from citychain.metrics.server import MetricsServer

__all__ = ["ExplorerOptions", "ServedExplorer", "open_explorer"]

MESSAGE_BYTES_MAX: Final = 16 << 10
"""Of what a viewer sends."""
SEND_BUFFER: Final = 256 << 10
"""Of what the system keeps for a viewer; more would only tell a slow one what is past."""
CONNECTIONS_OTHER: Final = 128
"""Besides those of viewers."""
STOP_SECONDS: Final = 3
IDLE_SECONDS: Final = 20.0
"""Of a connection without a request."""
ANSWER_SECONDS: Final = 120.0
"""From a request until its answer is taken."""


@dataclass(frozen=True, slots=True)
class ExplorerOptions:
    """How an explorer listens."""

    listen: str = "127.0.0.1:8080"
    """Address and port; port 0 takes a free one."""
    names: Sequence[str] = ()
    """Hosts by which it is asked, besides those of this machine."""
    plaintext: bool = False
    """Whether others than this machine may be served without TLS."""
    viewers_max: int = 256
    viewers_each: int = 128
    """Of one address."""
    proxies: Sequence[str] = ()
    """Addresses and networks of proxies, which say in ``X-Forwarded-For`` who asks."""
    metrics: str | None = None
    """Address and port of ``/metrics``, over plain HTTP."""
    page: Path = PAGE

    def check(self, *, encrypted: bool) -> None:
        """Raises `ConfigurationError`: something is no address, or strangers reach it without
        TLS."""
        _check_address("--listen", self.listen)
        if self.metrics is not None:
            _check_address("--metrics", self.metrics)
        for proxy in self.proxies:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ConfigurationError(f"--proxy: {error}") from None
        if encrypted and self.plaintext:
            raise ConfigurationError("--plaintext: with a certificate it speaks TLS alone")
        if not encrypted and not self.plaintext and not is_loopback(self.listen):
            raise ConfigurationError(
                f"--listen: {self.listen} can be reached from other machines, and nothing is "
                "encrypted: give --certificate and --key, or listen on 127.0.0.1, or say "
                "--plaintext"
            )


def _check_address(option: str, listen: str) -> None:
    host, _, port = listen.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 65_536):
        raise ConfigurationError(f"{option}: {listen!r} is not host:port")


@dataclass(frozen=True, slots=True)
class ServedExplorer:
    """One that answers."""

    address: str
    """Host and port."""
    url: str
    metrics: str
    """Host and port of its metrics; empty where nobody is told."""


@asynccontextmanager
async def open_explorer(
    upstream: Upstream, options: ExplorerOptions, tls: ServerTlsSettings | None = None
) -> AsyncIterator[ServedExplorer]:
    """Serve until this is left.

    Raises:
        ConfigurationError: an address, or a file of TLS, cannot be used.
    """
    options.check(encrypted=tls is not None)
    counts = Counts()
    live = Live(upstream, options.viewers_max, options.viewers_each, counts.skipped.inc)
    counts.look_at(live)
    async with open_context(tls) as context, AsyncExitStack() as stack:
        listener = await _listener(options.listen)
        stack.callback(listener.close)
        served = _served(upstream, live, counts, options, context, listener)
        await stack.enter_async_context(served)
        metrics = ""
        if options.metrics is not None:
            server = MetricsServer(options.metrics, counts.registry, lambda: True, "--metrics")
            metrics = (await stack.enter_async_context(server)).address
        address = f"{options.listen.rpartition(':')[0]}:{listener.getsockname()[1]}"
        yield ServedExplorer(address, f"{'https' if tls else 'http'}://{address}/", metrics)


@asynccontextmanager
async def _served(
    upstream: Upstream,
    live: Live,
    counts: Counts,
    options: ExplorerOptions,
    context: ssl.SSLContext | None,
    listener: socket.socket,
) -> AsyncIterator[None]:
    host = options.listen.rpartition(":")[0]
    app = explorer_app(upstream, live, counts, options.names, host, options.page)
    config = uvicorn.Config(
        app,
        lifespan="off",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES_MAX,
        # A text is the same for all viewers, and would be compressed for each.
        ws_per_message_deflate=False,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(options.proxies),
        forwarded_allow_ips=[*_as_seen(options.proxies)],
        limit_concurrency=options.viewers_max + CONNECTIONS_OTHER,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    config.load()
    config.ssl = context
    server = _Server(config)
    async with upstream.kept():
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving


def _as_seen(proxies: Sequence[str]) -> Iterator[str]:
    """Addresses and networks, also as a listener for both versions of IP sees those of IPv4 (RFC
    4291, section 2.5.5.2)."""
    for proxy in proxies:
        yield proxy
        network = ip_network(proxy)
        if network.version == 4:
            yield f"::ffff:{network.network_address}/{96 + network.prefixlen}"


class _Server(uvicorn.Server):
    """Leaves signals to the command, and ends connections that do not."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._since: dict[Any, tuple[object, bool, float]] = {}

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._end_silent(time.monotonic())
        return await super().on_tick(counter)

    def _end_silent(self, now: float) -> None:
        """End connections over which nothing is asked, or on which one answer takes too long:
        uvicorn has a bound for neither. Those of viewers have pings."""
        since, self._since = self._since, {}
        for connection in [*self.server_state.connections]:
            if not hasattr(connection, "cycle"):
                continue
            cycle = connection.cycle
            idle = cycle is None or cycle.response_complete
            state = since.get(connection)
            if state is None or state[0] is not cycle or state[1] != idle:
                state = (cycle, idle, now)
            self._since[connection] = state
            if now - state[2] > (IDLE_SECONDS if idle else ANSWER_SECONDS):
                connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in [*self.server_state.connections]:
            connection.transport.abort()
        await asyncio.sleep(0)


async def _listener(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            listener.bind(address)
            listener.listen(128)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError, ValueError) as error:
        raise ConfigurationError(
            f"--listen: cannot listen on {listen}: {getattr(error, 'strerror', None) or error}; "
            "choose another address, or port 0 for a free one"
        ) from None
