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
from typing import Any, Final, TypeAlias

import grpc

from citychain.client._wrapped import WrappedChannel
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


class AuthorisedChannel(WrappedChannel):
    """Sends a token with each call over a channel, which it owns."""

    def __init__(self, channel: grpc.aio.Channel, token: Token) -> None:
        super().__init__(channel)
        self._token = token

    def _around(self, path: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
            bearer = ("authorization", f"Bearer {self._token()}")
            return method(*args, metadata=(*(metadata or ()), bearer), **kwargs)

        return call
