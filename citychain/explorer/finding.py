"""Finding what somebody typed: a name, an id or the beginning of one, or a round."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable
from contextlib import aclosing, suppress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from citychain.city.listing import CityListing, CityState
from citychain.client.city import CityClient
from citychain.client.listing import city_page
from citychain.errors import CitychainError, InvalidRequest, NotFound
from citychain.explorer.reading import json_response
from citychain.explorer.requests import words
from citychain.explorer.upstream import Upstream
from citychain.types import State

__all__ = ["Finding"]

CITIES_MAX: Final = 16
"""Looked into: of those that are open, the first."""
FOUND_MAX: Final = 50
AT_ONCE: Final = 2
"""Searches, each of which asks about many cities."""
RECENT: Final = 20
"""Rounds whose transactions are found by the beginning of their ids."""
_ID: Final = re.compile(r"[0-9a-f]{64}")
_BEGINNING: Final = re.compile(r"[0-9a-f]{8,63}")

Found = dict[str, Any]


class Finding:
    """Answers to what somebody typed."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._room = asyncio.Semaphore(AT_ONCE)

    async def search(self, request: Request) -> Response:
        """What is called so."""
        wanted = words(request, "q").strip()
        if not wanted:
            raise InvalidRequest("q", "must be given")
        async with asyncio.timeout(self._upstream.timeout.total_seconds()), self._room:
            found = [*await self._by_name(wanted), *await self._in_cities(wanted.lower())]
        return json_response({"found": found[:FOUND_MAX]})

    async def _by_name(self, wanted: str) -> Iterable[Found]:
        cities, _ = await city_page(self._upstream.channels, wanted, timeout=self._upstream.timeout)
        return [{"kind": "city", "city": city.slug, "id": city.slug} for city in cities]

    async def _in_cities(self, wanted: str) -> Iterable[Found]:
        is_round = wanted.isascii() and wanted.isdecimal() and len(wanted) < 19
        if not (is_round or _ID.fullmatch(wanted) or _BEGINNING.fullmatch(wanted)):
            return []
        cities, _ = await city_page(self._upstream.channels, timeout=self._upstream.timeout)
        opened = [city for city in cities if city.state is CityState.OPEN][:CITIES_MAX]
        found = await asyncio.gather(*(self._in_city(city, wanted, is_round) for city in opened))
        return [one for each in found for one in each]

    async def _in_city(self, listing: CityListing, wanted: str, is_round: bool) -> list[Found]:
        slug, kinds = listing.slug, list[tuple[str, str]]()
        # A city that fails is not where the others are looked for.
        with suppress(CitychainError, TimeoutError):
            async with self._upstream.city(slug) as city:
                if is_round and 0 < int(wanted) <= (await city.info()).head.round:
                    kinds.append(("round", str(int(wanted))))
                if _ID.fullmatch(wanted):
                    kinds += await _of_id(city, bytes.fromhex(wanted))
                elif _BEGINNING.fullmatch(wanted):
                    kinds += await _recent(city, wanted)
        return [{"kind": kind, "city": slug, "id": id} for kind, id in kinds]


async def _of_id(city: CityClient, id: bytes) -> list[tuple[str, str]]:
    if (await city.info()).genesis == id:
        return [("city", id.hex())]
    if id in await city.status([id]):
        return [("transaction", id.hex())]
    with suppress(NotFound):
        await city.node(id)
        return [("node", id.hex())]
    return [("author", id.hex())] if id in await city.public_keys([id]) else []


async def _recent(city: CityClient, beginning: str) -> list[tuple[str, str]]:
    head = (await city.info()).head.round
    if not head:
        return []
    found = deque[tuple[str, str]](maxlen=FOUND_MAX)
    # Ids alone: the rounds themselves may have 8 MiB each.
    watched = city.watch(from_state=State.SEALED, after=max(0, head - RECENT))
    async with aclosing(watched) as batches:
        async for batch in batches:
            ids = (event.tx_id.hex() for event in batch.events)
            found += (("transaction", tx_id) for tx_id in ids if tx_id.startswith(beginning))
            if batch.position >= head:
                break
    return [*reversed(found)]
