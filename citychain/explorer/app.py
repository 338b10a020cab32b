"""The explorer as an ASGI application."""

from __future__ import annotations

import time
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
from citychain.explorer.failures import failure
from citychain.explorer.guard import Guard
from citychain.explorer.live import Live
from citychain.explorer.reading import CityReads, json_response
from citychain.explorer.upstream import Upstream

__all__ = ["PAGE", "explorer_app"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

PAGE: Final = Path(__file__).parent / "static"
"""The page, as it was built."""


def explorer_app(
    upstream: Upstream, live: Live, names: Sequence[str] = (), page: Path = PAGE
) -> ASGIApp:
    """The application, which serves below any path that a proxy takes off.

    Args:
        names: By which it is asked, besides those of this machine.
        page: Folder of the page.
    """
    reads = CityReads(upstream)
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

    answers: dict[str, Endpoint] = {
        "/healthz": healthz,
        "/api/about": about,
        "/api/cities": reads.cities,
        "/api/cities/{city}": reads.city,
        "/api/cities/{city}/genesis": reads.genesis,
        "/api/cities/{city}/rounds": reads.rounds,
        "/api/cities/{city}/rounds/{round}": reads.round,
    }
    routes: list[BaseRoute] = [
        *(Route(path, _answering(endpoint)) for path, endpoint in answers.items()),
        WebSocketRoute("/live", live.serve),
        _page(page),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    return Guard(app, names)


def _answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint, of which every failure is an answer."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            return _failed(error)

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
