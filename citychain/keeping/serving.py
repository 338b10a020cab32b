"""The storage server, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from citychain.access.composing import guard
from citychain.access.key_files import KeyFiles
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config_auth import AuthSettings, RatesSettings
from citychain.config_tls import ServerTlsSettings
from citychain.errors import ConfigurationError, StoreUnavailable
from citychain.fragments.owned import OwnedFragments
from citychain.rpc.certificates import open_certificates
from citychain.rpc.storage_server import StorageServer, StorageServerOptions

__all__ = ["RunningStorageServer", "open_storage_server"]


@dataclass(frozen=True, slots=True)
class RunningStorageServer:
    """A storage server that answers calls."""

    address: str
    """Host and port."""
    port: int
    reload: Callable[[], Awaitable[None]]
    """Read the keys of tokens again. Raises `ConfigurationError`: one cannot be used; then nothing
    has changed."""


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
) -> AsyncIterator[RunningStorageServer]:
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
    auth, clock = auth or AuthSettings(), SystemClock()
    before = await guard(auth, rates or RatesSettings(), None, clock, options.max_concurrent_calls)
    async with Executor() as compute:
        fragments = OwnedFragments(directory, compute, limit=limit, owner_limit=owner_limit)
        try:
            await fragments.__aenter__()
        except StoreUnavailable as error:
            raise ConfigurationError(f"--dir: {error}") from None
        try:
            async with (
                open_certificates(tls) as certificates,
                KeyFiles(before, auth, clock) as keys,
                StorageServer(fragments, options, (before,), certificates) as server,
            ):
                yield RunningStorageServer(server.address, server.port, keys.read_again)
        finally:
            await fragments.__aexit__()
