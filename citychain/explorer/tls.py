"""TLS of the explorer: a certificate whose files are looked at while it serves."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError
from citychain.file_stamps import LOOK, FileStamp, file_stamp
from citychain.pem import read_pair

__all__ = ["open_context"]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_context(files: ServerTlsSettings | None) -> AsyncIterator[ssl.SSLContext | None]:
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
    looking = asyncio.create_task(_keep_looking(context, files, stamp))
    try:
        yield context
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _keep_looking(
    context: ssl.SSLContext, files: ServerTlsSettings, known: Sequence[FileStamp] | None
) -> None:
    while True:
        await asyncio.sleep(LOOK.total_seconds())
        stamp = await asyncio.to_thread(_stamp, files)
        if stamp is None or stamp == known:
            continue
        known = stamp
        try:
            await asyncio.to_thread(_load, context, files)
            logger.info("a new certificate is in use")
        except (ConfigurationError, OSError) as error:
            logger.error("the certificate stays as it was: %s", error)


def _stamp(files: ServerTlsSettings) -> Sequence[FileStamp] | None:
    """Of each file what changes with it; ``None`` while one is not there."""
    try:
        return [file_stamp(path) for path in (files.certificate, files.key)]
    except OSError:
        return None


def _load(context: ssl.SSLContext, files: ServerTlsSettings) -> None:
    read_pair(files.certificate, files.key)  # Says what is wrong, by the file's name.
    context.load_cert_chain(files.certificate, files.key)
