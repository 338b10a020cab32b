"""Spreads the cities of a shared storage over the servers that are at work on it.

Every server sees the same table of who leads what, plans the same moves, and makes those that
are its own: it hands over what it has too much of, and opens what it was handed or what a server
that died has left. No server leads more than one city more than another; nobody stops accepting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

from citychain.ports import Clock, StorageBackend, SupportsServers, knows_servers

__all__ = ["NOBODY", "Move", "OpenCities", "Spreader", "Spreading", "plan_moves"]

logger = logging.getLogger(__name__)

NOBODY: Final = ""
"""In the table of servers: those whose leases are held by a server that is gone."""
MOVES_MAX: Final = 64
"""Cities that a server hands over, or opens, in one turn."""


class Move(NamedTuple):
    """A city that another server is to lead."""

    city: bytes
    """Genesis id."""
    giver: str
    """`NOBODY` where its server is gone."""
    taker: str


def plan_moves(held: Mapping[str, Sequence[bytes]]) -> list[Move]:
    """The fewest moves after which all cities are led, and evenly: within one of each other.

    Args:
        held: Genesis ids by server, as `SupportsServers.servers` gives them.
    """
    kept = {server: sorted(cities) for server, cities in held.items() if server != NOBODY}
    if not kept:
        return []
    counts = {server: len(cities) for server, cities in kept.items()}
    moves = []

    def move(city: bytes, giver: str) -> None:
        taker = min(counts, key=lambda server: (counts[server], server))
        counts[taker] += 1
        moves.append(Move(city, giver, taker))

    for city in sorted(held.get(NOBODY, ())):
        move(city, NOBODY)
    while True:
        giver = max(counts, key=lambda server: (counts[server], server))
        if counts[giver] - min(counts.values()) < 2:
            return moves
        counts[giver] -= 1
        move(kept[giver].pop(), giver)


class OpenCities(Protocol):
    """The cities that this server has open, by genesis id."""

    def opened(self) -> Collection[bytes]:
        """Those that are open now."""

    async def open(self, genesis_file: bytes) -> None:
        """Open the city of a genesis file, if this server knows it."""

    async def step_down(self, city: bytes) -> int | None:
        """Stop leading a city; the epoch of its lease, which is not released, or ``None`` where
        this server does not lead it."""


class Spreader:
    """One server's part in it, for one storage backend.

    Args:
        server: The server's name, as its leases have it.
        lease: For how long a lease holds; looked at three times in it.
    """

    def __init__(
        self,
        *,
        server: str,
        backend: SupportsServers,
        lease: timedelta,
        clock: Clock,
        cities: OpenCities,
    ) -> None:
        self._server = server
        self._backend = backend
        self._lease = lease
        self._clock = clock
        self._cities = cities

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            try:
                await self.turn()
            except Exception as error:
                logger.warning("cities are not spread over the servers for now: %r", error)
            await self._clock.sleep(self._lease.total_seconds() / 3)

    async def turn(self) -> None:
        """Say that this server is at work, look at the others, and make its moves."""
        await self._backend.beat(self._server)
        held = await self._backend.servers(self._lease)
        moves = plan_moves(held)
        given = [move for move in moves if move.giver == self._server]
        left = [m.city for m in moves if m.taker == self._server and m.giver == NOBODY]
        # What it was handed is among what it holds.
        taken = [*held.get(self._server, ()), *left]
        opened = self._cities.opened()
        closed = [city for city in taken if city not in opened]
        await asyncio.gather(self._give(given[:MOVES_MAX]), self._take(closed[:MOVES_MAX]))

    async def leave(self) -> None:
        """Be forgotten by the others at once."""
        try:
            await self._backend.leave(self._server)
        except Exception as error:
            logger.warning("the others will miss this server only later: %r", error)

    async def _give(self, moves: Sequence[Move]) -> None:
        for move in moves:
            epoch = await self._cities.step_down(move.city)
            if epoch is not None:
                await self._backend.hand_over(move.city, epoch, move.taker)

    async def _take(self, cities: Sequence[bytes]) -> None:
        if not cities:
            return
        for file in (await self._backend.genesis_files(cities)).values():
            await self._cities.open(file)


class Spreading:
    """One server's part in it, for all its storage backends that know of servers; leaving, or
    `leave`, ends it.

    Args:
        server: The server's name, as its leases have it.
        lease: For how long a lease holds.
    """

    def __init__(self, *, server: str, lease: timedelta, clock: Clock) -> None:
        self._server = server
        self._lease = lease
        self._clock = clock
        self._parts: dict[str, tuple[Spreader, asyncio.Task[None]]] = {}
        self._left = False

    async def __aenter__(self) -> Spreading:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.leave()

    def join(self, engine: str, backend: StorageBackend, cities: OpenCities) -> None:
        """Take part where a backend's cities are spread; does nothing where they are not.

        Args:
            engine: The backend's name on this server; only once each.
        """
        if engine in self._parts or self._left or (servers := knows_servers(backend)) is None:
            return
        spreader = Spreader(
            server=self._server,
            backend=servers,
            lease=self._lease,
            clock=self._clock,
            cities=cities,
        )
        self._parts[engine] = spreader, asyncio.create_task(spreader.run())

    async def leave(self) -> None:
        """Take no more cities, and let the others know at once."""
        self._left = True
        parts, self._parts = self._parts, {}
        for _, task in parts.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in parts.values()), return_exceptions=True)
        await asyncio.gather(*(spreader.leave() for spreader, _ in parts.values()))
