"""The database file of the SQLite backend: its tables, and how it is opened.

What has random keys is as narrow as it can be, since each of its new rows dirties
a page of its own. ``place`` is ``round << 20 | seq``, so that a transaction's place
in its city is one integer and sorts as (round, seq) does. A *prefix* is the first
8 bytes of an id as a signed integer; ids that share one stand side by side, and
whoever looks one up compares the full id.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

import apsw

from citychain.errors import DirectoryInUse, StorageError

__all__ = [
    "DATABASE_NAME",
    "SCHEMA_VERSION",
    "DirectoryLock",
    "ReadingLock",
    "check_whole",
    "open_copier",
    "open_onlooker",
    "open_reader",
    "open_writer",
]

DATABASE_NAME: Final = "citychain.db"

SQLITE_VERSION_MIN: Final = 3_051_003
"""Older ones can lose a commit when a WAL is reset by two connections at once."""

PAGE_SIZE: Final = 4096
"""Bytes. Random-key inserts write about one page each; docs/storage-sqlite.md has the figures."""

_MIGRATIONS: Final = (
    """
    CREATE TABLE cities (
        city INTEGER PRIMARY KEY,
        genesis BLOB NOT NULL UNIQUE,
        genesis_file BLOB NOT NULL
    );
    -- What changes about a city without a round.
    CREATE TABLE progress (
        city INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,           -- newest lease epoch
        certified_round INTEGER NOT NULL  -- all rounds up to it are certified
    );

    -- Transactions as received, in arrival order, up to SEGMENT_BYTES a row.
    CREATE TABLE segments (
        id INTEGER PRIMARY KEY,      -- city << 40 | number of the segment in it, from 1
        tx_ids BLOB NOT NULL,        -- 32 bytes each
        authors BLOB NOT NULL,       -- 32 bytes each
        ends BLOB NOT NULL,          -- where each envelope ends: 4 bytes, big-endian
        envelopes BLOB NOT NULL      -- one after the other
    );
    CREATE TABLE keys (
        city INTEGER NOT NULL,
        key_id BLOB NOT NULL,
        public_key BLOB NOT NULL,
        PRIMARY KEY (city, key_id)
    ) WITHOUT ROWID;

    CREATE TABLE rounds (
        city INTEGER NOT NULL,
        round INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        first_index INTEGER NOT NULL,
        size INTEGER NOT NULL,
        linked INTEGER NOT NULL,     -- number of linked nodes
        floor INTEGER NOT NULL,      -- segments before it hold sealed transactions only
        peaks BLOB NOT NULL,
        checkpoint_hash BLOB NOT NULL,
        checkpoint BLOB NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (city, round)
    ) WITHOUT ROWID;
    CREATE TABLE certificates (
        city INTEGER NOT NULL,
        round INTEGER NOT NULL,
        checkpoint_hash BLOB NOT NULL,
        votes BLOB NOT NULL,
        PRIMARY KEY (city, round)
    ) WITHOUT ROWID;

    CREATE TABLE nodes (
        city INTEGER NOT NULL,
        place INTEGER NOT NULL,
        tx_id BLOB NOT NULL,
        author BLOB NOT NULL,
        node_id BLOB,                -- NULL if rejected
        location INTEGER NOT NULL,   -- segment << 20 | index in it; 0 if never received
        parents BLOB NOT NULL,       -- 8 bytes place and 32 bytes node id each
        pop BLOB,
        code TEXT,                   -- of the rejection
        reason TEXT,
        PRIMARY KEY (city, place)
    ) WITHOUT ROWID;
    -- Places by prefix of the transaction id and of the node id. New ones go into the small
    -- table, and from there into the large one a range of prefixes at a time.
    CREATE TABLE recent_places (
        prefix INTEGER NOT NULL,
        city INTEGER NOT NULL,
        place INTEGER NOT NULL,
        PRIMARY KEY (prefix, city, place)
    ) WITHOUT ROWID;
    CREATE TABLE places (
        prefix INTEGER NOT NULL,
        city INTEGER NOT NULL,
        place INTEGER NOT NULL,
        PRIMARY KEY (prefix, city, place)
    ) WITHOUT ROWID;
    CREATE TABLE children (
        city INTEGER NOT NULL,
        parent INTEGER NOT NULL,     -- place; 0 is the genesis
        child INTEGER NOT NULL,      -- place
        PRIMARY KEY (city, parent, child)
    ) WITHOUT ROWID;
    CREATE TABLE latest (
        city INTEGER NOT NULL,
        author BLOB NOT NULL,
        place INTEGER NOT NULL,
        PRIMARY KEY (city, author)
    ) WITHOUT ROWID;
    CREATE TABLE objects (
        city INTEGER NOT NULL,
        object TEXT NOT NULL,
        version INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (city, object)
    ) WITHOUT ROWID;

    CREATE TABLE leaves (
        city INTEGER NOT NULL,
        first_index INTEGER NOT NULL,
        hashes BLOB NOT NULL,        -- of a round's leaves, 32 bytes each
        PRIMARY KEY (city, first_index)
    ) WITHOUT ROWID;
    CREATE TABLE subtrees (
        city INTEGER NOT NULL,
        level INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (city, level, idx)
    ) WITHOUT ROWID;
    """,
    """
    -- What a city keeps beside its ledger, by name (UTF-8).
    CREATE TABLE notes (
        city INTEGER NOT NULL,
        name BLOB NOT NULL,
        note BLOB NOT NULL,
        PRIMARY KEY (city, name)
    ) WITHOUT ROWID;
    """,
    """
    -- ``citychain.genesis.city_name``; NULL where it is free for another city, and where the file
    -- is no genesis. An older database may have two cities of one name: both stay as they are.
    ALTER TABLE cities ADD COLUMN name TEXT;
    UPDATE cities
    SET name = json_extract(CAST(genesis_file AS TEXT), '$.network')
        || '/' || json_extract(CAST(genesis_file AS TEXT), '$.city')
    WHERE json_valid(CAST(genesis_file AS TEXT));
    CREATE INDEX cities_by_name ON cities (name);
    """,
    """
    -- From here on a segment may have transactions that are gone: their envelopes are empty and
    -- their authors zero. No table changes; releases that would show them keep out.
    """,
)
"""Statements that lead from schema version n to n + 1. Append; never edit one that shipped."""

SCHEMA_VERSION: Final = len(_MIGRATIONS)
"""The newest, which an opened database has."""


class DirectoryLock:
    """Keeps other processes out of the directory, for as long as this one lives."""

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._file, 20, 0).decode("ascii", "replace") or "unknown"
            os.close(self._file)
            raise DirectoryInUse(
                str(directory), owner, "stop it, or give this server another data directory"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let others in."""
        os.close(self._file)


