"""A real server, and an explorer of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from explorer.asking import Explorer

from citychain.client.channels import ChannelFactory
from citychain.client.tokens import Token
from citychain.explorer.serving import ExplorerOptions, open_explorer
from citychain.explorer.upstream import Upstream
from citychain.testing.server import CityServer, CityServerFactory

OpenExplorer = Callable[..., AbstractAsyncContextManager[Explorer]]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """What stands in for the built page."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><script src=page.js></script>")
    (folder / "page.js").write_text("'the page'")
    return folder


@pytest.fixture
def explorer_of(page: Path) -> OpenExplorer:
    """Opens an explorer of a server."""

    @asynccontextmanager
    async def opened(
        address: str,
        *,
        own: Token | None = None,
        submits: bool = False,
        timeout: timedelta = timedelta(seconds=120),
        **options: Any,
    ) -> AsyncIterator[Explorer]:
        upstream = Upstream(
            lambda token: ChannelFactory([address], token=token),
            own,
            submits=submits,
            timeout=timeout,
        )
        how = ExplorerOptions("127.0.0.1:0", metrics="127.0.0.1:0", page=page)
        how = replace(how, **options)
        async with open_explorer(upstream, how) as served, AsyncExitStack() as stack:
            http = httpx.AsyncClient(base_url=served.url, timeout=120, trust_env=False)
            await stack.enter_async_context(http)
            yield Explorer(served.url, http, f"http://{served.metrics}/metrics")

    return opened


@pytest.fixture
async def server(city_server: CityServerFactory) -> AsyncIterator[CityServer]:
    """A server with one city."""
    table: dict[str, object] = {"titles": {"en": "Hometown", "ja": "故郷"}}
    async with city_server({"hometown": table}) as server:
        yield server


@pytest.fixture
async def explorer(server: CityServer, explorer_of: OpenExplorer) -> AsyncIterator[Explorer]:
    """An explorer of it."""
    async with explorer_of(server.address) as explorer:
        yield explorer
