"""A moto server, which stands in for S3: in a process of its own, which never outlives us.

It lists 50 names at a time, where others list 1,000.

A process that is killed may have sent what the server has not done yet, and does while others look.
`MotoProcess.settle` waits until all is done that was sent before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final
from urllib.request import Request, urlopen

PROGRAM: Final = """
import logging, os, socket, sys, threading, time
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

logging.getLogger("werkzeug").disabled = True
moto = DomainDispatcherApplication(create_backend_app)
waiting, busy = set(), set()
SECONDS_MAX = 300

class Handler(WSGIRequestHandler):
    # One request a connection, however many threads.
    protocol_version = property(lambda self: "HTTP/1.0", lambda self, value: None)

    def handle(self):
        waiting.add(self.connection)
        try:
            self.connection.recv(1, socket.MSG_PEEK)
            busy.add(self.connection)
            waiting.discard(self.connection)
            super().handle()
        finally:
            waiting.discard(self.connection)
            busy.discard(self.connection)

def has_sent(connection):
    try:
        connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True

def answer(environ, start_response):
    if environ["PATH_INFO"] != "/settle":
        return moto(environ, start_response)
    busy.discard(environ["werkzeug.socket"])  # Nobody waits for those who wait.
    end = time.monotonic() + SECONDS_MAX
    while busy or any(map(has_sent, list(waiting))):
        if time.monotonic() > end:
            start_response("503 Busy", [])
            return [b"something that was sent is not done"]
        time.sleep(0.002)
    start_response("200 OK", [])
    return [b""]

def end_with_who_started_it():
    sys.stdin.read()
    os._exit(0)

threading.Thread(target=end_with_who_started_it, daemon=True).start()
server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Handler)
print(server.port, flush=True)
server.serve_forever()
"""


class MotoProcess:
    """One server; what is in it goes with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "50"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self.stop()
            raise RuntimeError("moto's server did not start: see what it said")
        self.endpoint = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def settle(self) -> None:
        """Wait until all is done that was sent before."""
        self.ask("GET", "settle")

    def make_bucket(self, name: str) -> None:
        """One that is there stays as it is."""
        self.ask("PUT", name)

    def unjoined(self, bucket: str) -> int:
        """How many fragments were begun in pieces, and neither joined nor given up."""
        return self.ask("GET", f"{bucket}?uploads").count("<Upload>")

    def ask(self, method: str, path: str, content: bytes | None = None) -> str:
        """Make a request; its answer."""
        request = Request(f"{self.endpoint}/{path}", method=method, data=content)
        request.add_header("Content-Type", "application/octet-stream")
        with urlopen(request, timeout=120) as answer:
            return str(answer.read().decode(errors="replace"))
