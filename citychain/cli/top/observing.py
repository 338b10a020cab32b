"""Looks at a server, again and again, and what changed from one to the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from citychain.city.listing import CityListing, CityState
from citychain.cli.exits import Exit, failure
from citychain.cli.reaching import Servers, connect
from citychain.client.city import CityInfo
from citychain.client.health import is_serving
from citychain.client.listing import list_cities
from citychain.errors import CitychainError
from citychain.metrics.reading import Samples, read_metrics

__all__ = ["CitySight", "Observer", "ServerSight", "Sight"]

LISTED_MAX: Final = 2_000
"""Cities whose state is asked for."""
LIST_SECONDS: Final = 10.0
BUSIEST: Final = 50
"""Open cities that are asked at each look; of the others as many, in turn."""
AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class CitySight:
    """One open city. Rates are of what happened since the look before; ``None`` at the first."""

    city: str
    round: int
    unapproved: int
    """Sealed rounds without a certificate."""
    pending: int
    transactions: int
    """All that were ever sealed."""
    leads: bool | None = None
    """Whether this server seals its rounds; ``None`` where the metrics do not say."""
    rounds_per_second: float | None = None
    transactions_per_second: float | None = None

    @property
    def busy(self) -> tuple[float, int]:
        """The greater, the busier."""
        return (self.transactions_per_second or 0.0) + self.pending, self.unapproved


@dataclass(frozen=True, slots=True)
class ServerSight:
    """What the metrics say of the whole server."""

    calls_per_second: float | None
    failures_per_second: float | None
    """Calls that ended with another code than OK."""
    calls_under_way: int
    memory_bytes: int | None
    cpu_share: float | None
    """Of one core: 1.0 is all of it."""
    open_files: int | None
    up_seconds: float | None


@dataclass(frozen=True, slots=True)
class Sight:
    """One look."""

    time_ms: int
    error: str = ""
    """Why there is nothing to see now; else empty."""
    known: int = 0
    """Cities that match, at most `LISTED_MAX`."""
    opened: int = 0
    failed: int = 0
    cities: Sequence[CitySight] = ()
    """Of the open ones those that were asked, the busiest first."""
    server: ServerSight | None = None
    metrics_error: str = ""


@dataclass(slots=True)
class Observer:
    """Remembers the look before."""

    servers: Servers
    timeout: float
    query: str = ""
    metrics: str | None = None
    """Where the server tells metrics."""
    _listed: list[CityListing] = field(default_factory=list)
    _listed_at: float | None = None
    _seen: dict[str, tuple[float, CitySight]] = field(default_factory=dict)
    _turn: int = 0
    _told: tuple[float, Samples] | None = None

    async def look(self) -> Sight:
        """Look once. What may be well again later is no error.

        Raises:
            CitychainError: asking again is pointless.
        """
        now = time.time_ns() // 1_000_000
        try:
            await is_serving(self.servers.channels(), timeout=self._timeout)
            await self._list()
        except (CitychainError, TimeoutError) as error:
            code, message = failure(error)
            if code is not Exit.UNAVAILABLE:
                raise
            self._listed_at = None
            return Sight(now, error=message)
        samples, why = await self._measured()
        leading = {} if samples is None else samples.by("citychain_cities_leading", "city")
        cities = await self._cities(leading)
        return Sight(
            now,
            known=len(self._listed),
            opened=sum(it.state is CityState.OPEN for it in self._listed),
            failed=sum(it.state is CityState.FAILED for it in self._listed),
            cities=sorted(cities, key=lambda it: it.busy, reverse=True),
            server=None if samples is None else self._server(samples),
            metrics_error=why,
        )

    @property
    def _timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout)

    async def _list(self) -> None:
        now = time.monotonic()
        if self._listed_at is not None and now - self._listed_at < LIST_SECONDS:
            return
        listed = []
        pages = list_cities(self.servers.channels(), self.query, timeout=self._timeout)
        async with aclosing(pages):
            async for city in pages:
                listed.append(city)
                if len(listed) == LISTED_MAX:
                    break
        self._listed, self._listed_at = listed, now

    async def _cities(self, leading: Mapping[str, float]) -> list[CitySight]:
        # Others would be opened by being asked.
        opened = {it.slug for it in self._listed if it.state is CityState.OPEN}
        self._seen = {slug: seen for slug, seen in self._seen.items() if slug in opened}
        busiest = sorted(self._seen, key=lambda slug: self._seen[slug][1].busy, reverse=True)
        first = busiest[:BUSIEST]
        others = sorted(opened.difference(first))
        begin = self._turn % len(others) if others else 0
        asked = [*first, *(others[begin:] + others[:begin])[:BUSIEST]]
        self._turn += BUSIEST
        room = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(self._city(slug, room) for slug in asked))
        return [self._compared(info, leading) for info in found if info is not None]

    async def _city(self, slug: str, room: asyncio.Semaphore) -> CityInfo | None:
        """``None`` where it cannot be had now."""
        async with room, connect(self.servers, slug, self.timeout) as client:
            try:
                return await client.info()
            except (CitychainError, TimeoutError):
                return None

    def _compared(self, info: CityInfo, leading: Mapping[str, float]) -> CitySight:
        now, slug, head = time.monotonic(), info.listing.slug, info.head
        rounds = transactions = None
        if slug in self._seen:
            then, before = self._seen[slug]
            rounds = _rate(before.round, head.round, now - then)
            transactions = _rate(before.transactions, head.size, now - then)
        sight = CitySight(
            city=slug,
            round=head.round,
            unapproved=head.round - head.certified_round,
            pending=info.pending,
            transactions=head.size,
            leads=bool(leading[slug]) if slug in leading else None,
            rounds_per_second=rounds,
            transactions_per_second=transactions,
        )
        self._seen[slug] = (now, sight)
        return sight

    async def _measured(self) -> tuple[Samples | None, str]:
        if self.metrics is None:
            return None, ""
        try:
            return await asyncio.to_thread(read_metrics, self.metrics, self.timeout), ""
        except CitychainError as error:
            code, message = failure(error)
            if code is not Exit.UNAVAILABLE:
                raise
            return None, message

    def _server(self, samples: Samples) -> ServerSight:
        now = time.monotonic()
        (then, before), self._told = self._told or (now, samples), (now, samples)

        def rate(name: str, **without: str) -> float | None:
            values = before.total(name, **without), samples.total(name, **without)
            return None if None in values else _rate(*values, now - then)  # type: ignore[arg-type]

        started = samples.total("grpc_server_started_total") or 0
        ended = samples.total("grpc_server_handled_total") or 0
        begun = samples.total("process_start_time_seconds")
        return ServerSight(
            calls_per_second=rate("grpc_server_handled_total"),
            failures_per_second=rate("grpc_server_handled_total", grpc_code="OK"),
            calls_under_way=max(0, round(started - ended)),
            memory_bytes=_whole(samples.total("process_resident_memory_bytes")),
            cpu_share=rate("process_cpu_seconds_total"),
            open_files=_whole(samples.total("process_open_fds")),
            up_seconds=None if begun is None else max(0.0, time.time() - max(0.0, begun)),
        )


def _rate(before: float, after: float, seconds: float) -> float | None:
    """A second; ``None`` where it began anew meanwhile, or no time has passed."""
    return (after - before) / seconds if after >= before and seconds > 0 else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
