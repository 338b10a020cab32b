"""What a transaction takes in MongoDB, by collection and index; prints JSON.

    python bench/sizes.py [--transactions 4000] [--alone 200]

A server process is sent data transactions by 64 keys, for one city as many at once as it takes, for
another one ``alone``, each after the one before it is approved, so that it makes a round. Then all
documents are read back. All figures are bytes a transaction. ``documents``: of BSON. ``deflated``:
the same after zlib at its fastest, in blocks of 32 KiB as WiredTiger has, to see what compresses at
all. ``indexes``: of the keys as MongoDB encodes them (a type, a length and a kind beside each id; 5
bytes for the record), without the city that they begin with, since pages share prefixes. A page of
a tree that is inserted into everywhere is two thirds full, which is not counted here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
from _mongodb import Database, database
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from citychain.cli.bench.load import presign, run_load
from citychain.cli.server_process import ServerProcess
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient, CityInfo
from citychain.client.keys import create_key
from citychain.crypto.signatures import SigningKey
from citychain.storage._mongodb_schema import INDEXES

CONFIG = """\
operator_key = "operator.key"
[server]
listen = "127.0.0.1:0"
[plugins]
allow = []
[pacer]
min_seconds = 0.05
[cities.together]
storage = "shared"
[cities.alone]
storage = "shared"
[storage.shared]
backend = "mongodb"
uri = "{database.uri}"
database = "{database.name}"
"""
BLOCK = 32 << 10
RECORD_ID = 5
COLLECTIONS = (
    *("transactions_raw", "dag_nodes", "rounds", "round_parts", "certificates", "objects"),
    *("subtrees", "keys", "notes"),
)


def encoded(value: Any) -> int:
    """Bytes of a value in a key."""
    if isinstance(value, bytes):
        return 3 + len(value)
    if isinstance(value, bson.ObjectId):
        return 13
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int):
        return 1 + max(1, (value.bit_length() + 8) // 8)
    raise TypeError(type(value))


def keys(document: dict[str, Any], fields: tuple[str, ...]) -> Iterator[int]:
    """Bytes of each key of a document in an index."""
    values = [document.get(field) for field in fields if field != "city"]
    fixed = [value for value in values if not isinstance(value, list)]
    several = next((value for value in values if isinstance(value, list)), [None])
    more = [encoded(one) for one in several] if len(fixed) < len(values) else [0]
    for size in more:
        yield RECORD_ID + 1 + sum(map(encoded, fixed)) + size


def sizes(where: Database, city: bytes) -> dict[str, dict[str, int]]:
    """Totals of a city by collection and index."""
    documents, deflated, indexes = {}, {}, {}
    with MongoClient[RawBSONDocument](where.uri, document_class=RawBSONDocument) as client:
        for name in COLLECTIONS:
            raw = [found.raw for found in client[where.name][name].find({"city": city})]
            together = b"".join(raw)
            documents[name] = len(together)
            blocks = range(0, len(together), BLOCK)
            deflated[name] = sum(len(zlib.compress(together[at : at + BLOCK], 1)) for at in blocks)
            decoded = [bson.decode(one) for one in raw]
            indexes[f"{name}: _id"] = sum(sum(keys(one, ("_id",))) for one in decoded)
            for index in INDEXES:
                if index.collection == name:
                    indexes[f"{name}: {index.name}"] = sum(
                        sum(keys(one, index.fields))
                        for one in decoded
                        if all(field in one for field, _ in index.only)
                    )
    return {"documents": documents, "deflated": deflated, "indexes": indexes}


async def fill(place: Path, where: Database, counts: dict[str, int]) -> dict[str, CityInfo]:
    """Have so many approved in each city; what it says then."""
    create_key(place / "operator.key")
    (place / "citychain.toml").write_text(CONFIG.format(database=where))
    server = ServerProcess(place)
    await server.start()
    told = {}
    try:
        for slug, count in counts.items():
            async with CityClient(slug, ChannelFactory([server.address])) as city:
                genesis = (await city.info()).genesis
                signers = [SigningKey(bytes([number]) * 32) for number in range(64)]
                # All keys come first, by value.
                load = presign(genesis, signers, 64, by_value=True)
                await run_load([server.address], [(slug, load)])
                load = presign(genesis, signers, count - 64, by_value=False)
                size = 1 if slug == "alone" else len(load)
                for start in range(0, len(load), size):
                    await run_load([server.address], [(slug, load[start : start + size])])
                told[slug] = await city.info()
        return told
    finally:
        await server.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--transactions", type=int, default=4_000)
    parser.add_argument("--alone", type=int, default=200)
    options = parser.parse_args()
    counts = {"together": options.transactions, "alone": options.alone}
    figures = {}
    with database() as where, tempfile.TemporaryDirectory() as place:
        for slug, info in asyncio.run(fill(Path(place), where, counts)).items():
            figures[slug] = {
                "transactions": info.head.size,
                "rounds": info.head.round,
                **{
                    name: {
                        part: round(size / info.head.size, 1)
                        for part, size in parts.items()
                        if size
                    }
                    for name, parts in sizes(where, info.genesis).items()
                },
            }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
