"""Serving the explorer over HTTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn

from citychain.config_tls import ServerTlsSettings, is_loopback
from citychain.errors import ConfigurationError
from citychain.explorer.app import PAGE, explorer_app
from citychain.explorer.live import Live
from citychain.explorer.upstream import Upstream
from citychain.pem import read_pair

__all__ = ["ExplorerOptions", "ServedExplorer", "open_explorer"]

MESSAGE_BYTES_MAX: Final = 16 << 10
"""Of what a viewer sends."""
SEND_BUFFER: Final = 256 << 10
"""Of what the system keeps for a viewer; more would only tell a slow one what is past."""
CONNECTIONS_OTHER: Final = 128
"""Besides those of viewers."""
STOP_SECONDS: Final = 3


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
    page: Path = PAGE

    def check(self, *, encrypted: bool) -> None:
        """Raises `ConfigurationError`: it is no address, or strangers reach it without TLS."""
        host, _, port = self.listen.rpartition(":")
        if not (host and port.isdecimal() and int(port) < 65_536):
            raise ConfigurationError(f"--listen: {self.listen!r} is not host:port")
        if encrypted and self.plaintext:
            raise ConfigurationError("--plaintext: with a certificate it speaks TLS alone")
        if not encrypted and not self.plaintext and not is_loopback(self.listen):
            raise ConfigurationError(
                f"--listen: {self.listen} can be reached from other machines, and nothing is "
                "encrypted: give --certificate and --key, or listen on 127.0.0.1, or say "
                "--plaintext"
            )


@dataclass(frozen=True, slots=True)
class ServedExplorer:
    """One that answers."""

    address: str
    """Host and port."""
    url: str


@asynccontextmanager
async def open_explorer(
    upstream: Upstream, options: ExplorerOptions, tls: ServerTlsSettings | None = None
) -> AsyncIterator[ServedExplorer]:
    """Serve until this is left.

    Raises:
        ConfigurationError: the address, or a file of TLS, cannot be used.
    """
    options.check(encrypted=tls is not None)
    context = None if tls is None else await asyncio.to_thread(_context, tls)
    live = Live(upstream, options.viewers_max)
    listener = await _listener(options.listen)
    host, port = options.listen.rpartition(":")[0], listener.getsockname()[1]
    app = explorer_app(upstream, live, (*options.names, host), options.page)
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
        proxy_headers=False,
        limit_concurrency=options.viewers_max + CONNECTIONS_OTHER,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    config.load()
    config.ssl = context
    server = _Server(config)
    async with upstream.kept():
        serving = asyncio.create_task(server.serve([listener]))
        try:
            scheme = "http" if tls is None else "https"
            yield ServedExplorer(f"{host}:{port}", f"{scheme}://{host}:{port}/")
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Leaves signals to the command, and ends connections that do not."""

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


def _context(tls: ServerTlsSettings) -> ssl.SSLContext:
    read_pair(tls.certificate, tls.key)  # Says what is wrong, by the file's name.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.client_ca)
    return context
