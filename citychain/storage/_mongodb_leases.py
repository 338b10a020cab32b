"""Who leads a city, and which servers are at work.

``leases``: ``{_id: genesis id, epoch, holder, beat, successor?}``. ``beat`` grows by each renewal.
Who waits remembers (epoch, beat) and when, on its own monotonic clock, it first saw it; once that
has stood still for a ttl, it takes the lease by an update that is bound to both. No two clocks
are ever compared. ``holder`` is null when the lease was given up, and ``successor`` then names the
server that it was given up for; it is empty where that one refused it.

``servers``: ``{_id: name, beat}``, likewise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pymongo
from bson.min_key import MinKey
from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from citychain.errors import LeaseLost
from citychain.storage._mongodb_client import Connection, Document, Grouped, chunks

if TYPE_CHECKING:
    from citychain.ports import Clock

__all__ = ["Leases", "Servers"]

RENEWALS: Final = 1000
"""Of one command."""
LOOKS_PER_TTL: Final = 0.05
"""How old what was seen of a lease may be, as a part of the time that it holds."""
LOOK_SECONDS_MAX: Final = 0.5
STILL_ASKED_SECONDS: Final = 10.0
"""Whoever has not asked for a city's lease for so long does not wait for it any more."""
TRIES_PER_TTL: Final = 4
"""How often a renewal that is not answered may be made in the time that a lease holds."""
TRY_SECONDS_MIN: Final = 1.0
FORGET: Final = 100
"""A server that has not beaten for so many ttls is forgotten."""


class _Sign(NamedTuple):
    """A sign of life, and when it was first seen."""

    value: tuple[int, ...]
    since: float


class _Signs:
    """Signs of life of others, on our monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Any, _Sign] = {}

    def silent_for(self, who: Any, value: tuple[int, ...]) -> float:
        """Seconds for which this sign has not changed, as far as we saw."""
        now = self._clock.monotonic()
        sign = self._seen.get(who)
        if sign is None or sign.value != value:
            self._seen[who] = sign = _Sign(value, now)
        return now - sign.since

    def forget(self, who: Any) -> None:
        self._seen.pop(who, None)


class _Renewal(NamedTuple):
    city: bytes
    epoch: int
    ttl: float
    """Seconds."""


class _Glance:
    """Looks at the leases of all cities that are waited for at once: a server may have thousands
    open that others lead, and asks for each of them a few times a second."""

    def __init__(self, leases: Any, clock: Clock) -> None:
        self._leases = leases
        self._clock = clock
        self._asked: dict[bytes, float] = {}
        self._seen: dict[bytes, Document | None] = {}
        self._at = -inf
        self._looking: asyncio.Task[None] | None = None

    async def lease(self, city: bytes, ttl: timedelta) -> Document | None:
        """A city's lease, as it was a moment ago."""
        fresh = min(LOOKS_PER_TTL * ttl.total_seconds(), LOOK_SECONDS_MAX)
        if city not in self._seen or self._clock.monotonic() - self._at > fresh:
            while True:
                self._asked[city] = self._clock.monotonic()
                # One look at a time, whose result counts for all who came before its end.
                if self._looking is None:
                    self._looking = asyncio.create_task(self._look())
                await asyncio.shield(self._looking)
                if city in self._seen:
                    break
        self._asked[city] = self._clock.monotonic()
        return self._seen[city]

    def forget(self, city: bytes) -> None:
        """It changed."""
        self._seen.pop(city, None)

    async def _look(self) -> None:
        try:
            begun = self._clock.monotonic()
            self._asked = {
                city: at for city, at in self._asked.items() if begun - at <= STILL_ASKED_SECONDS
            }
            seen: dict[bytes, Document | None] = dict.fromkeys(self._asked)
            async for lease in self._leases.find({"_id": {"$in": list(seen)}}):
                seen[lease["_id"]] = lease
            self._seen = seen
            self._at = self._clock.monotonic()
        finally:
            self._looking = None


