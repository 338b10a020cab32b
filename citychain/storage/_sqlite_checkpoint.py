"""Copies the write-ahead log into the database, beside the writer.

A transaction goes into the log and is durable there; now and then the log is
copied into the database and begun anew. In one go that would be felt by whoever
waits for the next transaction. So a thread copies while the writer goes on, and
the writer itself copies only the last few pages, between two transactions: the
log can begin anew only when all of it is in the database.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import apsw

__all__ = ["Checkpointer"]

REST: Final = 0.25
"""Part of a long log that may be left for the writer to copy."""
LONGEST_LOG: Final = 4
"""A log so many times as long as wanted makes the writer wait until it is copied."""

log = logging.getLogger(__name__)


class Checkpointer:
    """Keeps the log of one database short. Used on the writer's thread."""

    def __init__(self, writer: apsw.Connection, copier: apsw.Connection, pages: int) -> None:
        """Both connections are to the same database; a log of ``pages`` is to be copied."""
        self._writer = writer
        self._copier = copier
        self._limit = pages
        self._pages = 0
        self._executor = ThreadPoolExecutor(1, "citychain-sqlite-checkpoint")
        self._copied = _done(0)
        self._soon = False
        writer.set_wal_hook(self._note_pages)

    def copy_soon(self) -> None:
        """Begin a copy after the next commit, however short the log is: only a log that was copied
        to its end lets the file become shorter."""
        self._soon = True

    def after_commit(self) -> None:
        """Begin a copy, or end one, if it is time."""
        if self._soon:
            self._soon = False  # One that is under way may end before what was just written.
            self._copied = self._executor.submit(_copy, self._copier)
            return
        too_long = self._pages >= LONGEST_LOG * self._limit
        if self._pages < self._limit or not (self._copied.done() or too_long):
            return
        rest = self._pages - self._copied.result()
        if rest > REST * self._limit and not too_long:
            self._copied = self._executor.submit(_copy, self._copier)
        else:
            _copy(self._writer)
            self._copied = _done(0)

    def close(self) -> None:
        """Wait for a copy under way. What is still in the log is read again at the next start."""
        self._executor.shutdown()
        self._copier.close()

    def _note_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK


def _copy(connection: apsw.Connection) -> int:
    """Copy what can be copied; returns how much of the log is in the database, in pages."""
    try:
        _, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.Error:
        log.exception("the write-ahead log was not copied into the database; it will be")
        return 0
    return copied


def _done(pages: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(pages)
    return future
