"""What every request passes: who may ask, by which name, and what every answer carries.

A page elsewhere can have a browser ask this server, by a name of its own that it points here (DNS
rebinding), or as itself (another origin). The names that this server goes by, and the origin that
a browser tells, tell those from its own page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from citychain.errors import NotAllowed
from citychain.explorer.failures import failure

__all__ = ["HEALTH", "Guard"]

HEALTH: Final = "/healthz"
"""Asked by whoever watches over it, by its address as it is there."""
LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
SECURITY: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # What was there may have changed: ask, and be told that it has not.
    "cache-control": "no-cache",
}

STRICT_TRANSPORT: Final = "max-age=2592000"
"""RFC 6797; of 30 days, since it is for every port of the name."""


class Guard:
    """Refuses what comes from elsewhere, and adds the headers of security.

    Args:
        names: Hosts by which this server is asked, with a port or without, besides those of this
            machine.
        host: Where it listens.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], host: str) -> None:
        self._app = app
        self._given = frozenset(name.lower() for name in names)
        self._names = self._given.union(LOCAL, (host.lower(),))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        security = self._security(scope)

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in security.items():
                    headers.setdefault(name, value)
            await send(message)

        if (reason := self._refusal(scope)) is None:
            await self._app(scope, receive, secured)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        status, body, _ = failure(NotAllowed(reason))
        await Response(body, status, media_type="application/json")(scope, receive, secured)

    def _security(self, scope: Scope) -> Mapping[str, str]:
        host = _without_port(Headers(scope=scope).get("host", "").lower())
        # What browsers know of the names of this machine is for all that it runs.
        if scope["scheme"] in ("http", "ws") or host in LOCAL:
            return SECURITY
        return {**SECURITY, "strict-transport-security": STRICT_TRANSPORT}

    def _refusal(self, scope: Scope) -> str | None:
        if scope["path"] == HEALTH:
            return None
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if not self._known(host):
            return (
                f"this explorer does not go by the name {host[:100]!r}: whoever runs it can give "
                "it with --host"
            )
        origin = headers.get("origin")
        if origin is None or (scope["type"] == "http" and scope["method"] in ("GET", "HEAD")):
            return None
        # Other ports of this machine are other people's pages.
        place = urlsplit(origin.lower()).netloc
        if place in (host, *self._given) or _without_port(place) in self._given:
            return None
        return "the page that asks is not the explorer's own"

    def _known(self, host: str) -> bool:
        return host in self._names or _without_port(host) in self._names


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
