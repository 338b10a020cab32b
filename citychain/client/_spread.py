"""One channel over several: gRPC takes one name a target, and resolves that better than we would.

Each endpoint has a channel of its own, which resolves its name, and again when
that does not answer, and connects anew by itself. What is left for here is which
of them a call goes to; a call that failed is repeated by who made it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

import grpc

__all__ = ["SpreadChannel"]

_State = grpc.ChannelConnectivity
_PREFERENCE: Final = (
    _State.READY,
    _State.CONNECTING,
    _State.IDLE,
    _State.TRANSIENT_FAILURE,
    _State.SHUTDOWN,
)


class SpreadChannel(grpc.aio.Channel):
    """Sends each call over one of its channels, which it owns.

    Args:
        in_turn: Spread calls over all that are connected, instead of using one until it fails.
    """

    def __init__(self, channels: Sequence[grpc.aio.Channel], *, in_turn: bool) -> None:
        self._channels = channels
        self._in_turn = in_turn
        self._turns: Iterator[int] = itertools.count()
        self._current = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """See `grpc.aio.Channel.close`."""
        await asyncio.gather(*(channel.close(grace) for channel in self._channels))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The best state that one of them has."""
        states = [channel.get_state(try_to_connect) for channel in self._channels]
        return min(states, key=_PREFERENCE.index)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the best state is another."""
        while self.get_state() == last_observed_state:
            waiting = [
                asyncio.ensure_future(channel.wait_for_state_change(channel.get_state()))
                for channel in self._channels
            ]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waiting:
                    one.cancel()

    async def channel_ready(self) -> None:
        """Wait until one of them is connected."""
        while (state := self.get_state(try_to_connect=True)) != _State.READY:
            await self.wait_for_state_change(state)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_unary`."""
        return self._over([channel.unary_unary(*args, **kwargs) for channel in self._channels])

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_stream`."""
        return self._over([channel.unary_stream(*args, **kwargs) for channel in self._channels])

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_unary`."""
        return self._over([channel.stream_unary(*args, **kwargs) for channel in self._channels])

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_stream`."""
        return self._over([channel.stream_stream(*args, **kwargs) for channel in self._channels])

    def _over(self, methods: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
        return lambda *args, **kwargs: methods[self._choose()](*args, **kwargs)

    def _choose(self) -> int:
        """The channel for the next call: of those in the best state, the next or the same."""
        count = len(self._channels)
        first = next(self._turns) if self._in_turn else self._current
        # To be spread over, all must connect; one that is in use needs no others.
        states = [channel.get_state(try_to_connect=self._in_turn) for channel in self._channels]
        self._current = min(
            ((first + step) % count for step in range(count)),
            key=lambda index: _PREFERENCE.index(states[index]),
        )
        return self._current
