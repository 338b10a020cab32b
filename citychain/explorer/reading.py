"""Cities and their rounds, as the page asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from citychain import record
from citychain.client.city import CityClient
from citychain.client.listing import city_page
from citychain.errors import NotFound
from citychain.explorer.regions import regions_shown
from citychain.explorer.requests import integer, path_integer, words
from citychain.explorer.shown import city_shown, info_shown, round_shown, text
from citychain.explorer.upstream import Upstream
from citychain.ports import StoredRound

__all__ = ["CityReads", "json_response", "read_round", "read_rounds"]

ROUNDS_MAX: Final = 100
ROUNDS_STEP: Final = 4
"""Read at a time: a record may have 8 MiB."""
LEAVES_MAX: Final = 1_000


def json_response(value: Any) -> Response:
    """An answer in JSON."""
    return Response(text(value), media_type="application/json")


class CityReads:
    """Answers about cities and rounds."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def cities(self, request: Request) -> Response:
        """A page of cities."""
        upstream = self._upstream
        query, token = words(request, "query"), words(request, "page_token")
        found, following = await city_page(
            upstream.channels, query, token, timeout=upstream.timeout
        )
        return json_response({"cities": [*map(city_shown, found)], "next_page_token": following})

    async def city(self, request: Request) -> Response:
        """One city, opened if it was not."""
        async with self._of(request) as city:
            info = await city.info()
        regions = await asyncio.to_thread(regions_shown, info.genesis_file)
        return json_response(info_shown(info) | ({"regions": regions} if regions else {}))

    async def genesis(self, request: Request) -> Response:
        """Its genesis file."""
        async with self._of(request) as city:
            return Response((await city.info()).genesis_file, media_type="application/json")

    async def rounds(self, request: Request) -> Response:
        """Rounds from one on, or the newest, the newest first."""
        limit = integer(request, "limit", 20, least=1, most=ROUNDS_MAX)
        first = integer(request, "from", 0)
        async with self._of(request) as city:
            if first:
                found = await read_rounds(city, first, limit)
            else:
                head = (await city.info()).head.round
                found = (await read_rounds(city, max(1, head - limit + 1), limit))[-limit:]
                found.reverse()
        return json_response({"rounds": found})

    async def round(self, request: Request) -> Response:
        """A round with what it seals."""
        number = path_integer(request, "round", least=1)
        first = integer(request, "from_seq", 0)
        async with self._of(request) as city:
            stored = await read_round(city, number)
        return json_response(await asyncio.to_thread(_with_leaves, stored, first))

    def _of(self, request: Request) -> CityClient:
        return self._upstream.city(request.path_params["city"])


async def read_round(city: CityClient, number: int) -> StoredRound:
    """One round.

    Raises:
        NotFound: there is no such round, or not yet.
    """
    for stored in await city.rounds(number, 1):
        if stored.round == number:
            return stored
    raise NotFound("round", str(number))


async def read_rounds(city: CityClient, first: int, limit: int) -> list[dict[str, Any]]:
    """Rounds as they are shown, a few at a time."""
    shown: list[dict[str, Any]] = []
    while len(shown) < limit:
        step = min(ROUNDS_STEP, limit - len(shown))
        page = await city.rounds(first + len(shown), step)
        shown += await asyncio.to_thread(_shown, page)
        if len(page) < step:
            break
    return shown


def _shown(page: Sequence[StoredRound]) -> list[dict[str, Any]]:
    return [*map(round_shown, page)]


def _with_leaves(stored: StoredRound, first: int) -> dict[str, Any]:
    decided = record.decode(stored.record)
    pairs = [*zip(decided.tx_ids, decided.verdicts, strict=True)][first : first + LEAVES_MAX]
    leaves = [
        {"seq": seq, "tx_id": tx_id}
        | ({} if verdict is None else {"code": verdict.code, "reason": verdict.reason})
        for seq, (tx_id, verdict) in enumerate(pairs, first)
    ]
    end = first + len(leaves)
    more = {"next_seq": end} if end < len(decided.tx_ids) else {}
    return round_shown(stored, decided) | {"leaves": leaves} | more
