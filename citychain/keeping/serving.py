"""The storage server, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from citychain.access.composing import guard
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config_auth import AuthSettings, RatesSettings
from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError, StoreUnavailable
from citychain.fragments.owned import OwnedFragments
from citychain.rpc.certificates import open_certificates
from citychain.rpc.storage_server import StorageServer, StorageServerOptions

__all__ = ["open_storage_server"]


@asynccontextmanager
async def open_storage_server(
    directory: Path,
    options: StorageServerOptions,
    *,
    limit: int | None,
    owner_limit: int | None,
    auth: AuthSettings | None = None,
    rates: RatesSettings | None = None,
    tls: ServerTlsSettings | None = None,
) -> AsyncIterator[StorageServer]:
    """A storage server over a folder, which must be there.

    Args:
        limit: Bytes that the fragments of all owners may take in all.
        owner_limit: Bytes that those of each owner may take.
        auth: Who may call; ``None`` for anybody.
        rates: How often, and how many calls at a time.
        tls: Without it nothing is encrypted.

    Raises:
        ConfigurationError: there is no such folder, the address cannot be used, or a key or
            certificate cannot.
        DirectoryInUse: another storage server has the folder open.
    """
    before = await guard(
        auth or AuthSettings(),
        rates or RatesSettings(),
        None,
        SystemClock(),
        options.max_concurrent_calls,
    )
    async with Executor() as compute:
        fragments = OwnedFragments(directory, compute, limit=limit, owner_limit=owner_limit)
        try:
            await fragments.__aenter__()
        except StoreUnavailable as error:
            raise ConfigurationError(f"--dir: {error}") from None
        try:
            async with (
                open_certificates(tls) as certificates,
                StorageServer(fragments, options, (before,), certificates) as server,
            ):
                yield server
        finally:
            await fragments.__aexit__()
