"""The token that says who calls, and sending it with each call.

A token is sent over a connection that is encrypted, or that does not leave the machine: whoever
reads it on the way could use it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import grpc

from citychain.errors import ConfigurationError

__all__ = ["AuthorisedChannel", "Token", "TokenFile", "checked_token"]

Token: TypeAlias = Callable[[], str]
"""Gives the present token; must not block."""

READ_AGAIN_SECONDS: Final = 30.0
FILE_BYTES_MAX: Final = 16_384
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")
"""RFC 6750, section 2.1."""


def checked_token(text: str, where: str) -> str:
    """A token as it was given, without white space around it.

    Args:
        where: What gave it, for the error.

    Raises:
        ConfigurationError: it is none; shows nothing of it.
    """
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise ConfigurationError(
            f"{where}: is no token: one line of at most 8,192 letters, digits and ._~+/-"
        )
    return token


class TokenFile:
    """The token in a file; who renews it there need not start anything again.

    Raises:
        ConfigurationError: the file cannot be read, or has no token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = self._read()
        self._read_at = time.monotonic()

    def __call__(self) -> str:
        """The token; it is read again in the background now and then."""
        if (now := time.monotonic()) - self._read_at >= READ_AGAIN_SECONDS:
            self._read_at = now
            asyncio.get_running_loop().run_in_executor(None, self._renew)
        return self._token

    def _renew(self) -> None:
        try:
            self._token = self._read()
        except ConfigurationError:
            # It may be being written. The one that there was holds until it expires.
            return

    def _read(self) -> str:
        try:
            with self._path.open(encoding="utf-8") as file:
                text = file.read(FILE_BYTES_MAX)
        except OSError as error:
            raise ConfigurationError(f"{self._path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            text = ""
        return checked_token(text, str(self._path))


class AuthorisedChannel(grpc.aio.Channel):
    """Sends a token with each call over a channel, which it owns."""

    def __init__(self, channel: grpc.aio.Channel, token: Token) -> None:
        self._channel = channel
        self._token = token

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """See `grpc.aio.Channel.close`."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel.wait_for_state_change`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel.channel_ready`."""
        await self._channel.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_unary`."""
        return self._with_token(self._channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_stream`."""
        return self._with_token(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_unary`."""
        return self._with_token(self._channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_stream`."""
        return self._with_token(self._channel.stream_stream(*args, **kwargs))

    def _with_token(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
            bearer = ("authorization", f"Bearer {self._token()}")
            return method(*args, metadata=(*(metadata or ()), bearer), **kwargs)

        return call
