"""The explorer as an ASGI application.

Paths are relative to wherever a proxy puts it, which takes its own part off::

    GET  healthz                                of any host
    GET  api/about
    GET  api/cities?query=&page_token=
    GET  api/cities/CITY                        CITY is any name, in any script, or a genesis id
    GET  api/cities/CITY/genesis                the file, byte for byte
    GET  api/cities/CITY/rounds?from=&limit=    the newest first, unless `from` says where to begin
    GET  api/cities/CITY/rounds/ROUND?from_seq=
    GET  api/cities/CITY/nodes/NODE_ID          and nodes/ROUND/SEQ; ?page_token= of children
    GET  api/cities/CITY/transactions/TX_ID
    GET  api/cities/CITY/receipts/TX_ID?levels= as `citychain receipt` writes it
    GET  api/cities/CITY/authors/KEY_ID?next=
    GET  api/cities/CITY/committee, anchors
    GET  api/search?q=
    POST api/cities/CITY/transactions           a SignedTransaction, application/x-protobuf
    WS   live                                   `citychain.explorer.live`

What fails is ``{"error": {"code", "message", "field"}}``; docs/errors.md has the codes of servers.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from citychain.errors import InvalidRequest, NotFound
from citychain.explorer.counting import Counts
from citychain.explorer.failures import TooMany, failure
from citychain.explorer.finding import Finding
from citychain.explorer.guard import HEALTH, Guard
from citychain.explorer.ledger import LedgerReads
from citychain.explorer.live import Live
from citychain.explorer.reading import CityReads, json_response
from citychain.explorer.requests import caller_of
from citychain.explorer.submitting import Submitting
from citychain.explorer.upstream import Upstream

__all__ = ["PAGE", "explorer_app"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

AT_WORK_MAX: Final = 48
"""Of the calls that a server lets one caller have open, what following cities leaves."""
AT_WORK_EACH: Final = 16
"""Of one address: a browser asks six things at a time."""
ANSWER_SECONDS: Final = 60.0
"""What any answer may take: a stream of the server's may tell nothing for ever."""

PAGE: Final = Path(__file__).parent / "static"
"""The page, as it was built."""


def explorer_app(
    upstream: Upstream,
    live: Live,
    counts: Counts,
    names: Sequence[str] = (),
    host: str = "localhost",
    page: Path = PAGE,
) -> ASGIApp:
    """The application, which serves below any path that a proxy takes off.

    Args:
        names: By which it is asked, besides those of this machine.
        host: Where it listens.
        page: Folder of the page.
    """
    reads, ledger = CityReads(upstream), LedgerReads(upstream)
    started_ms = time.time_ns() // 1_000_000

    async def about(request: Request) -> Response:
        return json_response(
            {
                "version": version("citychain"),
                "submit": upstream.submits,
                "sign_in": upstream.takes_tokens,
                "started_ms": started_ms,
            }
        )

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    city = "/api/cities/{city}"
    answers: dict[str, Endpoint] = {
        "/api/about": about,
        "/api/cities": reads.cities,
        city: reads.city,
        f"{city}/genesis": reads.genesis,
        f"{city}/rounds": reads.rounds,
        f"{city}/rounds/{{round}}": reads.round,
        f"{city}/nodes/{{node_id}}": ledger.node,
        f"{city}/nodes/{{round}}/{{seq}}": ledger.node_at,
        f"{city}/transactions/{{tx_id}}": ledger.transaction,
        f"{city}/receipts/{{tx_id}}": ledger.receipt,
        f"{city}/authors/{{key_id}}": ledger.author,
        f"{city}/committee": ledger.committee,
        f"{city}/anchors": ledger.anchors,
        "/api/search": Finding(upstream).search,
    }
    answering = _Answering(counts)
    routes: list[BaseRoute] = [
        # Who is busy is not ill, and tells how busy.
        Route(HEALTH, healthz),
        *(Route(path, answering(endpoint)) for path, endpoint in answers.items()),
        Route(f"{city}/transactions", answering(Submitting(upstream).submit), methods=["POST"]),
        WebSocketRoute("/live", live.serve),
        _page(page),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    return Guard(app, names, host)


class _Answering:
    """Makes every failure of an endpoint an answer, and has so many at work at a time."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._at_work = Counter[str]()

    def __call__(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            self._counts.requests.inc()
            caller = caller_of(request)
            self._at_work[caller] += 1
            try:
                if self._at_work.total() > AT_WORK_MAX:
                    raise TooMany("the explorer answers as many as it may at a time")
                if self._at_work[caller] > AT_WORK_EACH:
                    raise TooMany("the explorer answers you as much as it may at a time")
                async with asyncio.timeout(ANSWER_SECONDS):
                    response = await endpoint(request)
            except Exception as error:
                self._counts.failures.inc()
                response = _failed(error)
            finally:
                self._at_work -= Counter((caller,))
            # It is of this moment, and may be for one reader alone.
            response.headers["cache-control"] = "no-store"
            return response

        return answer


def _page(page: Path) -> BaseRoute:
    if (page / "index.html").is_file():
        return Mount("/", StaticFiles(directory=page, html=True))

    async def missing(request: Request) -> Response:
        return PlainTextResponse(
            f"the page is not built: {page} has no index.html; the API is below api/\n", 503
        )

    return Route("/", missing)


def _failed(error: Exception) -> Response:
    status, body, headers = failure(error)
    return Response(body, status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _failed(NotFound("page", request.url.path[:256]))
    _, body, _ = failure(InvalidRequest("method", error.detail))
    return Response(body, error.status_code, error.headers, media_type="application/json")
