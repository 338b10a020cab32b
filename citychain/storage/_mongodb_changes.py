"""Hearing of what other servers write: one change stream a backend, for all its open cities.

It only wakes: who was woken looks for itself, and looks now and then if nobody wakes it. So what
the stream misses costs time and nothing else, and where there is none (a server too old, a user
without the right to watch) polling alone remains. Of each group of received transactions one
document says ``wake``; of leases, only those count that change hands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from citychain.errors import StorageError

if TYPE_CHECKING:
    from citychain.ports import Clock
    from citychain.storage._mongodb_client import Connection

__all__ = ["Changes"]

PAUSE_SECONDS: Final = 1.0
"""Before a stream that failed is opened again."""
LOOK_MS: Final = 500
"""How long the server waits for something to tell."""
CLOSE_SECONDS: Final = 2.0
"""For how long closing waits for a look to end by itself."""
UNABLE: Final = frozenset((13, 59, 115, 303, 40324, 40573, 136))
"""Codes of a server that cannot, or may not, stream changes."""

log = logging.getLogger(__name__)

_PIPELINE: Final[list[dict[str, Any]]] = [
    {
        "$match": {
            "$or": [
                {
                    "ns.coll": "transactions_raw",
                    "operationType": "insert",
                    "fullDocument.wake": True,
                },
                {"ns.coll": "cities", "updateDescription.updatedFields.applied": {"$exists": True}},
                {"ns.coll": "certificates", "operationType": "insert"},
                {"ns.coll": "notes", "operationType": {"$in": ["insert", "update"]}},
                {"ns.coll": "leases", "operationType": "insert"},
                {"ns.coll": "leases", "updateDescription.updatedFields.holder": {"$exists": True}},
                {"ns.coll": "leases", "updateDescription.updatedFields.successor": ""},
            ]
        }
    },
    {
        "$project": {
            "city": "$fullDocument.city",
            "documentKey": 1,
            "successor": "$updateDescription.updatedFields.successor",
        }
    },
]


class Changes:
    """The stream, and who waits for it.

    Args:
        told: Told of each city of which something changed.
    """

    def __init__(self, connection: Connection, clock: Clock, told: Callable[[bytes], None]) -> None:
        self._connection = connection
        self._clock = clock
        self._told = told
        self._closing = asyncio.Event()
        self._stream: asyncio.Task[None] | None = None
        self._heard: dict[bytes, asyncio.Event] = {}
        self._handed: dict[str, asyncio.Event] = {}

    async def wait(self, city: bytes, timeout: float) -> None:
        """Return when something of the city was written since the last call, or in time."""
        await self._until(self._heard.setdefault(city, asyncio.Event()), timeout)

    async def handed(self, server: str, timeout: float) -> bool:
        """Whether a lease was given up for this server since the last call, by then."""
        return await self._until(self._handed.setdefault(server, asyncio.Event()), timeout)

    async def _until(self, heard: asyncio.Event, timeout: float) -> bool:
        with self._connection.errors():
            if self._stream is None:
                self._stream = asyncio.create_task(self._listen())
        waits = [
            asyncio.ensure_future(heard.wait()),
            asyncio.ensure_future(self._clock.sleep(timeout)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        was_heard = heard.is_set()
        heard.clear()
        return was_heard

    async def close(self) -> None:
        """Stop listening: by itself if it can, since a look that is cancelled costs a connection,
        and the driver may swallow the cancellation."""
        self._closing.set()
        while self._stream is not None and not self._stream.done():
            await asyncio.wait({self._stream}, timeout=CLOSE_SECONDS)
            self._stream.cancel()

    async def _listen(self) -> None:
        resume: Any = None
        while not self._closing.is_set():
            try:
                with pymongo.timeout(None):
                    async with await self._connection.database.watch(
                        _PIPELINE, resume_after=resume, max_await_time_ms=LOOK_MS
                    ) as stream:
                        if resume is None:
                            self._tell_all()  # What was missed before, nobody knows.
                        while stream.alive and not self._closing.is_set():
                            if (change := await stream.try_next()) is not None:
                                self._tell(change)
                            resume = stream.resume_token
            except OperationFailure as error:
                if error.code in UNABLE:
                    log.warning("no change stream; polling alone remains: %s", error)
                    return
                resume = None  # Perhaps it leads back too far.
            except (PyMongoError, StorageError, OSError) as error:
                log.info("the change stream is opened again: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._closing.wait()

    def _tell_all(self) -> None:
        for heard in (*self._heard.values(), *self._handed.values()):
            heard.set()

    def _tell(self, change: dict[str, Any]) -> None:
        city = change.get("city", change["documentKey"]["_id"])
        if not isinstance(city, bytes):
            return
        self._told(city[:32])
        for heard in (self._heard.get(city[:32]), self._handed.get(change.get("successor", ""))):
            if heard is not None:
                heard.set()
