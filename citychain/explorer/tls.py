"""TLS of the explorer: a certificate whose files are looked at while it serves."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError
from citychain.pem import read_pair

__all__ = ["open_context"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0
"""Between two looks at the files."""


@asynccontextmanager
async def open_context(
    files: ServerTlsSettings | None, look_seconds: float = LOOK_SECONDS
) -> AsyncIterator[ssl.SSLContext | None]:
    """What to speak TLS with; new files are used without a restart, bad ones change nothing.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    if files is None:
        yield None
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    stamp = await asyncio.to_thread(_stamp, files)
    await asyncio.to_thread(_load, context, files)
    looking = asyncio.create_task(_keep_looking(context, files, stamp, look_seconds))
    try:
        yield context
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _keep_looking(
    context: ssl.SSLContext, files: ServerTlsSettings, known: object, seconds: float
) -> None:
    while True:
        await asyncio.sleep(seconds)
        stamp = await asyncio.to_thread(_stamp, files)
        if stamp is None or stamp == known:
            continue
        known = stamp
        try:
            await asyncio.to_thread(_load, context, files)
            logger.info("a new certificate is in use")
        except (ConfigurationError, OSError) as error:
            logger.error("the certificate stays as it was: %s", error)


def _stamp(files: ServerTlsSettings) -> object:
    """Of each file what changes with it; ``None`` while one is not there."""
    try:
        found = [path.stat() for path in (files.certificate, files.key)]
    except OSError:
        return None
    return [(it.st_ino, it.st_size, it.st_ctime_ns) for it in found]


def _load(context: ssl.SSLContext, files: ServerTlsSettings) -> None:
    read_pair(files.certificate, files.key)  # Says what is wrong, by the file's name.
    context.load_cert_chain(files.certificate, files.key)
