"""An explorer beside a server, in a process of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from citychain.config_tls import ServerTlsSettings

__all__ = ["explorer_beside"]

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 10.0


@asynccontextmanager
async def explorer_beside(
    address: str, listen: str, *options: str, tls: ServerTlsSettings | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An explorer of a server, until this is left.

    It is told by the environment what else it takes to reach the server, as any command is:
    ``CITYCHAIN_TOKEN_FILE``, ``CITYCHAIN_CA``. One that ends does not end the server, whose log
    tells of it.

    Args:
        options: More of its own.
        tls: The server's. Where others reach the explorer it shows the same certificate.

    Raises:
        ConfigurationError: the certificate cannot be read.
    """
    import asyncio

    hosts: Sequence[str] = ()
    if tls is not None:
        from citychain.pem import certificate_hosts

        hosts = await asyncio.to_thread(certificate_hosts, tls.certificate)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "citychain", "explorer"),
        *("--server", _asked_at(address, hosts), "--listen", listen),
        *_tls_options(listen, tls, hosts),
        *options,
        "--while-stdin",
        stdin=asyncio.subprocess.PIPE,
        # Ctrl-C is for the server, which then stops the explorer.
        start_new_session=True,
    )
    watching = asyncio.create_task(_warn_of_end(process))
    try:
        yield process
    finally:
        watching.cancel()
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _warn_of_end(process: asyncio.subprocess.Process) -> None:
    code = await process.wait()
    logger.error("the explorer ended with code %d; the server goes on without it", code)


def _asked_at(address: str, hosts: Sequence[str]) -> str:
    """Where this machine asks a server. One that listens on all addresses is asked by a name that
    its certificate has."""
    host, _, port = address.rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host)
    if here is None:
        return address
    wanted = (here, "localhost", *hosts)
    fitting = (it for it in wanted if it in hosts and "*" not in it)
    return f"{_bracketed(next(fitting, here))}:{port}"


def _tls_options(listen: str, tls: ServerTlsSettings | None, hosts: Sequence[str]) -> Iterator[str]:
    from citychain.config_tls import is_loopback

    if tls is not None and not is_loopback(listen):
        yield from ("--certificate", str(tls.certificate), "--key", str(tls.key))
        for host in hosts:
            yield from ("--host", _bracketed(host))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
