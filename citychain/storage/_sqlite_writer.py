"""The thread that writes: group commit across cities.

Whatever is queued when a transaction ends becomes the next one, so that all of
it shares one sync of the disk, and its callers are woken together by one call
into the event loop. The busier the engine, the larger the groups.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn

import apsw

from citychain.errors import StorageError
from citychain.storage import _sqlite_reads as reads
from citychain.storage._sqlite_checkpoint import Checkpointer
from citychain.storage._sqlite_requests import Group, Request

__all__ = ["NoWriter", "Writer"]

QUEUE_BYTES: Final = 64 * 1024 * 1024
"""Writes that wait; past it a caller waits before its own is queued."""
GROUP_BYTES: Final = 16 * 1024 * 1024
"""Writes of one transaction."""

RECENT_PLACES: Final = 1 << 17
"""Places in the small table when sweeps and rounds are even."""
SWEEP_PLACES: Final = 1 << 10
"""New places that a sweep waits for."""

_PREFIX_MAX: Final = (1 << 63) - 1
_SWEEP: Final = (
    "INSERT OR IGNORE INTO places SELECT * FROM recent_places WHERE prefix BETWEEN ? AND ?",
    "DELETE FROM recent_places WHERE prefix BETWEEN ? AND ?",
)

_DISK_ERRORS: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.CorruptError,
    apsw.NotADBError,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Moves places from the small table to the large one, a range of prefixes at a time.

    Each round has new places all over the range of prefixes, so that in a large
    table each would dirty a page of its own. The small table's pages take many
    of them each, and so do the large one's when a range is moved at once. A
    sweep moves about as many as have come since the last; it needs no memory of
    where it was, and starts anywhere.
    """

    first: int
    last: int
    """Prefixes that are moved."""
    waiting: int = 0
    """New places since then."""

    @classmethod
    def at_random(cls) -> Sweep:
        """A sweep of nothing, from which the next goes on."""
        position = random.randrange(-(1 << 63), 1 << 63)
        return cls(position, position)

    def after(self, new_places: int) -> Sweep:
        """The next, once so many places are new."""
        waiting = self.waiting + new_places
        if waiting < SWEEP_PLACES:
            return replace(self, waiting=waiting)
        first = self.last + 1 if self.last < _PREFIX_MAX else -_PREFIX_MAX - 1
        width = (waiting << 64) // RECENT_PLACES
        return Sweep(first, min(first + width, _PREFIX_MAX))

    def run(self, connection: apsw.Connection) -> None:
        if not self.waiting and self.first < self.last:
            for statement in _SWEEP:
                connection.execute(statement, (self.first, self.last))


class NoWriter:
    """In the place of `Writer` where a database is open for reading alone."""

    async def write(self, request: Request) -> NoReturn:
        """Refuse it.

        Raises:
            StorageError: always.
        """
        raise StorageError("it is open for reading alone")


class Writer:
    """Owns the connection that writes. Its methods are called on the event loop."""

    def __init__(self, connection: apsw.Connection, checkpointer: Checkpointer) -> None:
        self._connection = connection
        self._checkpointer = checkpointer
        self._sweep = Sweep.at_random()
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
        if asyncio.get_running_loop() is not self._loop:
            raise StorageError("the storage engine belongs to another event loop")
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
            self._checkpointer.after_commit()
            group = self._next_group()
        self._checkpointer.close()
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
            unknown = {tx_id for request in requests for tx_id in request.unknown_ids()}
            group.sealed = reads.sealed_ids(connection, list(unknown))
            for request in requests:
                try:
                    request.result = request.stage(group)
                except Exception as error:
                    request.error = error
            group.flush()
            sweep = self._sweep.after(group.new_places)
            sweep.run(connection)
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
            self._sweep = sweep
            if group.shortens:
                self._checkpointer.copy_soon()

    def _roll_back(self) -> None:
        try:
            if not self._connection.get_autocommit():
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            log.exception("rolling back failed")

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
