"""What the SQLite backend offers besides its cities: how much it holds, and forgetting one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import apsw

from citychain.errors import StorageError
from citychain.notes import HOME
from citychain.storage import _sqlite_reads as reads
from citychain.storage._sqlite_reads import PREFIX, SEGMENT_BITS
from citychain.storage._sqlite_requests import Group, Request
from citychain.storage._sqlite_schema import DATABASE_NAME, SCHEMA_VERSION, open_onlooker
from citychain.upkeep import StorageLook, StorageStats

if TYPE_CHECKING:
    from citychain.types import ObjectWrite

__all__ = ["Forget", "look", "primary_keys", "stats"]

ROWS_A_STEP: Final = 2_000
"""Rows that are removed in one transaction: others write between two of them."""

_TABLES: Final = {
    # By the column that follows the city in the primary key.
    "children": "parent",
    "latest": "author",
    "objects": "object",
    "leaves": "first_index",
    "subtrees": "level",
    "certificates": "round",
    "rounds": "round",
    "keys": "key_id",
}


@dataclass(slots=True, eq=False)
class Forget(Request):
    """A part of `SupportsForgetting.forget`; returns whether more is left."""

    genesis: bytes
    initial: Sequence[ObjectWrite]

    def stage(self, group: Group) -> bool:
        """Remove some rows, of one table. The city's number and its note ``home`` stay, and its
        name is free."""
        connection = group.connection
        city = reads.city(connection, self.genesis)
        if city is None:
            return False
        if _forget_nodes(connection, city):
            return True
        for table, column in _TABLES.items():
            if _forget_some(connection, city, table, column):
                return True
        if _forget_segments(connection, city):
            return True
        connection.execute("DELETE FROM notes WHERE city = ? AND name != ?", (city, HOME.encode()))
        connection.execute("UPDATE cities SET name = NULL WHERE city = ?", (city,))
        group.add("progress", [(city, 0, 0)])
        group.add("objects", [(city, w.object, w.version, w.value) for w in self.initial])
        return False


def _forget_nodes(connection: apsw.Connection, city: int) -> bool:
    rows: list[Any] = connection.execute(
        "SELECT place, tx_id, node_id FROM nodes WHERE city = ? ORDER BY place LIMIT ?",
        (city, ROWS_A_STEP),
    ).fetchall()
    if not rows:
        return False
    places = [
        (PREFIX.unpack_from(id)[0], city, place)
        for place, tx_id, node_id in rows
        for id in (tx_id, node_id)
        if id is not None
    ]
    for table in ("recent_places", "places"):
        connection.executemany(
            f"DELETE FROM {table} WHERE prefix = ? AND city = ? AND place = ?", places
        )
    connection.execute("DELETE FROM nodes WHERE city = ? AND place <= ?", (city, rows[-1][0]))
    return True


def _forget_some(connection: apsw.Connection, city: int, table: str, column: str) -> bool:
    last = connection.execute(
        f"SELECT max({column}) FROM (SELECT {column} FROM {table} WHERE city = ? "
        f"ORDER BY {column} LIMIT ?)",
        (city, ROWS_A_STEP),
    ).get
    if last is None:
        return False
    connection.execute(f"DELETE FROM {table} WHERE city = ? AND {column} <= ?", (city, last))
    return True


def _forget_segments(connection: apsw.Connection, city: int) -> bool:
    last = connection.execute(
        "SELECT max(id) FROM (SELECT id FROM segments WHERE id >= ?1 << ?2 AND id < (?1 + 1) << ?2 "
        "ORDER BY id LIMIT 64)",
        (city, SEGMENT_BITS),
    ).get
    if last is None:
        return False
    connection.execute(
        "DELETE FROM segments WHERE id >= ? AND id <= ?", (city << SEGMENT_BITS, last)
    )
    return True


def stats(connection: apsw.Connection, directory: Path) -> StorageStats:
    """See `SupportsUpkeep.stats`."""
    count = "SELECT coalesce(sum((SELECT {} FROM rounds WHERE city = c.city)), 0) FROM cities c"
    return StorageStats(
        schema_version=connection.execute("PRAGMA user_version").get,
        schema_version_known=SCHEMA_VERSION,
        bytes=sum(file.stat().st_size for file in directory.glob(f"{DATABASE_NAME}*")),
        counts={
            "cities": connection.execute("SELECT count(*) FROM cities").get,
            "rounds": connection.execute(count.format("max(round)")).get,
            "nodes": connection.execute(count.format("max(size)")).get,
            "keys": connection.execute("SELECT count(*) FROM keys").get,
            "objects": connection.execute("SELECT count(*) FROM objects").get,
            "notes": connection.execute("SELECT count(*) FROM notes").get,
        },
    )


def look(directory: Path) -> StorageLook:
    """See `SupportsLooking.look`."""
    if not (directory / DATABASE_NAME).exists():
        return StorageLook(0, SCHEMA_VERSION)
    try:
        connection = open_onlooker(directory)
        try:
            version = connection.execute("PRAGMA user_version").get
            if not version or version > SCHEMA_VERSION:  # What a newer one has is not known.
                return StorageLook(version, SCHEMA_VERSION)
            newest = "SELECT max(time_ms) FROM rounds r WHERE r.city = c.city AND r.round = ({})"
            last = newest.format("SELECT max(round) FROM rounds l WHERE l.city = c.city")
            return StorageLook(
                schema_version=version,
                schema_version_known=SCHEMA_VERSION,
                cities=connection.execute("SELECT count(*) FROM cities").get,
                newest_ms=connection.execute(f"SELECT max(({last})) FROM cities c").get or 0,
            )
        finally:
            connection.close()
    except apsw.Error as error:
        raise StorageError(f"the database in {directory} cannot be read: {error}") from error


def primary_keys(connection: apsw.Connection) -> dict[str, list[str]]:
    """See `SupportsUpkeep.indexes`: there are no others."""
    names: list[Any] = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "ORDER BY name"
    ).fetchall()
    return {
        name: [
            ", ".join(
                column
                for (column,) in connection.execute(
                    "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (name,)
                )
            )
        ]
        for (name,) in names
    }
