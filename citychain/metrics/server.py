"""Where Prometheus and orchestrators ask: ``/metrics``, ``/healthz`` and ``/readyz`` over HTTP.

It answers from threads of its own, so that it can tell of an event loop that hangs.
"""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, Self, TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from citychain.errors import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["MetricsServer"]

logger = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 16
"""Further ones are closed at once."""
SILENCE_SECONDS: Final = 10.0
"""For how long a client may send or take nothing."""
LOOP_SECONDS: Final = 5.0
"""An event loop that is late by so much hangs."""
POLL_SECONDS: Final = 0.05
"""How late it hears that it is to stop."""


class MetricsServer:
    """Answers while it is entered.

    Args:
        listen: Address and port; port 0 takes a free one.
        ready: Whether calls are to be sent to the server; asked from any thread.
        setting: Which says where it listens, for people.
    """

    def __init__(
        self,
        listen: str,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        setting: str = "metrics.listen",
    ) -> None:
        self._listen = listen
        self._setting = setting
        self._ready = ready
        self._metrics: WSGIApplication = make_wsgi_app(registry)
        # Each takes the interpreter from the event loop for milliseconds, time and again.
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop
        self._http: _HttpServer
        self._thread: threading.Thread

    @property
    def address(self) -> str:
        """Where it listens, once entered: host and port."""
        return f"{self._listen.rpartition(':')[0]}:{self._http.server_port}"

    async def __aenter__(self) -> Self:
        """Listen and answer.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        host, _, port = self._listen.rpartition(":")
        try:
            found = await self._loop.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            self._http = _HttpServer(*found[0])
        except (OSError, UnicodeError) as error:  # Of a host that no name can be: the latter.
            raise ConfigurationError(
                f"{self._setting}: cannot listen on {self._listen}: "
                f"{getattr(error, 'strerror', None) or error}; "
                "choose another address, or port 0 for a free one"
            ) from error
        self._http.set_app(self._answer)
        self._thread = threading.Thread(
            target=self._http.serve_forever,
            args=(POLL_SECONDS,),
            name="citychain-metrics",
            daemon=True,
        )
        self._thread.start()
        logger.info("metrics on http://%s/metrics", self.address)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return self._told(environ, start)
            case "/healthz":
                return _text(start, *self._health())
            case "/readyz":
                return _text(start, *self._readiness())
        return _text(start, HTTPStatus.NOT_FOUND, "there is /metrics, /healthz and /readyz")

    def _told(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            with self._turn:
                return self._metrics(environ, start)
        except Exception as error:  # Such as a format that was asked for, of no version.
            logger.warning("metrics could not be told: %r", error)
            return _text(start, HTTPStatus.INTERNAL_SERVER_ERROR, "the log says why")

    def _health(self) -> tuple[HTTPStatus, str]:
        if self._is_alive():
            return HTTPStatus.OK, "ok"
        return HTTPStatus.SERVICE_UNAVAILABLE, f"the event loop hangs for {LOOP_SECONDS:.0f} s"

    def _readiness(self) -> tuple[HTTPStatus, str]:
        if not self._ready():
            return HTTPStatus.SERVICE_UNAVAILABLE, "starting or stopping"
        return self._health()

    def _is_alive(self) -> bool:
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # It is closed.
            return False
        return answered.wait(LOOP_SECONDS)


def _text(start: StartResponse, status: HTTPStatus, text: str) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    start(
        f"{status} {status.phrase}",
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    return [body]


class _HttpServer(ThreadingMixIn, WSGIServer):
    """One thread a connection, and few of them."""

    daemon_threads = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, family: int, type: int, protocol: int, name: str, address: Any) -> None:
        """Of what `socket.getaddrinfo` found."""
        self.address_family = family
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # That of the class above looks up the host's name, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # Such as that the process may have no more threads.
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Such as a client that said nothing; by default it is printed.
        logger.debug("a connection for metrics failed", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_SECONDS

    def get_stderr(self) -> TextIO:
        # It is told of clients that take no answer, with a traceback.
        return io.StringIO()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: it is asked every few seconds."""
