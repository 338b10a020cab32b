"""Carries a city's remittances to the cities that they are for, and their answers home.

The ledgers decide; a courier only brings transactions. It reads the city's certified rounds: a
remittance in its outbox is carried until a round says that it is settled. For each other city
there is a lane of its own (`citychain.exchange.lane`), so that one that is down delays nobody
else's.

What of them is in memory, and what waits in the ledger until there is room or it is time to try
again, is in `citychain.exchange.waiting`. Where the reading stands is a note, which may be old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from citychain import record
from citychain.between_cities import (
    OUTBOX,
    Outgoing,
    RemittanceState,
    decode_outbox,
    outbox_object,
)
from citychain.errors import StorageError
from citychain.exchange.lane import Lane, either
from citychain.exchange.neighbour import Neighbour, Sign, closing
from citychain.exchange.waiting import Place, Waiting
from citychain.handler import CityHandler
from citychain.notes import COURIER, courier_bytes, decode_courier
from citychain.ports import Clock, Compute, StoredRound

__all__ = ["Courier"]

KEPT_MAX: Final = 16_384
"""Remittances in the note; a city's that do not fit are read from the ledger again."""
ROUNDS_A_NOTE: Final = 1_000
"""The note is kept after so many rounds without a remittance, too."""
ROUNDS_A_PAGE: Final = 64


