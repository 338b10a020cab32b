"""Spreads the cities of a shared storage over the servers that are at work on it.

Every server sees the same table of who leads what, plans the same moves, and makes those that
are its own: it hands over what it has too much of, and opens what it was handed, as soon as it
hears of it, or what a server that died has left. No server leads more than one city more than
another; nobody stops accepting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

from citychain.ports import Clock, StorageBackend, SupportsServers, knows_servers

__all__ = ["NOBODY", "Move", "OpenCities", "Spreader", "Spreading", "plan_moves"]

logger = logging.getLogger(__name__)

NOBODY: Final = ""
"""In the table of servers: those whose leases are held by a server that is gone."""
MOVES_MAX: Final = 64
"""Cities that a server hands over, or opens, in one turn."""
PATIENCE: Final = 4
"""Turns after which a server opens what another one was to open: perhaps that one cannot."""
SHUNNED: Final = 30
"""Turns for which a server that gave a city back is not handed it again."""
LEAVE_SECONDS: Final = 10.0
"""For how long a move under way may take to its end when the server stops."""


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
        self._pause = lease.total_seconds() / 3
        self._lease = lease
        self._clock = clock
        self._cities = cities
        self._stopping = asyncio.Event()
        self._turns = 0
        self._left: dict[bytes, int] = {}
        """In which turn a city was first seen to be led by nobody."""
        self._given: dict[bytes, tuple[str, int]] = {}
        """To whom a city was handed over, and in which turn."""

    async def run(self) -> None:
        """Take turns until `stop`."""
        async with asyncio.TaskGroup() as group:
            # By itself: whoever opens many cities must not look dead meanwhile.
            group.create_task(self._again(lambda: self._backend.beat(self._server), self._rest))
            group.create_task(self._again(self.turn, self._rest))
            group.create_task(self._again(self._take_what_was_handed, self._until_handed))

    def stop(self) -> None:
        """End `run`, after the moves under way."""
        self._stopping.set()

    async def _again(
        self, step: Callable[[], Awaitable[None]], rest: Callable[[], Awaitable[None]]
    ) -> None:
        while not self._stopping.is_set():
            try:
                await step()
            except Exception as error:
                logger.warning("cities are not spread over the servers for now: %r", error)
            waits = [
                asyncio.ensure_future(self._stopping.wait()),
                asyncio.ensure_future(rest()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _rest(self) -> None:
        await self._clock.sleep(self._pause)

    async def _until_handed(self) -> None:
        """Rest until this server hears that it was handed a city."""
        while True:
            try:
                while not await self._backend.handed(self._server, self._lease):
                    pass
            except Exception as error:
                logger.warning("it is not heard of what is handed over for now: %r", error)
                await self._rest()
            else:
                return

    async def _take_what_was_handed(self) -> None:
        """Open at once what this server is to lead: nobody does until then."""
        held = await self._backend.servers(self._lease)
        opened = self._cities.opened()
        mine = sorted(held.get(self._server, ()))
        await self._take([city for city in mine if city not in opened][:MOVES_MAX])

    async def turn(self) -> None:
        """Look at all servers, and make the moves that are this one's."""
        self._turns += 1
        held = await self._backend.servers(self._lease)
        if self._server not in held:
            return  # It has not beaten yet.
        moves = plan_moves(held)
        mine = set(held[self._server])
        given = [move for move in moves if move.giver == self._server and self._may_give(move)]
        opened = self._cities.opened()
        # What it was handed is among what it holds.
        taken = [*sorted(mine), *self._to_take_up(held, moves)]
        closed = [city for city in taken if city not in opened]
        self._given = {
            city: (taker, turn)
            for city, (taker, turn) in self._given.items()
            if self._turns - turn < SHUNNED
        }
        async with asyncio.TaskGroup() as group:
            for move in given[:MOVES_MAX]:
                group.create_task(self._give(move))
            group.create_task(self._take(closed[:MOVES_MAX]))

    def _may_give(self, move: Move) -> bool:
        """Not to one that was given it lately, and did not take it."""
        return self._given.get(move.city, ("", 0))[0] != move.taker

    def _to_take_up(
        self, held: Mapping[str, Sequence[bytes]], moves: Sequence[Move]
    ) -> list[bytes]:
        """What nobody leads, if it is this server's by the plan, or was not taken up by then."""
        self._left = {city: self._left.get(city, self._turns) for city in held.get(NOBODY, ())}
        planned = {m.city for m in moves if m.giver == NOBODY and m.taker == self._server}
        return sorted(
            city
            for city, turn in self._left.items()
            if city in planned or self._turns - turn >= PATIENCE
        )

    async def leave(self) -> None:
        """Be forgotten by the others at once."""
        try:
            await self._backend.leave(self._server)
        except Exception as error:
            logger.warning("the others will miss this server only later: %r", error)

    async def _give(self, move: Move) -> None:
        epoch = await self._cities.step_down(move.city)
        if epoch is not None:
            self._given[move.city] = (move.taker, self._turns)
            await self._backend.hand_over(move.city, epoch, move.taker)

    async def _take(self, cities: Sequence[bytes]) -> None:
        if not cities:
            return
        files = await self._backend.genesis_files(cities)
        await asyncio.gather(*(self._cities.open(file) for file in files.values()))


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
        if not parts:
            return
        for spreader, _ in parts.values():
            spreader.stop()
        tasks = [task for _, task in parts.values()]
        await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(spreader.leave() for spreader, _ in parts.values()))
