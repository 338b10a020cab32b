"""Asking over HTTP, for no longer than so long: a connection's own timeout bounds each silence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection

__all__ = ["answered_within"]


@contextmanager
def answered_within(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    """Connect, and cut the connection off after so long, however busily the other side talks.

    Args:
        connection: Not connected yet.

    Raises:
        TimeoutError: it was cut off.
        OSError: nobody is there.
    """
    connection.connect()
    ended, over = connection.sock, threading.Event()

    def cut() -> None:
        over.set()
        with suppress(OSError):
            ended.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if over.is_set():
            raise TimeoutError(f"no whole answer within {seconds:g} s")
