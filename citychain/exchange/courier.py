"""Carries a city's remittances to the cities that they are for, and their answers home.

The ledgers decide; a courier only brings transactions. It reads the city's certified rounds: a
remittance in its outbox is carried until a round says that it is settled. For each other city
there is a lane of its own (`citychain.exchange.lane`), so that one that is down delays nobody
else's.

So many remittances to a city are in memory and no more. Those that come when there is no room are
left in the ledger, and the rounds are read again from the first of them on when some are settled:
the oldest go first. Where the reading stands is a note, which may be old.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from citychain.exchange.lane import Lane
from citychain.exchange.neighbour import Neighbour, Sign, closing
from citychain.handler import CityHandler
from citychain.notes import COURIER, courier_bytes, decode_courier
from citychain.ports import Clock, Compute, StoredRound

__all__ = ["Courier"]

WAITING_MAX: Final = 4_096
"""Remittances to one city that are in memory, some 2 KB each."""
KEPT_MAX: Final = 16_384
"""Remittances in the note; with more under way, it stays where it is."""
ROUNDS_A_NOTE: Final = 1_000
"""The note is kept after so many rounds without a remittance, too."""
ROUNDS_A_PAGE: Final = 64


@dataclass(slots=True)
class _Waiting:
    """Remittances to one city that are not settled."""

    items: dict[bytes, Outgoing] = field(default_factory=dict)
    """The oldest of them."""
    left_from: int = 0
    """A round of which, and of those after it, some may be left in the ledger; 0 for none."""


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
        self._slug = slug
        self._home = home
        self._compute = compute
        self._lanes = {
            neighbour.genesis.id: Lane(slug, home, neighbour, sign, compute, clock)
            for neighbour in neighbours
        }
        self._position = 0
        self._kept = 0
        self._waiting: defaultdict[bytes, _Waiting] = defaultdict(_Waiting)

    def pending(self, city: bytes) -> int:
        """Number of remittances to a city that are not settled, as far as they are in memory."""
        return len(self._waiting[city].items) if city in self._waiting else 0

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
            async with closing(
                self._home.stream_rounds(self._position + 1, sealed=False)
            ) as rounds:
                async for stored in rounds:
                    await self._read(stored)

    async def _resume(self) -> None:
        note = (await self._home.storage.notes(COURIER)).get(COURIER)
        if note is None:
            return
        self._position, tx_ids = decode_courier(note)
        self._kept = self._position
        for item in await self._in_escrow(tx_ids):
            if not self._take(item):
                self._leave(item.city, 1)

    async def _in_escrow(self, tx_ids: Sequence[bytes]) -> list[Outgoing]:
        """Those that the ledger still has in escrow."""
        names = {outbox_object(tx_id): tx_id for tx_id in tx_ids}
        states = await self._home.storage.objects(list(names)) if names else {}
        if missing := names.keys() - states.keys():
            raise StorageError(f"{min(missing)} is gone")
        items = [decode_outbox(tx_id, states[name].value) for name, tx_id in names.items()]
        return [item for item in items if item.state is RemittanceState.PENDING]

    def _take(self, item: Outgoing) -> bool:
        """Carry one; false if there is no room."""
        items = self._waiting[item.city].items
        if item.tx_id not in items:
            if len(items) >= WAITING_MAX:
                return False
            items[item.tx_id] = item
            if (lane := self._lanes.get(item.city)) is not None:
                lane.add(item)
        return True

    def _leave(self, city: bytes, round: int) -> None:
        """Leave what was sent to a city in a round in the ledger, for now."""
        waiting = self._waiting[city]
        waiting.left_from = min(waiting.left_from or round, round)

    async def _read(self, stored: StoredRound) -> None:
        """See what a certified round sends and settles."""
        outgoing = await self._outgoing(stored)
        sent = [item.tx_id for item in outgoing if item.state is RemittanceState.PENDING]
        for item in await self._in_escrow(sent):
            # Once some are left, so are all that are younger: the oldest go first.
            if self._waiting[item.city].left_from or not self._take(item):
                self._leave(item.city, stored.round)
        for item in outgoing:
            if item.state is not RemittanceState.PENDING:
                if item.city in self._waiting:
                    self._waiting[item.city].items.pop(item.tx_id, None)
                if (lane := self._lanes.get(item.city)) is not None:
                    lane.settled(item.tx_id)
        self._position = stored.round
        for city, waiting in list(self._waiting.items()):
            if waiting.left_from and len(waiting.items) <= WAITING_MAX // 2:
                await self._read_again(city, waiting)
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

    async def _read_again(self, city: bytes, waiting: _Waiting) -> None:
        """Take what was left of a city's, until there is no room any more."""
        while waiting.left_from <= self._position:
            first = waiting.left_from
            count = min(ROUNDS_A_PAGE, self._position + 1 - first)
            for stored in await self._home.storage.rounds(first, count):
                sent = [item.tx_id for item in await self._outgoing(stored) if item.city == city]
                if not all(map(self._take, await self._in_escrow(sent))):
                    return
                waiting.left_from = stored.round + 1
        waiting.left_from = 0

    async def _keep(self) -> None:
        tx_ids = [tx_id for waiting in self._waiting.values() for tx_id in waiting.items]
        if len(tx_ids) > KEPT_MAX:
            return
        left = [waiting.left_from for waiting in self._waiting.values() if waiting.left_from]
        position = min([self._position, *(round - 1 for round in left)])
        await self._home.storage.keep({COURIER: courier_bytes(position, tx_ids)})
        self._kept = self._position
