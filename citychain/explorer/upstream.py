"""The servers that the explorer asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.tokens import Token
from citychain.errors import ConfigurationError, NotAllowed

__all__ = ["Upstream"]

TIMEOUT: Final = timedelta(seconds=10)
"""How long an answer may take."""


class Upstream:
    """Servers, asked as the explorer itself or as who is signed in.

    Args:
        channels: Channels to them, which send a token if one is given.
        own: The explorer's token.
        submits: Whether transactions are passed on that nobody signed in for.
    """

    def __init__(
        self,
        channels: Callable[[Token | None], ChannelFactory],
        own: Token | None = None,
        *,
        submits: bool = False,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self._make = channels
        self.channels = channels(own)
        self.submits = submits
        self.timeout = timeout

    @property
    def takes_tokens(self) -> bool:
        """Whether who signs in can be heard: a token does not travel in the clear."""
        try:
            self._make(str)
        except ConfigurationError:
            return False
        return True

    def city(self, name: str) -> CityClient:
        """A client of a city; enter it to use it."""
        return CityClient(name, self.channels, timeout=self.timeout)

    def city_for(self, name: str, token: str | None) -> CityClient:
        """The same, for somebody who submits.

        Raises:
            NotAllowed: without a token nothing is submitted here.
        """
        if token is not None:
            try:
                channels = self._make(lambda: token)
            except ConfigurationError as error:
                raise NotAllowed(str(error)) from None
        elif self.submits:
            channels = self._make(None)
        else:
            raise NotAllowed("this explorer is for reading: sign in with a token to submit")
        return CityClient(name, channels, timeout=self.timeout)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the connections: those of a process are shared, and last as long as a channel."""
        async with self.channels.channel() as channel:
            channel.get_state(try_to_connect=True)
            yield
