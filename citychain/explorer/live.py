"""The page's WebSocket: what it asks to be told, and telling it.

It asks ``{"watch": CITY}``, ``{"watch": null}``, ``{"follow": [TX_ID, ...]}``, and is told::

    {"city", "head", "rounds": [as below], "certified": [as below]}     first, and after a break
    {"round": {...}, "nodes": [...], "codes": {SEQ: CODE}, "of": N, "skipped": N}
    {"certified": {"round", "votes": [KEY_ID]}}
    {"transaction": {"tx_id", "state", "round", "seq", "code"}}
    {"waiting": {"pending", "head"}}
    {"trouble": WORDS}

Nodes stand in order of seq, the first 500 of a round, as `citychain.explorer.shown.nodes_shown` has
them. ``skipped`` is there where rounds before were left out for who was too slow.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from citychain.errors import CitychainError, InvalidRequest, RequestError
from citychain.explorer.failures import TooMany, in_words
from citychain.explorer.following import FollowedCity
from citychain.explorer.requests import caller_of, hex_id
from citychain.explorer.shown import text
from citychain.explorer.upstream import Upstream
from citychain.explorer.viewer import Viewer

__all__ = ["Live"]

logger = logging.getLogger(__name__)

CITIES_MAX: Final = 32
"""Followed at a time; each takes two of the calls that a server lets one caller have open."""
PAUSE_SECONDS: Final = 0.05
"""Between what one viewer asks for: a person does not notice, a program does."""
SEND_SECONDS: Final = 60.0
"""A viewer that takes nothing for so long is gone."""
CLOSE_BAD_REQUEST: Final = 1008
"""RFC 6455, section 7.4.1: policy violation."""
CLOSE_TRY_LATER: Final = 1013
"""Try again later: the IANA registry of WebSocket close codes."""


class Live:
    """All viewers, and the cities that they look at.

    Args:
        viewers_max: At a time.
        viewers_each: Of one address, or of one network of IPv6.
        skipped: Told of each round that a viewer was too slow for.
    """

    def __init__(
        self,
        upstream: Upstream,
        viewers_max: int,
        viewers_each: int,
        skipped: Callable[[], object],
    ) -> None:
        self._upstream = upstream
        self._viewers_max = viewers_max
        self._viewers_each = viewers_each
        self._skipped = skipped
        self._viewers = Counter[str]()
        self._cities: dict[str, FollowedCity] = {}

    @property
    def viewers(self) -> int:
        """How many are connected."""
        return self._viewers.total()

    @property
    def cities(self) -> int:
        """How many cities are followed."""
        return len(self._cities)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one viewer until they go."""
        caller = caller_of(websocket)
        try:
            # A browser tells no script why it could not connect.
            await websocket.accept()
        except WebSocketDisconnect:
            return
        if self.viewers >= self._viewers_max:
            await _turn_away(websocket, "as many look as this explorer serves")
            return
        if self._viewers[caller] >= self._viewers_each:
            await _turn_away(websocket, "as many look from your address as this explorer serves")
            return
        self._viewers[caller] += 1
        try:
            await _Session(self, websocket).run()
        finally:
            self._viewers -= Counter((caller,))

    async def join(self, name: str, viewer: Viewer) -> FollowedCity:
        """Have a viewer look at a city, by any of its names.

        Raises:
            NotFound: there is none.
            TooMany: other cities are looked at.
        """
        async with self._upstream.city(name) as client:
            slug = (await client.info()).listing.slug
        if slug not in self._cities:
            if len(self._cities) >= CITIES_MAX:
                raise TooMany("others look at as many cities as this explorer follows")
            self._cities[slug] = FollowedCity(
                slug, lambda: self._upstream.city(slug), self._skipped
            )
        city = self._cities[slug]
        city.join(viewer)
        return city

    async def leave(self, city: FollowedCity, viewer: Viewer) -> None:
        """Have a viewer look at a city no more; one that nobody looks at is not followed."""
        city.remove(viewer)
        if not city.is_watched:
            # Who comes meanwhile has another one made.
            self._cities.pop(city.slug, None)
            await city.close()


async def _turn_away(websocket: WebSocket, reason: str) -> None:
    with suppress(WebSocketDisconnect, OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(1):
            await websocket.send_text(text({"trouble": reason}))
    await _close(websocket, CLOSE_TRY_LATER, reason)


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    with suppress(WebSocketDisconnect, OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(1):
            await websocket.close(code, reason.encode()[:120].decode(errors="ignore"))


class _TryLater(Exception):
    """A city cannot be looked at now: the page connects again."""


class _Session:
    """One connection."""

    def __init__(self, live: Live, websocket: WebSocket) -> None:
        self._live = live
        self._websocket = websocket
        self._viewer = Viewer()
        self._city: FollowedCity | None = None

    async def run(self) -> None:
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, receiving):
                task.cancel()
            ended = await asyncio.gather(sending, receiving, return_exceptions=True)
            await self._look_at(None)
        for error in ended:
            match error:
                case InvalidRequest():
                    await _close(self._websocket, CLOSE_BAD_REQUEST, str(error))
                case _TryLater():
                    await _close(self._websocket, CLOSE_TRY_LATER, "the city cannot be had now")
                case TimeoutError():
                    await _close(self._websocket, CLOSE_TRY_LATER, "nothing is taken")
                case None | asyncio.CancelledError() | WebSocketDisconnect() | OSError():
                    pass
                case BaseException():
                    raise error

    async def _send(self) -> None:
        while True:
            await self._tell(await self._viewer.outbox.next())

    async def _tell(self, told: str) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._websocket.send_text(told)

    async def _receive(self) -> None:
        while True:
            try:
                message = await self._websocket.receive_text()
            except KeyError:
                raise InvalidRequest("message", "is bytes; it must be text") from None
            name, value = _asked(message)
            try:
                if name == "watch":
                    await self._look_at(value)
                elif self._city is not None:
                    await self._city.follow(self._viewer, value)
            except InvalidRequest:
                raise
            except (CitychainError, TimeoutError) as error:
                await self._tell(text({"trouble": in_words(error)}))
                # What became of what they follow meanwhile is not told again.
                if name == "follow" or not isinstance(error, RequestError):
                    raise _TryLater from error
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look_at(self, name: str | None) -> None:
        if self._city is not None:
            city, self._city = self._city, None
            await self._live.leave(city, self._viewer)
        self._viewer.forget()
        if name is not None:
            self._city = await self._live.join(name, self._viewer)


def _asked(message: str) -> tuple[str, Any]:
    """What a viewer asks for.

    Raises:
        InvalidRequest: it is nothing that can be asked for.
    """
    try:
        asked = json.loads(message)
        # Half of a surrogate pair, which JSON can spell, is no character.
        text(asked).encode()
    except (ValueError, RecursionError):
        raise InvalidRequest("message", "is no JSON") from None
    match asked:
        case {"watch": None | str() as name} if len(asked) == 1:
            return "watch", name
        case {"follow": list(tx_ids)} if len(asked) == 1:
            return "follow", [
                hex_id(tx_id, f"follow[{index}]") for index, tx_id in enumerate(tx_ids)
            ]
    raise InvalidRequest("message", 'must be {"watch": a city or null} or {"follow": [ids]}')
