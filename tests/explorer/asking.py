"""Asking an explorer, as its page does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx
import websockets

HANG_SECONDS = 120


class Viewer:
    """A browser that looks live."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def ask(self, **message: Any) -> Self:
        """Send what it wants to be told."""
        await self.connection.send(json.dumps(message))
        return self

    async def next(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(HANG_SECONDS):
            message: dict[str, Any] = json.loads(await self.connection.recv())
            return message

    async def until(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; those before it are passed over."""
        while kind not in (message := await self.next()):
            pass
        return message


@dataclass(frozen=True)
class Explorer:
    """One that answers."""

    url: str
    http: httpx.AsyncClient
    metrics_url: str

    async def get(self, path: str, status: int = 200, **parameters: Any) -> Any:
        """An answer in JSON."""
        answer = await self.http.get(path, params=parameters or None)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def metrics(self) -> str:
        """What it tells Prometheus."""
        return (await self.http.get(self.metrics_url)).text

    @asynccontextmanager
    async def live(self, **options: Any) -> AsyncIterator[Viewer]:
        """A viewer's connection."""
        url = f"ws{self.url.removeprefix('http')}live"
        async with websockets.connect(url, proxy=None, **options) as connection:
            yield Viewer(connection)
