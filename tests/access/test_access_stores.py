"""A storage server that asks for tokens, and the store that brings one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from access.conftest import AUDIENCE, token

from citychain.client.fragments import RemoteOptions, RemoteStore
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config_auth import AuthSettings
from citychain.errors import StoreUnavailable
from citychain.keeping.serving import open_storage_server
from citychain.ports import FragmentKey, StorageContext
from citychain.rpc.storage_server import StorageServerOptions

KEY = FragmentKey(b"o" * 32, b"r" * 32, 0)


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


@asynccontextmanager
async def opened(address: str, folder: Path, text: str | None) -> AsyncIterator[RemoteStore]:
    file = folder / "token"
    if text is not None:
        file.write_text(text)
    options = RemoteOptions(endpoint=address, token_file=file if text is not None else None)
    async with (
        Executor(1) as compute,
        RemoteStore(options, StorageContext(folder, compute, SystemClock())) as store,
    ):
        yield store


async def test_who_may_fetch_may_not_store_and_who_has_no_token_may_neither(
    keys: dict[str, Any], public_files: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "fragments"
    folder.mkdir()
    auth = AuthSettings(keys=tuple(public_files), audience=AUDIENCE)
    listen = StorageServerOptions(listen="127.0.0.1:0")
    both = token(keys["EdDSA"], {"store": ["*"], "fetch": ["*"]})
    reader = token(keys["EdDSA"], {"fetch": ["*"], "read": ["*"], "admin": ["*"]})
    async with open_storage_server(
        folder, listen, limit=None, owner_limit=None, auth=auth
    ) as server:
        async with opened(server.address, tmp_path, both) as store:
            await store.put(KEY, 3, one(b"abc"))
        async with opened(server.address, tmp_path, reader) as store:
            assert await store.read(KEY, 0, 3) == b"abc"
            with pytest.raises(StoreUnavailable, match="does not grant the role store"):
                await store.delete(KEY)
            with pytest.raises(StoreUnavailable, match="does not grant the role store"):
                await store.put(FragmentKey(b"o" * 32, b"r" * 32, 1), 3, one(b"abc"))
        with pytest.raises(StoreUnavailable, match="needs the role fetch"):
            async with opened(server.address, tmp_path, None):
                pass
    for address, text, said in (
        (server.address, "two words", "token: is no token"),
        ("cellar.example:1", both, "unencrypted"),
    ):
        with pytest.raises(StoreUnavailable, match=said) as refused:
            async with opened(address, tmp_path, text):
                pass
        assert text not in str(refused.value)
