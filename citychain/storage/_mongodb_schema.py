"""The collections of the MongoDB backend, their indexes, and the version of it all.

========================= ================================================= =====================
collection                ``_id``                                           what else is looked up
========================= ================================================= =====================
``cities``                genesis id                                        (network, slug) unique
``genesis_files``         city 32 | part 2
``keys``                  city 32 | key id
``transactions_raw``      given by us, means nothing                        (city, tx_id) unique;
                                                                            pending ones by arrival
``rounds``                city 32 | round 8                                 by (city, size, round)
``round_parts``           city 32 | round 8 | checkpoint hash 32 | part 2
``certificates``          city 32 | round 8
``dag_nodes``             node id; of a rejected one city 32 | tx id        (city, tx_id) unique;
                                                                            children by parent,
                                                                            latest by author
``objects``               city 32 | object in UTF-8
``subtrees``              city 32 | level 2 | number 8
``notes``                 city 32 | SHA-256 of the names of its call        (city, seq) unique;
                                                                            (city, each name)
``leases``                genesis id                                        by holder, by successor
``servers``               name of the server
``citychain``             ``schema``: the version
========================= ================================================= =====================

Integers are big-endian, so that ids of one city stand together and in order. Each document has
``city`` besides, for people. docs/storage-mongodb.md follows a transaction through them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pymongo import IndexModel

from citychain.errors import StorageError

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

__all__ = ["INDEXES", "SCHEMA_VERSION", "Index", "ensure_schema", "schema_version"]

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Index:
    """An index besides that of ``_id``."""

    collection: str
    name: str
    fields: tuple[str, ...]
    unique: bool = False
    only: tuple[tuple[str, Any], ...] = ()
    """Partial: documents with these fields alone."""

    @property
    def model(self) -> IndexModel:
        """As the driver wants it."""
        more = {"partialFilterExpression": dict(self.only)} if self.only else {}
        return IndexModel(
            [(field, 1) for field in self.fields], name=self.name, unique=self.unique, **more
        )


INDEXES: Final = (
    Index("cities", "name", ("network", "slug"), unique=True, only=(("slug", {"$exists": True}),)),
    Index("transactions_raw", "tx_id", ("city", "tx_id"), unique=True),
    Index(
        "transactions_raw",
        "pending",
        ("city", "pending", "arrival", "tx_id"),
        only=(("pending", True),),
    ),
    Index("rounds", "size", ("city", "size", "round")),
    Index("dag_nodes", "tx_id", ("city", "tx_id"), unique=True),
    Index("dag_nodes", "parent_ids", ("city", "parent_ids", "round", "seq")),
    Index(
        "dag_nodes",
        "author",
        ("city", "author", "linked", "round", "seq"),
        only=(("linked", True),),
    ),
    Index("notes", "seq", ("city", "seq"), unique=True),
    Index("notes", "name", ("city", "notes.name")),
    Index("leases", "holder", ("holder",)),
    Index("leases", "successor", ("successor",), only=(("successor", {"$exists": True}),)),
)
"""All of version `SCHEMA_VERSION`. What an earlier one lacks is made when a server opens it."""


async def schema_version(database: AsyncDatabase[dict[str, Any]]) -> int:
    """The version that the database has; 0 for a new one."""
    found = await database["citychain"].find_one({"_id": "schema"})
    return 0 if found is None else int(found["version"])


async def ensure_schema(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Make a new database ready, or bring one of an earlier release up to date.

    Any number of servers may do so at once: each step can be repeated, and the version is
    written last.

    Raises:
        StorageError: the database is of a newer release.
    """
    version = await schema_version(database)
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"the database {database.name} has schema version {version} and this release knows "
            f"{SCHEMA_VERSION}: use the release that wrote it, or a newer one"
        )
    if version == SCHEMA_VERSION:
        return
    for collection in sorted({index.collection for index in INDEXES}):
        models = [index.model for index in INDEXES if index.collection == collection]
        await database[collection].create_indexes(models)
    await database["citychain"].update_one(
        {"_id": "schema"}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True
    )
