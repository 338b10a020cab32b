"""A server's certificate in TLS, used anew as soon as its files change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, cast

import grpc

from citychain.clock import SystemClock
from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError
from citychain.file_stamps import LOOK, FileStamp, file_stamp
from citychain.pem import KeyPair, read_authorities, read_pair
from citychain.ports import Clock

__all__ = ["Certificates", "open_certificates"]

logger = logging.getLogger(__name__)

AHEAD: Final = timedelta(days=30)
"""So long before it expires a certificate is warned of, each day."""
DAY: Final = timedelta(days=1)


@asynccontextmanager
async def open_certificates(files: ServerTlsSettings | None) -> AsyncIterator[Certificates | None]:
    """The certificates of a server, where it has any.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    if files is None:
        yield None
    else:
        async with Certificates(files) as certificates:
            yield certificates


class Certificates:
    """While it is entered it looks at the files; files that cannot be used change nothing but the
    log.

    Connections keep the certificate that they began with.
    """

    def __init__(
        self, files: ServerTlsSettings, *, clock: Clock | None = None, look: timedelta = LOOK
    ) -> None:
        self._files = files
        self._clock = clock or SystemClock()
        self._look = look
        self._stamp: tuple[FileStamp, ...] = ()
        self._pair: KeyPair
        self._configuration: grpc.ServerCertificateConfiguration
        self._shown: grpc.ServerCertificateConfiguration
        self._warned: datetime | None = None
        self._looking: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Read the files.

        Raises:
            ConfigurationError: one of them cannot be used.
        """
        try:
            await asyncio.to_thread(self._read_changed)
        except ConfigurationError as error:
            raise ConfigurationError(f"TLS of the server: {error}") from None
        self._shown = self._configuration
        self._warn()
        self._looking = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking

    def credentials(self) -> grpc.ServerCredentials:
        """What a gRPC server is given for its port."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            # The stubs do not know that None says that nothing has changed.
            cast(Callable[[], grpc.ServerCertificateConfiguration], self._if_changed),
            require_client_authentication=self._files.client_ca is not None,
        )

    @property
    def file(self) -> Path:
        """Where the certificate is read from."""
        return self._files.certificate

    def expires(self) -> float:
        """When the certificate that is shown expires, in seconds since 1970 UTC."""
        return self._pair.expires.timestamp()

    def _if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks at each handshake, in a thread of its own: it must not take long."""
        if self._configuration is self._shown:
            return None
        self._shown = self._configuration
        return self._shown

    async def _keep_looking(self) -> None:
        while True:
            await self._clock.sleep(self._look.total_seconds())
            try:
                if await asyncio.to_thread(self._read_changed):
                    logger.info("a new certificate is in use, until %s", self._pair.expires)
                    self._warned = None
            except ConfigurationError as error:
                logger.error("the certificate stays as it was: %s", error)
            self._warn()

    def _read_changed(self) -> bool:
        """Read the files if they are others than before; each state of them once."""
        files = self._files
        paths = [it for it in (files.certificate, files.key, files.client_ca) if it is not None]
        try:
            stamp = tuple(map(file_stamp, paths))
        except OSError as error:
            if self._stamp:  # They may be on their way.
                return False
            raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
        if stamp == self._stamp:
            return False
        # Noted before they are read: what changes meanwhile is seen at the next look.
        self._stamp = stamp
        pair = read_pair(files.certificate, files.key)
        authorities = None if files.client_ca is None else read_authorities(files.client_ca)
        self._pair = pair
        self._configuration = grpc.ssl_server_certificate_configuration(
            [(pair.key, pair.certificates)], authorities
        )
        return True

    def _warn(self) -> None:
        now, left = self._now(), self._pair.expires - self._now()
        if left > AHEAD or (self._warned is not None and now - self._warned < DAY):
            return
        self._warned = now
        file, until = self._files.certificate, self._pair.expires
        if left <= timedelta():
            logger.error("%s: expired at %s: no client connects any more", file, until)
        else:
            logger.warning(
                "%s: expires in %d days, at %s; put the next one in its place: it is used "
                "without a restart", file, left.days, until,
            )  # fmt: skip

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.time_ms() / 1_000, UTC)
