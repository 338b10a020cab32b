"""Calls of kubo's RPC API: one POST each, with arguments in the query."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx

from citychain.errors import StorageError, StoreFull, StoreUnavailable

__all__ = ["Missing", "Node", "Refused"]

FULL: Final = ("no space left on device", "disk quota exceeded")
MISSING: Final = ("file does not exist", "ipld: could not find", "block was not found")
DETAIL_MAX: Final = 300
ANSWER_BYTES_MAX: Final = 64 << 20
"""Of what a command gives, such as the names in a folder."""
TIMES: Final = 10
"""A whole answer may take so many times as long as the node may be silent."""
PIECE: Final = 64 << 10
"""Bytes that the client gets at a time: it makes several copies."""


class Refused(Exception):
    """The node did not do what it was asked for; its message."""


class Missing(Refused):
    """There is no such file, or the node has not all of its blocks."""


class Node:
    """A running node. `close` it.

    Args:
        where: What messages call the store.
    """

    def __init__(self, endpoint: str, token: str | None, timeout: float, where: str) -> None:
        self._where = where
        self._patience = TIMES * timeout
        self._running: set[asyncio.Future[bytes]] = set()
        try:
            self._client = httpx.AsyncClient(
                base_url=f"{endpoint}/api/v0/",
                headers={} if token is None else {"Authorization": f"Bearer {token}"},
                timeout=httpx.Timeout(timeout, pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                trust_env=False,  # A node is near: no proxy stands before it.
            )
        except (httpx.InvalidURL, UnicodeError):  # It may hold the token: not told.
            raise StoreUnavailable(
                f"{where}: endpoint is no address; give one such as http://127.0.0.1:5001"
            ) from None

    async def close(self) -> None:
        """Wait for what is under way, and close the connections."""
        if self._running:
            await asyncio.wait(self._running)
        await self._client.aclose()

    async def call(
        self,
        command: str,
        *arguments: str,
        most: int = ANSWER_BYTES_MAX,
        **options: str | int,
    ) -> bytes:
        """What a command gives.

        Args:
            most: Bytes of the answer; a node that has no end is not listened to.

        Raises:
            Refused: the node says no.
            StoreFull: the node's disk is full.
            StoreUnavailable: it does not answer, or not to us.
        """
        task = asyncio.ensure_future(self._answered(command, arguments, options, most))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # Whoever is cancelled goes on, and the request to its end: after some that were broken
        # off a later one had no answer.
        return await asyncio.shield(task)

    async def json(self, command: str, *arguments: str, **options: str | int) -> dict[str, Any]:
        """What a command gives that answers with an object of JSON; raises as `call` does."""
        return self._object(await self.call(command, *arguments, most=ANSWER_BYTES_MAX, **options))

    def _object(self, said: bytes) -> dict[str, Any]:
        try:
            value = json.loads(said)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self._away("what answers is no IPFS node")
        return value

    async def add(self, parts: AsyncIterator[bytes], **options: str | int) -> str:
        """Give the node content, nothing of it if ``parts`` raises; its CID. Raises as `call`
        does."""
        boundary = secrets.token_hex(16)

        async def form() -> AsyncIterator[bytes]:
            yield (
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="fragment"'
                "\r\nContent-Type: application/octet-stream\r\n\r\n"
            ).encode()
            async for part in parts:
                rest = memoryview(part)
                while rest:
                    yield bytes(rest[:PIECE])
                    rest = rest[PIECE:]
            yield f"\r\n--{boundary}--\r\n".encode()

        said = await self._posted(
            "add",
            (),
            options,
            content=form(),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        if "Hash" not in (last := self._object(b"".join(said.splitlines()[-1:]))):
            raise self._away("what answers is no IPFS node")
        return str(last["Hash"])

    async def _answered(
        self, command: str, arguments: tuple[str, ...], options: dict[str, str | int], most: int
    ) -> bytes:
        try:
            async with asyncio.timeout(self._patience):
                return await self._posted(command, arguments, options, most)
        except TimeoutError:
            raise self._away(f"its answer has no end after {self._patience:g} s") from None

    async def _posted(
        self,
        command: str,
        arguments: tuple[str, ...],
        options: dict[str, str | int],
        most: int = ANSWER_BYTES_MAX,
        **body: Any,
    ) -> bytes:
        query = httpx.QueryParams(
            [*(("arg", it) for it in arguments), *((k, str(v)) for k, v in options.items())]
        )
        said = bytearray()
        try:
            async with self._client.stream("POST", command, params=query, **body) as response:
                async for part in response.aiter_bytes():
                    said += part
                    if len(said) > most + PIECE:  # It may say why not, where it gives nothing.
                        raise self._away(f"it gives more than the {most} bytes asked for")
        except httpx.HTTPError as error:
            raise self._away(str(error) or type(error).__name__) from error
        if response.status_code == httpx.codes.OK:
            return bytes(said)
        try:
            message = str(json.loads(said)["Message"])
        except (ValueError, LookupError, TypeError):
            raise self._away(f"it answers with status {response.status_code}") from None
        if any(it in message for it in MISSING):
            raise Missing(message)
        raise Refused(message)

    def _away(self, what: str) -> StorageError:
        return StoreUnavailable(
            f"{self._where}: {what}; see that the node is running, that endpoint is its RPC API "
            "and that its API.Authorizations let us in"
        )

    def told(self, refused: Refused) -> StorageError:
        """What a store raises for what a node says."""
        message = str(refused)[:DETAIL_MAX]
        if any(it in str(refused) for it in FULL):
            return StoreFull(
                f"{self._where}: {message}; make room, or lower limit_mib to what there is"
            )
        return StoreUnavailable(f"{self._where}: {message}")