class Leases:
    """The leases of all cities of a database."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._leases = connection.database["leases"]
        self._signs = _Signs(clock)
        self._glance = _Glance(self._leases, clock)
        self._renewals = Grouped[_Renewal, None](
            connection, self._renew, size=lambda renewal: 1, limit=RENEWALS
        )

    async def take(self, city: bytes, holder: str, ttl: timedelta, above: int) -> int | None:
        """Take a city's lease if it is free, ours, or not renewed any more.

        Args:
            above: The new epoch is greater; so are rounds of it that came without a lease.

        Returns:
            The new epoch; ``None`` while another has the lease.
        """
        with self._connection.errors():
            lease = await self._glance.lease(city, ttl)
            if lease is None:
                self._glance.forget(city)
                first = {"_id": city, "city": city, "epoch": above + 1, "holder": holder, "beat": 0}
                try:
                    await self._leases.insert_one(first)
                except DuplicateKeyError:
                    return None
                return above + 1
            if not self._may_take(lease, holder, ttl):
                return None
            self._glance.forget(city)
            epoch = max(int(lease["epoch"]), above) + 1
            taken = await self._leases.update_one(
                {"_id": city, "epoch": lease["epoch"], "beat": lease["beat"]},
                {
                    "$set": {"epoch": epoch, "holder": holder},
                    "$inc": {"beat": 1},
                    "$unset": {"successor": 1},
                },
            )
        self._signs.forget(city)
        return epoch if taken.matched_count else None

    def _may_take(self, lease: Document, holder: str, ttl: timedelta) -> bool:
        meant_for = lease["holder"] or lease.get("successor")
        if not meant_for or meant_for == holder:
            return True
        silent = self._signs.silent_for(lease["_id"], (lease["epoch"], lease["beat"]))
        return silent >= ttl.total_seconds()

    def changed(self, city: bytes) -> None:
        """Somebody may have given a city's lease up: what was seen of it is old."""
        self._glance.forget(city)

    async def renew(self, city: bytes, epoch: int, ttl: timedelta) -> None:
        """See `CityStorage.renew_lease`."""
        await self._renewals.do(_Renewal(city, epoch, ttl.total_seconds()))

    async def _renew(self, group: Sequence[_Renewal]) -> Sequence[Exception | None]:
        """Renew leases of many cities by one command.

        One that hangs must not keep the next ones until the leases are over.
        """
        shortest = min(renewal.ttl for renewal in group)
        seconds = max(shortest / TRIES_PER_TTL, TRY_SECONDS_MIN)
        with self._connection.errors(), pymongo.timeout(seconds):
            result = await self._leases.bulk_write(
                [
                    UpdateOne(
                        {"_id": city, "epoch": epoch, "holder": {"$ne": None}},
                        {"$inc": {"beat": 1}},
                    )
                    for city, epoch, _ in group
                ],
                ordered=False,
            )
            if result.matched_count == len(group):
                return [None] * len(group)
            # Not which of them were lost, so look.
            epochs = {}
            for cities in chunks([renewal.city for renewal in group]):
                async for lease in self._leases.find({"_id": {"$in": list(cities)}}):
                    epochs[lease["_id"]] = lease["epoch"] if lease["holder"] is not None else None
        return [None if epochs.get(city) == epoch else LeaseLost(epoch) for city, epoch, _ in group]

    async def release(self, city: bytes, epoch: int, successor: str | None = None) -> None:
        """Give a lease up, for anybody or for one server."""
        change: Document = {"$set": {"holder": None}, "$inc": {"beat": 1}}
        if successor is not None:
            change["$set"]["successor"] = successor
        self._glance.forget(city)
        with self._connection.errors():
            await self._leases.update_one({"_id": city, "epoch": epoch}, change)

    async def hand_back(self, city: bytes, server: str) -> None:
        """Let anybody have the lease that was given up for this server."""
        self._glance.forget(city)
        with self._connection.errors():
            await self._leases.update_one(
                {"_id": city, "holder": None, "successor": server},
                {"$set": {"successor": ""}, "$inc": {"beat": 1}},
            )

    async def of(self, servers: Sequence[str]) -> dict[str, list[bytes]]:
        """Cities by the server that holds their lease, or for which it was given up; those of
        other servers by the empty name."""
        found: dict[str, list[bytes]] = {server: [] for server in servers}
        with self._connection.errors():
            for field in ("holder", "successor"):
                # Strings alone: not those that were given up for nobody.
                async for lease in self._leases.find({field: {"$gte": ""}}):
                    # Whoever takes it up from a server that died has watched it by then.
                    self._signs.silent_for(lease["_id"], (lease["epoch"], lease["beat"]))
                    found.setdefault(lease[field] if lease[field] in found else "", []).append(
                        lease["_id"]
                    )
        return found


class Servers:
    """The servers that share a database."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._servers = connection.database["servers"]
        self._signs = _Signs(clock)

    async def beat(self, server: str) -> None:
        """See `SupportsServers.beat`."""
        with self._connection.errors():
            await self._servers.update_one({"_id": server}, {"$inc": {"beat": 1}}, upsert=True)

    async def leave(self, server: str) -> None:
        """See `SupportsServers.leave`."""
        with self._connection.errors():
            await self._servers.delete_one({"_id": server})
        self._signs.forget(server)

    async def living(self, ttl: timedelta) -> list[str]:
        """Those whose beats went on within ``ttl``, or that are new to us."""
        seconds = ttl.total_seconds()
        living = []
        with self._connection.errors():
            for server in await self._servers.find({"_id": {"$gt": MinKey()}}).to_list():
                silent = self._signs.silent_for(server["_id"], (server["beat"],))
                if silent < seconds:
                    living.append(server["_id"])
                elif silent >= FORGET * seconds:
                    await self._servers.delete_one({"_id": server["_id"], "beat": server["beat"]})
                    self._signs.forget(server["_id"])
        return living
