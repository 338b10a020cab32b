"""The storage backend ``otsu-shelf``: one SQLite file, with a row for each write of each city."""

from __future__ import annotations

import asyncio
import pickle  # It runs what it reads: the file is trusted as the program is.
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from citychain import (
    Certificate,
    NameTaken,
    NoOptions,
    ObjectWrite,
    RawTransaction,
    SealedRound,
    StorageContext,
    StorageDefinition,
    StorageError,
    city_name,
    hookimpl,
)
from citychain.errors import DirectoryInUse
from citychain.storage.memory import MemoryCity

SCHEMA = """PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS writes (number INTEGER PRIMARY KEY, genesis BLOB, call TEXT, args BLOB);
CREATE INDEX IF NOT EXISTS of_city ON writes (genesis, number);
"""
FILES = "SELECT args FROM writes WHERE call = 'city'"
SELECT = "SELECT call, args FROM writes WHERE genesis = ? ORDER BY number"


class ShelfBackend:
    """The engine. Its connection is used by one thread at a time: `_turn` sees to that."""

    def __init__(self, options: NoOptions, context: StorageContext) -> None:
        self.context = context
        self.path = context.directory / "shelf.db"
        self.cities: dict[bytes, ShelfCity] = {}
        self._database: Any = None  # Of sqlite3, once it is open.
        self._turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> ShelfBackend:
        try:
            await self._to_its_end(self._blocking(self._open))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._database:
            self._database.close()

    async def city(
        self, genesis: bytes, genesis_file: bytes, initial: Sequence[ObjectWrite]
    ) -> ShelfCity:
        if genesis not in self.cities:
            await self._to_its_end(self._find(genesis, genesis_file, tuple(initial)))
        return self.cities[genesis]

    async def _to_its_end(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What has begun is done, even if whoever waits for it is cancelled."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _find(self, genesis: bytes, *new: Any) -> None:
        async with self._turn:
            if genesis in self.cities:  # Somebody else asked for it meanwhile.
                return
            if not (writes := await self._blocking(self._read, genesis)):
                await self._blocking(self._found, genesis, new)
                writes = [("city", new)]
            city = ShelfCity(partial(self._write, genesis), self.context.clock, *writes[0][1])
            for call, arguments in writes[1:]:
                with suppress(Exception):  # Refused, as when the call was first made.
                    await getattr(MemoryCity, call)(city, *arguments)
                await asyncio.sleep(0)
            self.cities[genesis] = city

    async def _write(self, genesis: bytes, call: str, *arguments: Any) -> Any:
        return await self._to_its_end(self._in_turn(genesis, call, arguments))

    async def _in_turn(self, genesis: bytes, call: str, arguments: Sequence[Any]) -> Any:
        async with self._turn:
            await self._blocking(self._insert, genesis, call, arguments)
            return await getattr(MemoryCity, call)(self.cities[genesis], *arguments)

    async def _blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self.context.compute(function, *arguments)
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise DirectoryInUse(str(self.path.parent), "unknown", "stop it first") from None
            raise StorageError(f"{self.path}: {error}") from error

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._database.executescript(SCHEMA)

    def _read(self, genesis: bytes) -> list[tuple[str, Any]]:
        return [(c, pickle.loads(a)) for c, a in self._database.execute(SELECT, [genesis])]

    def _found(self, genesis: bytes, new: Sequence[Any]) -> None:
        if name := city_name(new[0]):
            for (arguments,) in self._database.execute(FILES):
                there = pickle.loads(arguments)[0]
                if city_name(there) == name:
                    raise NameTaken(name, there)
        self._insert(genesis, "city", new)

    def _insert(self, genesis: bytes, call: str, arguments: Sequence[Any]) -> None:
        row = (genesis, call, pickle.dumps(arguments))
        self._database.execute("INSERT INTO writes VALUES (NULL, ?, ?, ?)", row)


class ShelfCity(MemoryCity):
    """One city: what `MemoryCity` does, once the file has it."""

    def __init__(self, write: Callable[..., Any], *memory: Any) -> None:
        super().__init__(*memory)
        self._write = write

    async def append(
        self, transactions: Sequence[RawTransaction], keys: Mapping[bytes, bytes]
    ) -> None:
        await self._write("append", tuple(transactions), dict(keys))

    async def acquire_lease(self, holder: str, ttl: timedelta) -> int | None:
        return int(await self._write("acquire_lease", holder, ttl))

    async def commit(self, sealed: SealedRound) -> None:
        # Envelopes came with `append`.
        raw: Any = [RawTransaction(t.tx_id, t.author, b"") for t in sealed.transactions]
        await self._write("commit", replace(sealed, transactions=raw))

    async def certify(self, certificates: Sequence[Certificate]) -> None:
        await self._write("certify", tuple(certificates))

    async def keep(self, notes: Mapping[str, bytes]) -> None:
        await self._write("keep", dict(notes))


STORAGE = StorageDefinition("otsu-shelf", ShelfBackend, durable=True, api_version=2)


@hookimpl
def citychain_storage_backends() -> Iterable[StorageDefinition]:
    yield STORAGE
