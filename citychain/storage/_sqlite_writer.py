"""The thread that writes: group commit across cities.

Whatever is queued when a transaction ends becomes the next one, so that all of
it shares one sync of the disk, and its callers are woken together by one call
into the event loop. The busier the engine, the larger the groups.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import Empty, SimpleQueue
from typing import Any, Final

import apsw

from citychain.errors import StorageError
from citychain.storage import _sqlite_reads as reads
from citychain.storage._sqlite_requests import Group, Request

__all__ = ["Writer"]

QUEUE_BYTES: Final = 64 * 1024 * 1024
"""Writes that wait; past it a caller waits before its own is queued."""
GROUP_BYTES: Final = 16 * 1024 * 1024
"""Writes of one transaction."""

_DISK_ERRORS: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.CorruptError,
    apsw.NotADBError,
)

log = logging.getLogger(__name__)


class Writer:
    """Owns the connection that writes. Its methods are called on the event loop."""

    def __init__(self, connection: apsw.Connection, checkpoint_pages: int) -> None:
        self._connection = connection
        self._checkpoint_pages = checkpoint_pages
        self._wal_pages = 0
        connection.set_wal_hook(self._note_wal_pages)
        self._next_city = reads.cities(connection) + 1
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Request | None] = SimpleQueue()
        self._queued_bytes = 0
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._closed = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, name="citychain-sqlite-writer", daemon=True
        )
        self._thread.start()

    async def write(self, request: Request) -> Any:
        """Queue the request and wait until it is durable.

        Requests are written in the order of the calls. Cancelling one leaves
        open whether it is written.

        Raises:
            StorageError: it is not written.
        """
        request.done = self._loop.create_future()
        async with self._turn:  # First come, first queued: also those that wait for room.
            size = request.size
            while self._queued_bytes and self._queued_bytes + size > QUEUE_BYTES:
                self._room.clear()
                await self._room.wait()
            if self._closed:
                raise StorageError("the storage engine is closed")
            self._queued_bytes += size
            self._queue.put(request)
        return await request.done

    async def close(self) -> None:
        """Write what is queued, then stop."""
        async with self._turn:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        await asyncio.shield(self._stopped)

    # On the writer's thread

    def _run(self) -> None:
        group = self._next_group()
        while group:
            self._write(group)
            self._loop.call_soon_threadsafe(self._wake, group)
            if self._wal_pages >= self._checkpoint_pages:
                self._checkpoint()
            group = self._next_group()
        self._loop.call_soon_threadsafe(self._stopped.set_result, None)

    def _next_group(self) -> list[Request]:
        """What is queued, waiting for the first; empty when closed."""
        request = self._queue.get()
        group: list[Request] = []
        size = 0
        while request is not None:
            group.append(request)
            size += request.size
            if size >= GROUP_BYTES:
                return group
            try:
                request = self._queue.get_nowait()
            except Empty:
                return group
        if group:
            self._queue.put(None)
        return group

    def _write(self, requests: list[Request]) -> None:
        """Write requests in one transaction and note in each how it went."""
        connection = self._connection
        group = Group(connection, self._next_city)
        try:
            connection.execute("BEGIN IMMEDIATE")
            unknown = {pair for request in requests for pair in request.unknown_ids()}
            group.sealed = reads.sealed_ids(connection, list(unknown))
            for request in requests:
                try:
                    request.result = request.stage(group)
                except Exception as error:
                    request.error = error
            group.flush()
            connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            if len(requests) > 1 and not isinstance(error, _DISK_ERRORS):
                # One of them cannot be written, and must not take the others with it.
                for request in requests:
                    request.error = None
                    self._write([request])
                return
            for request in requests:
                request.error = request.error or _translate(error)
        else:
            group.publish()
            self._next_city = group.next_city

    def _roll_back(self) -> None:
        try:
            if not self._connection.get_autocommit():
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            log.exception("rolling back failed")

    def _note_wal_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """Copy the WAL into the database; the next write starts it anew."""
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error:
            log.exception("a checkpoint of the database failed; it is tried again")

    # On the event loop

    def _wake(self, group: list[Request]) -> None:
        for request in group:
            self._queued_bytes -= request.size
            if request.done.done():
                continue
            if request.error is not None:
                request.done.set_exception(request.error)
            else:
                request.done.set_result(request.result)
        self._room.set()


def _translate(error: Exception) -> Exception:
    if isinstance(error, apsw.Error):
        translated = StorageError(f"the database could not be written: {error}")
        translated.__cause__ = error
        return translated
    return error
