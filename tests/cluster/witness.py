"""Reads the database beside the servers: who leads, and when each round came to be there."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from pymongo import AsyncMongoClient

POLL_SECONDS = 0.05
ROUNDS = 8
"""Of a city, at each look."""


class SeenRound(NamedTuple):
    """A round when it was first seen."""

    at: float
    """Seconds, monotonic."""
    round: int
    epoch: int


class SeenTerm(NamedTuple):
    """A term of some server when it was first seen."""

    at: float
    epoch: int
    since: float
    """When the look before began, which did not see it: it began between the two."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads a city."""

    holder: str
    """Name of the server; empty where it was given up."""
    epoch: int

    @property
    def pid(self) -> int:
        """Process id of the holder; 0 where there is none."""
        return int(self.holder.split(":")[1]) if self.holder else 0


class Witness:
    """Of some cities, by genesis id."""

    def __init__(self, uri: str, database: str, cities: dict[bytes, str]) -> None:
        self._uri = uri
        self._database = database
        self._cities = cities
        self.rounds: dict[str, list[SeenRound]] = {slug: [] for slug in cities.values()}
        self.leases: dict[str, Lease] = {}
        self.terms: dict[str, list[SeenTerm]] = {slug: [] for slug in cities.values()}

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        async with AsyncMongoClient[dict[str, Any]](self._uri) as client:
            database = client[self._database]
            before = time.monotonic()
            while True:
                began = time.monotonic()
                await self._look(database, before)
                before = began
                await asyncio.sleep(POLL_SECONDS)

    async def _look(self, database: Any, before: float) -> None:
        async for found in database.leases.find({"_id": {"$in": list(self._cities)}}):
            slug, terms = (name := self._cities[bytes(found["_id"])]), self.terms[name]
            lease = self.leases[slug] = Lease(found.get("holder") or "", found["epoch"])
            if lease.holder and (not terms or terms[-1].epoch < lease.epoch):
                terms.append(SeenTerm(time.monotonic(), lease.epoch, before))
        for genesis, slug in self._cities.items():
            seen = self.rounds[slug]
            after = seen[-1].round if seen else 0
            # A round's id is the city's and its number; a fence is where no round is yet. By id,
            # since a stand-in looks at every round for a range.
            places = [genesis + (after + n).to_bytes(8, "big") for n in range(1, ROUNDS + 1)]
            query = {"_id": {"$in": places}, "fence": {"$exists": False}}
            async for found in database.rounds.find(query, {"round": 1, "epoch": 1}).sort("_id"):
                seen.append(SeenRound(time.monotonic(), found["round"], found["epoch"]))

    async def drop(self) -> None:
        """Remove the database."""
        async with AsyncMongoClient[dict[str, Any]](self._uri) as client:
            await client.drop_database(self._database)