class Courier:
    """Carries the remittances of one city; `run` it where the city is led.

    Args:
        home: The city.
        sign: Signs as the operator, for any city.
    """

    def __init__(
        self,
        *,
        slug: str,
        home: CityHandler,
        neighbours: Sequence[Neighbour],
        sign: Sign,
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._home = home
        self._compute = compute
        self._clock = clock
        self._waiting = {neighbour.genesis.id: Waiting() for neighbour in neighbours}
        self._lanes = {
            (city := neighbour.genesis.id): Lane(
                slug, home, neighbour, sign, compute, clock, self._waiting[city].changed.set
            )
            for neighbour in neighbours
        }
        self._reading = asyncio.Lock()
        """Held from where the ledger is asked what is in escrow until that is taken: what is
        settled later a later round tells."""
        self._position = 0
        self._kept = 0

    def pending(self, city: bytes) -> int:
        """Number of remittances to a city that are not settled, as far as they are in memory."""
        return len(self._waiting.get(city, ()))

    @property
    def all_pending(self) -> int:
        """Those to all cities."""
        return sum(map(len, self._waiting.values()))

    def trouble(self, city: bytes) -> str:
        """What keeps a lane from going on, for people; empty where nothing does."""
        lane = self._lanes.get(city)
        return lane.trouble if lane is not None else ""

    async def run(self) -> None:
        """Work until cancelled; ends by an exception only where the city cannot be read."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes.values():
                group.create_task(lane.run())
            await self._resume()
            for city in self._lanes:
                group.create_task(self._tend(city))
            async with closing(
                self._home.stream_rounds(self._position + 1, sealed=False)
            ) as rounds:
                async for stored in rounds:
                    async with self._reading:
                        await self._read(stored)

    async def _resume(self) -> None:
        note = (await self._home.storage.notes(COURIER)).get(COURIER)
        if note is None:
            return
        self._position, cities, tx_ids = decode_courier(note)
        self._kept = self._position
        for city in self._waiting.keys() - set(cities):
            # A peer since: what was sent to it before is in the ledger alone.
            self._waiting[city].leave(Place(1, 0))
        sealed = await self._home.storage.find(tx_ids) if tx_ids else {}
        for item in await self._in_escrow(tx_ids):
            if item.city in self._lanes:
                round = sealed[item.tx_id].round
                if not self._take(item, round):
                    self._waiting[item.city].leave(Place(round, 0))

    async def _in_escrow(self, tx_ids: Sequence[bytes]) -> list[Outgoing]:
        """Those that the ledger still has in escrow, in their order."""
        names = {outbox_object(tx_id): tx_id for tx_id in tx_ids}
        states = await self._home.storage.objects(list(names)) if names else {}
        if missing := names.keys() - states.keys():
            raise StorageError(f"{min(missing)} is gone")
        items = [decode_outbox(tx_id, states[name].value) for name, tx_id in names.items()]
        return [item for item in items if item.state is RemittanceState.PENDING]

    def _take(self, item: Outgoing, round: int) -> bool:
        """Carry one; false if there is no room."""
        taken = self._waiting[item.city].take(item.tx_id, round)
        if taken:
            self._lanes[item.city].add(item)
        return taken

    def _take_again(self, item: Outgoing, round: int) -> bool:
        """Carry one that was tried in vain before; false if there is no room."""
        taken = self._waiting[item.city].take_again(item.tx_id, round)
        if taken:
            self._lanes[item.city].add(item, again=True)
        return taken

    async def _read(self, stored: StoredRound) -> None:
        """See what a certified round sends and settles."""
        outgoing = await self._outgoing(stored)
        for city in {item.city for item in outgoing} & self._waiting.keys():
            # Once some are left, so are all that are younger: the oldest go first.
            if (waiting := self._waiting[city]).left is None:
                first = Place(stored.round, 0)
                after = await self._take_those(_sent(outgoing, city), first, self._take)
                if after.round == stored.round:
                    waiting.leave(after)
        for item in outgoing:
            if item.state is not RemittanceState.PENDING and item.city in self._waiting:
                self._waiting[item.city].settled(item.tx_id)
                self._lanes[item.city].settled(item.tx_id)
        self._position = stored.round
        if outgoing or self._position - self._kept >= ROUNDS_A_NOTE:
            await self._keep()

    async def _outgoing(self, stored: StoredRound) -> Sequence[Outgoing]:
        """Remittances that a round writes to the outbox, as it leaves them."""
        if OUTBOX.encode() not in stored.record:
            return ()
        decoded = await self._compute(record.decode, stored.record)
        return [
            decode_outbox(bytes.fromhex(write.object.removeprefix(OUTBOX)), write.value)
            for write in decoded.writes
            if write.object.startswith(OUTBOX)
        ]

    async def _take_those(
        self, sent: Sequence[Outgoing], first: Place, take: Callable[[Outgoing, int], bool]
    ) -> Place:
        """Take those of a round that are in escrow, from a place on, until there is no room;
        returns the place after them."""
        of_those = sent[first.past :]
        pending = {item.tx_id for item in await self._in_escrow([it.tx_id for it in of_those])}
        for index, item in enumerate(of_those, first.past):
            if item.tx_id in pending and not take(item, first.round):
                return Place(first.round, index)
        return Place(first.round + 1, 0)

    async def _tend(self, city: bytes) -> None:
        """Take what was left of a city's where there is room, and try anew what is parked."""
        waiting = self._waiting[city]
        while True:
            waiting.changed.clear()
            now = self._clock.monotonic()
            await self._fill(city, now)
            await either(waiting.changed.wait(), waiting.seconds(now), self._clock)

    async def _fill(self, city: bytes, now: float) -> None:
        waiting, lane = self._waiting[city], self._lanes[city]
        for tx_id in waiting.let_go(lane.in_vain(), now):
            lane.settled(tx_id)
        while waiting.left is not None and waiting.reads_on:
            async with self._reading:
                place = await self._page(city, waiting.left, self._position, self._take)
                waiting.left = place if place.round <= self._position else None
        while (part := waiting.sweep(now)) is not None:
            async with self._reading:
                waiting.swept(await self._page(city, *part, self._take_again))

    async def _page(
        self, city: bytes, place: Place, last: int, take: Callable[[Outgoing, int], bool]
    ) -> Place:
        """Take what some rounds from a place on have sent to a city; returns the place after."""
        count = min(ROUNDS_A_PAGE, last + 1 - place.round)
        for stored in await self._home.storage.rounds(place.round, count) if count > 0 else ():
            place = await self._take_those(_sent(await self._outgoing(stored), city), place, take)
            if place.round == stored.round:
                break
        return place

    async def _keep(self) -> None:
        """Keep which are under way, and the round up to which all others are settled."""
        position, tx_ids = self._position, list[bytes]()
        for waiting in self._waiting.values():
            if len(tx_ids) + len(waiting.carried) <= KEPT_MAX:
                tx_ids += waiting.carried
            else:
                position = min(position, min(waiting.carried.values()) - 1)
            if waiting.left is not None:
                position = min(position, waiting.left.round - 1)
            if waiting.parked is not None:
                position = min(position, waiting.parked[0] - 1)
        note = courier_bytes(position, list(self._waiting), tx_ids)
        await self._home.storage.keep({COURIER: note})
        self._kept = self._position


def _sent(outgoing: Iterable[Outgoing], city: bytes) -> list[Outgoing]:
    """Those that a round sends to a city, in the order of its record."""
    return [it for it in outgoing if it.city == city and it.state is RemittanceState.PENDING]
