"""The connection to MongoDB: one client a backend, and what its errors become.

A client belongs to the event loop that made it. Every write is safe to repeat, so the driver
repeats what a dropped connection or a change of the primary cut short, for as long as the
option ``timeout_seconds`` says; what is still open then is a `StorageError` that names the
hosts, and the caller may make the same call again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote_plus

from bson.errors import BSONError
from pymongo import AsyncMongoClient
from pymongo.errors import BulkWriteError, PyMongoError, ServerSelectionTimeoutError

from citychain.errors import StorageError
from citychain.storage._mongodb_causal import Causal, LatestAnswer
from citychain.storage._mongodb_metering import CommandTimes, PoolCounts

if TYPE_CHECKING:
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase

    from citychain.ports import StorageMeter
    from citychain.storage._mongodb_options import Acknowledge, MongodbOptions

__all__ = [
    "Collection",
    "Connection",
    "Document",
    "Grouped",
    "chunks",
    "insert_new",
    "only_duplicates",
    "upsert",
]

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = "AsyncCollection[Document]"

T = TypeVar("T")
R = TypeVar("R")

DUPLICATE: Final = 11000
IDS_A_QUERY: Final = 100
"""Ids that one ``$in`` names: some servers go through all of them for each document."""
WRITES_A_COMMAND: Final = 1000
"""Each command has the time that the options give."""
CONNECT_SECONDS: Final = 0.1
"""For a server near by to take a connection, or to refuse it."""
MESSAGE_CHARS: Final = 300

_CONCERNS: Final[dict[Acknowledge, Document]] = {
    "majority": {"w": "majority", "journal": True, "readConcernLevel": "majority"},
    # Reads of what a majority has would lack what was just written.
    "primary": {"w": 1, "journal": True, "readConcernLevel": "local"},
    "memory": {"w": 1, "journal": False, "readConcernLevel": "local"},
}


class Connection:
    """A client, its database, and the writes under way. Made on the event loop that uses it."""

    def __init__(self, options: MongodbOptions, meter: StorageMeter | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        uri, latest = options.address(), LatestAnswer()
        counting = () if meter is None else (CommandTimes(meter), PoolCounts(meter))
        self._secrets = _secrets(uri)
        self._where = f"MongoDB at {_hosts(uri)}"
        with self.errors():
            self.client: AsyncMongoClient[Document] = AsyncMongoClient(
                uri,
                **_CONCERNS[options.acknowledge],
                appname=_application(uri),
                retryWrites=True,
                retryReads=True,
                readPreference="primary",
                maxPoolSize=options.connections,
                timeoutMS=round(options.timeout_seconds * 1000),
                event_listeners=[latest, *counting],
            )
        self.database: AsyncDatabase[Document] = self.client.get_database(
            options.database,
            read_concern=Causal(latest) if options.acknowledge == "majority" else None,
        )

    async def check(self) -> None:
        """See that a server answers which can keep what it acknowledges.

        Raises:
            StorageError: none answers, or it is no member of a replica set.
        """
        with self.errors():
            hello = await self.client.admin.command("hello")
        if not (hello.get("setName") or hello.get("msg") == "isdbgrid"):
            raise StorageError(
                f"{self._where} is a server by itself: citychain needs a replica set, which may "
                "have one member (start it with --replSet), or the routers of a sharded cluster"
            )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the driver's errors into `StorageError`, without the password."""
        try:
            if asyncio.get_running_loop() is not self._loop:
                raise StorageError("the storage engine belongs to another event loop")
            yield
        except (PyMongoError, BSONError, OSError) as error:
            raise StorageError(f"{self._where}: {self._told(error)}") from error

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin what goes on to its end, whatever becomes of the caller."""
        try:
            with self.errors():
                if self._closed:
                    raise StorageError("the storage engine is closed")
        except StorageError:
            work.close()
            raise
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever was cancelled meanwhile does not ask how it ended.
            task.exception()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what calls the driver, reads too: in a task that is never cancelled.

        A call of the driver that is cancelled costs its connection, which it does not always
        close, and it may swallow the cancellation.
        """
        return await asyncio.shield(self.begin(work))

    async def close(self) -> None:
        """Wait for calls under way, then close the client."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        if not self.client.nodes:
            # The driver is connecting, and closes no socket that it connects when it is closed.
            await asyncio.sleep(CONNECT_SECONDS)
        await self.client.close()

    def _told(self, error: Exception) -> str:
        if isinstance(error, ServerSelectionTimeoutError):
            text = f"no primary answers: {error}"
        elif isinstance(error, BulkWriteError):
            details = error.details or {}
            causes = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
            text = "; ".join(sorted({str(cause.get("errmsg")) for cause in causes})) or str(error)
        else:
            text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]}..."


class Grouped(Generic[T, R]):
    """Group commit: the calls that arrive while one group is written form the next one.

    Args:
        work: Writes a group; gives for each of its items the result or the error.
        size: About how many bytes an item has.
        limit: Bytes of a group, which may exceed them by one item.
    """

    def __init__(
        self,
        connection: Connection,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        size: Callable[[T], int],
        limit: int,
    ) -> None:
        self._connection = connection
        self._work = work
        self._size = size
        self._limit = limit
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running = False

    async def do(self, item: T) -> R:
        """Have the item written; being cancelled leaves open whether it is."""
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if not self._running:
            self._connection.begin(self._run())
            self._running = True
        else:
            with self._connection.errors():
                pass  # It must be our event loop.
        self._waiting.append((item, done))
        return await done

    async def _run(self) -> None:
        try:
            while group := self._next_group():
                results: Sequence[R | Exception]
                try:
                    results = await self._work([item for item, _ in group])
                except Exception as error:
                    results = [error] * len(group)
                for (_, done), result in zip(group, results, strict=True):
                    if done.done():
                        continue
                    if isinstance(result, Exception):
                        done.set_exception(result)
                    else:
                        done.set_result(result)
        finally:
            self._running = False

    def _next_group(self) -> list[tuple[T, asyncio.Future[R]]]:
        size = count = 0
        while count < len(self._waiting) and size < self._limit:
            size += self._size(self._waiting[count][0])
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group


async def insert_new(collection: Collection, documents: Sequence[Any]) -> list[int]:
    """Insert documents, leaving alone what is there already.

    Returns:
        The indexes of those that were there.
    """
    there = []
    for begin in range(0, len(documents), WRITES_A_COMMAND):
        try:
            some = documents[begin : begin + WRITES_A_COMMAND]
            await collection.insert_many(some, ordered=False)
        except BulkWriteError as error:
            only_duplicates(error)
            there += [begin + entry["index"] for entry in (error.details or {})["writeErrors"]]
    return there


async def upsert(collection: Collection, operations: Sequence[Any]) -> int:
    """Update or insert each; one that finds its document and may not change it does nothing.

    Returns:
        The number of documents that were there.
    """
    matched = 0
    for begin in range(0, len(operations), WRITES_A_COMMAND):
        try:
            some = operations[begin : begin + WRITES_A_COMMAND]
            matched += (await collection.bulk_write(some, ordered=False)).matched_count
        except BulkWriteError as error:
            only_duplicates(error)
            matched += (error.details or {})["nMatched"]
    return matched


def only_duplicates(error: BulkWriteError) -> None:
    """Raise the error again, unless all that it says is that something is there already."""
    details = error.details or {}
    others = [e for e in details.get("writeErrors", ()) if e.get("code") != DUPLICATE]
    if others or details.get("writeConcernErrors"):
        raise error


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, as many at a time as one query names."""
    for begin in range(0, len(items), IDS_A_QUERY):
        yield items[begin : begin + IDS_A_QUERY]


def _hosts(uri: str) -> str:
    """The hosts of an address, without user and password."""
    authority = uri.partition("://")[2].partition("?")[0].partition("/")[0]
    return authority.rpartition("@")[2]


def _application(uri: str) -> str:
    """What the client calls itself to the server, unless the address says."""
    for name, value in parse_qsl(uri.partition("?")[2]):
        if name.lower() == "appname":
            return value
    return "citychain"


def _secrets(uri: str) -> tuple[str, ...]:
    """The password of an address, as it stands there and as it is."""
    authority = uri.partition("://")[2].partition("?")[0]
    user, at, _ = authority.rpartition("@")
    password = user.partition(":")[2] if at else ""
    return tuple({password, unquote_plus(password)}) if password else ()