class ReadingLock:
    """Keeps those out who would write to the directory, and changes nothing in it."""

    def __init__(self, directory: Path) -> None:
        try:
            self._file = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)  # Nobody has it open.
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._file, 20, 0).decode("ascii", "replace") or "unknown"
            os.close(self._file)
            raise DirectoryInUse(str(directory), owner, "stop it") from error

    def release(self) -> None:
        """Let others in."""
        os.close(self._file)


def open_writer(directory: Path, cache_mib: int) -> tuple[apsw.Connection, int]:
    """Open the one connection that writes, and create or migrate the database; also returns the
    schema version that it had.

    Raises:
        StorageError: the schema is of a newer release, or SQLite is too old.
        apsw.Error: the file cannot be opened or is not a database.
    """
    if apsw.SQLITE_VERSION_NUMBER < SQLITE_VERSION_MIN:
        raise StorageError(
            f"SQLite {apsw.sqlite_lib_version()} can lose commits: install apsw 3.51.3 or later"
        )
    path = directory / DATABASE_NAME
    connection = apsw.Connection(str(path))
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        if not connection.execute("PRAGMA page_count").get:
            # So that it can give room back. One that is there stays as it is.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if (mode := connection.execute("PRAGMA journal_mode = WAL").get) != "wal":
            raise StorageError(f"{path}: the file system allows no write-ahead log, only {mode}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA cache_size = {-1024 * cache_mib}")
        version = _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection, version


def open_copier(directory: Path) -> apsw.Connection:
    """Open the connection that copies the write-ahead log into the database."""
    connection = apsw.Connection(str(directory / DATABASE_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def open_reader(directory: Path) -> apsw.Connection:
    """Open a connection that only reads."""
    connection = apsw.Connection(str(directory / DATABASE_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_onlooker(directory: Path) -> apsw.Connection:
    """Open a connection that changes nothing on disk, whoever has the database open.

    Raises:
        apsw.Error: the file cannot be opened.
    """
    path = (directory / DATABASE_NAME).absolute()
    # Where the log has no index nobody has the database open, and none is to be made.
    has_index = path.with_name(f"{path.name}-shm").exists()
    reading = "readonly_shm=1" if has_index else "immutable=1"
    return apsw.Connection(
        f"{path.as_uri()}?mode=ro&{reading}",
        flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
    )


def check_whole(directory: Path) -> None:
    """See that what `open_onlooker` finds is all there is.

    Raises:
        StorageError: the write-ahead log is there without its index, as a copy of some of the files
            has it.
    """
    log, index = (directory / f"{DATABASE_NAME}-{it}" for it in ("wal", "shm"))
    if log.exists() and log.stat().st_size and not index.exists():
        raise StorageError(
            f"{log} is there without {index.name}: bring all files of the folder, or let what "
            "wrote them open it once more"
        )


def _migrate(connection: apsw.Connection, path: Path) -> int:
    version: int = connection.execute("PRAGMA user_version").get
    if version > len(_MIGRATIONS):
        raise StorageError(
            f"{path} has schema version {version} and this release knows {len(_MIGRATIONS)}: "
            f"use the release that wrote it, or a newer one"
        )
    for number, statements in enumerate(_MIGRATIONS[version:], start=version + 1):
        with connection:
            connection.execute(statements)
            connection.execute(f"PRAGMA user_version = {number}")
    return version
