"""Spreads the cities of a shared storage over the servers that are at work on it.

Every server sees the same table of who leads what, plans the same moves, and makes those that
are its own: it hands over what it has too much of, and opens what it was handed, as soon as it
hears of it, or what a server that died has left. What it was handed and cannot open it hands back,
for anybody to lead, and is handed it again ever more rarely. No server leads more than one city
more than another; nobody stops accepting.

A storage may have servers of several networks or operators, which cannot open each other's cities.
The name of a server, ``host:pid:random@mark``, says by its mark to whom it belongs, and each server
plans with its like alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from citychain.log_fields import set_log_fields
from citychain.ports import Clock, StorageBackend, SupportsServers, knows_servers

__all__ = ["NOBODY", "Move", "OpenCities", "Spreader", "Spreading", "plan_moves", "server_name"]

logger = logging.getLogger(__name__)

NOBODY: Final = ""
"""In the table of servers: those whose leases are held by a server that is gone."""
MOVES_MAX: Final = 64
"""Cities that a server hands over, or opens, in one turn."""
PATIENCE: Final = 4
"""Turns after which a server opens what another one was to open: perhaps that one cannot."""
SHUNNED: Final = (30, 30 << 6)
"""Turns for which a server that did not take a city is not handed it again: at first, at most."""
TRIED_AGAIN: Final = (1, 256)
"""Turns after which what could not be opened is tried again: at first, at most."""
HEARD_SECONDS: Final = 0.2
"""Between two looks at what was handed over, at least: each reads who leads what."""
LEAVE_SECONDS: Final = 10.0
"""For how long a move under way may take to its end when the server stops."""

K = TypeVar("K", bound=Hashable)


def server_name(network: str, operator: bytes = b"") -> str:
    """A new name for a server of a network and an operator's key, which one that spreads no cities
    does not need."""
    mark = hashlib.sha256(b"%s\0%s" % (network.encode(), operator)).hexdigest()[:16]
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}@{mark}"


def _mark(server: str) -> str:
    return server.partition("@")[2]


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

    async def open(self, genesis_file: bytes) -> bool:
        """Open the city of a genesis file; whether this server could."""

    async def step_down(self, city: bytes) -> int | None:
        """Stop leading a city; the epoch of its lease, which is not released, or ``None`` where
        this server does not lead it."""

    def handed_over(self, city: bytes) -> None:
        """The storage keeps the lease for another server: lead again if that one refuses it."""


class _Later(Generic[K]):
    """What was tried, and is tried again later: each time after twice as many turns.

    Args:
        pauses: Turns, at first and at most.
    """

    def __init__(self, pauses: tuple[int, int]) -> None:
        self._first, self._most = pauses
        self._tried: dict[K, tuple[int, int]] = {}
        """How often, and in which turn it is due."""

    def __iter__(self) -> Iterator[K]:
        return iter(self._tried)

    def __contains__(self, what: object) -> bool:
        return what in self._tried

    def tried(self, what: K, turn: int) -> None:
        """It was tried in this turn."""
        times = self.times(what)
        self._tried[what] = times + 1, turn + min(self._first << min(times, 32), self._most)

    def times(self, what: K) -> int:
        """How often it was tried."""
        return self._tried.get(what, (0, 0))[0]

    def is_due(self, what: K, turn: int) -> bool:
        """Whether it may be tried in this turn."""
        return self._tried.get(what, (0, turn))[1] <= turn

    def keep(self, wanted: Callable[[K], bool]) -> None:
        """Forget all else."""
        self._tried = {what: tried for what, tried in self._tried.items() if wanted(what)}


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
        self._taken: dict[tuple[bytes, str], int] = {}
        """Since when another server has what it was handed."""
        self._given = _Later[tuple[bytes, str]](SHUNNED)
        """Cities that were handed over, each with its taker, and not seen to stay there."""
        self._failed = _Later[bytes](TRIED_AGAIN)
        """Cities that this server could not open."""
        self._opening: set[bytes] = set()

    async def run(self) -> None:
        """Take turns until `stop`."""
        set_log_fields()  # It begins with the city that is opened first, and is of none.
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
            # What is handed over meanwhile is heard of below.
            await self._clock.sleep(HEARD_SECONDS)
            try:
                if await self._backend.handed(self._server, self._lease):
                    return
            except Exception as error:
                logger.warning("it is not heard of what is handed over for now: %r", error)
                await self._rest()

    async def _held(self) -> dict[str, Sequence[bytes]]:
        """Who leads what, of the servers that are this one's like; cities of others are left out
        as long as those live."""
        held = await self._backend.servers(self._lease)
        mark = _mark(self._server)
        return {name: held[name] for name in held if name == NOBODY or _mark(name) == mark}

    async def _take_what_was_handed(self) -> None:
        """Open at once what this server is to lead: nobody does until then."""
        held = await self._held()
        await self._take(self._to_open(sorted(held.get(self._server, ()))))

    async def turn(self) -> None:
        """Look at all servers, and make the moves that are this one's."""
        self._turns += 1
        held = await self._held()
        if self._server not in held:
            return  # It has not beaten yet.
        mine, left = held[self._server], held.get(NOBODY, ())
        there = {*mine, *left}
        self._failed.keep(lambda city: city in there)
        self._forget_what_was_taken(held)
        # Not with what this server cannot open: that may never be taken up, and is no load.
        moves = plan_moves({**held, NOBODY: [city for city in left if city not in self._failed]})
        given = [
            move
            for move in moves
            if move.giver == self._server
            and self._given.is_due((move.city, move.taker), self._turns)
        ]
        # What it was handed is among what it holds.
        closed = self._to_open([*sorted(mine), *self._to_take_up(left, moves)])
        refused = self._not_to_open(mine)
        async with asyncio.TaskGroup() as group:
            for move in given[:MOVES_MAX]:
                group.create_task(self._give(move))
            group.create_task(self._take(closed))
            for city in refused:
                group.create_task(self._hand_back(city))

    def _forget_what_was_taken(self, held: Mapping[str, Sequence[bytes]]) -> None:
        """Whoever has a city for longer than one that it was handed is kept for it has taken it."""
        takers = {taker for _, taker in self._given}
        has = {server: set(cities) for server, cities in held.items() if server in takers}
        self._given.keep(lambda given: given[1] in has)
        self._taken = {
            (city, taker): self._taken.get((city, taker), self._turns)
            for city, taker in self._given
            if city in has[taker]
        }
        self._given.keep(
            lambda given: self._turns - self._taken.get(given, self._turns) <= 2 * PATIENCE
        )

    def _to_open(self, cities: Sequence[bytes]) -> list[bytes]:
        """Those that are not open and may be tried now; those that failed least often first, so
        that all have their turn."""
        opened = self._cities.opened()
        closed = [
            city
            for city in cities
            if city not in opened
            and city not in self._opening
            and self._failed.is_due(city, self._turns)
        ]
        return sorted(closed, key=self._failed.times)[:MOVES_MAX]

    def _not_to_open(self, mine: Sequence[bytes]) -> list[bytes]:
        """Of what this server is to lead, what could not be opened and is not to be tried now."""
        opened = self._cities.opened()
        failed = [city for city in mine if not self._failed.is_due(city, self._turns)]
        return [city for city in failed if city not in opened and city not in self._opening]

    def _to_take_up(self, left: Sequence[bytes], moves: Sequence[Move]) -> list[bytes]:
        """What nobody leads, if it is this server's by the plan, or was not taken up by then."""
        self._left = {city: self._left.get(city, self._turns) for city in left}
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
            self._given.tried((move.city, move.taker), self._turns)
            await self._backend.hand_over(move.city, epoch, move.taker)
            self._cities.handed_over(move.city)

    async def _hand_back(self, city: bytes) -> None:
        """Let another server lead what this one cannot open, if it was handed to this one."""
        try:
            await self._backend.hand_back(city, self._server)
        except Exception as error:
            # The next turn does it, if nobody has taken the lease by then.
            logger.warning("what cannot be opened is handed back only later: %r", error)

    async def _take(self, cities: Sequence[bytes]) -> None:
        if not cities:
            return
        self._opening.update(cities)
        try:
            files = await self._backend.genesis_files(cities)
            await asyncio.gather(*(self._open(city, files.get(city)) for city in cities))
        finally:
            self._opening.difference_update(cities)

    async def _open(self, city: bytes, genesis_file: bytes | None) -> None:
        try:
            opened = genesis_file is not None and await self._cities.open(genesis_file)
        except Exception:
            logger.exception("a city of the others cannot be opened: %s", city.hex())
            opened = False
        if not opened:
            self._failed.tried(city, self._turns)
            await self._hand_back(city)


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
