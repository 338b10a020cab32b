"""Takes up what storage has pending, whoever received it.

The ids of what is pending are the truth, compared from the oldest on with what is in the pool: what
another server received earlier can become visible later. They are read as far as there is room for
what they name; the rest is durable, and is among the oldest when those before it are sealed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NoReturn

from citychain._native.transactions import Transaction
from citychain.city.cadence import Cadence
from citychain.city.pool import Expected, PendingPool
from citychain.city.retry import pause_seconds
from citychain.ports import CityStorage, Clock

__all__ = ["PickUp"]

logger = logging.getLogger(__name__)

PAGE: Final = 1_000
"""Transactions read at a time."""


class PickUp:
    """Brings one city's pending transactions into its pool.

    Args:
        opened: Opens transactions in their stored form.
        others: Other servers write to the storage too.
    """

    def __init__(
        self,
        *,
        slug: str,
        storage: CityStorage,
        pool: PendingPool,
        clock: Clock,
        opened: Callable[[Sequence[bytes]], Awaitable[list[Transaction]]],
        others: bool,
    ) -> None:
        self._slug = slug
        self._storage = storage
        self._pool = pool
        self._clock = clock
        self._opened = opened
        self._others = others

    async def begin(self, held_since: Mapping[bytes, int]) -> None:
        """Take up what is pending before the first round is decided; nobody seals meanwhile.

        Args:
            held_since: See `PendingPool.restore`; none of them is sealed. What is held comes
                whether there is room or not, and whether the list goes so far or not.
        """
        known = self._pool.ids()
        expected = self._pool.expect()
        try:
            held = [tx_id for tx_id in held_since if tx_id not in self._pool]
            for start in range(0, len(held), PAGE):
                await self._take(held[start : start + PAGE], expected)
            ids, _ = await self._look(expected)
        finally:
            self._pool.forget(expected)
        # Sealed by another server, if it was not heard of yet; or younger than what there is room
        # for, or the list lags: then it names them later.
        self._pool.drop(known.difference(ids, held_since))
        self._pool.restore(ids, held_since)

    async def run(self) -> NoReturn:
        """Take up what other servers receive, until cancelled."""
        cadence = Cadence(self._storage, self._clock)
        found, failures = True, 0
        while True:
            try:
                await cadence.rest(found=found)
                cadence.begin()
                found = await self._look_for_more()
                failures = 0
            except Exception as error:
                logger.warning("%s: nothing is picked up for now: %r", self._slug, error)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))

    async def _look_for_more(self) -> bool:
        """Whether there was something new, or no room for it."""
        if not self._room:
            return True
        # Before the list is read: it may name what a round seals while it is on its way.
        expected = self._pool.expect()
        try:
            _, missing = await self._look(expected)
        finally:
            self._pool.forget(expected)
        return bool(missing)

    async def _look(self, expected: Expected) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Take up what is new; gives what `_oldest` does."""
        ids, missing = await self._oldest()
        taken = 0
        while taken < len(missing) and (room := self._room):
            page = missing[taken : taken + min(room, PAGE)]
            await self._take(page, expected)
            taken += len(page)
        return ids, missing

    @property
    def _room(self) -> int:
        """For how many more there is room; for all, where this server received them."""
        return self._pool.room if self._others else PAGE

    async def _oldest(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Ids of what is pending, from the oldest on as far as there is room for it, and which of
        them are not here."""
        room = self._room
        limit = max(len(self._pool) + room, 1) if self._others else None
        while True:
            ids = await self._storage.pending_ids(limit)
            missing = [
                tx_id
                for tx_id in ids
                if not self._pool.knows(tx_id) and not self._pool.sealed_lately(tx_id)
            ]
            if limit is None or len(ids) < limit or len(missing) >= room:
                return ids, missing
            # Many are known that are not in the pool: on their way there, or sealed a moment ago.
            limit *= 2

    async def _take(self, tx_ids: Sequence[bytes], expected: Expected) -> None:
        raw = await self._storage.raw(tx_ids)
        envelopes = [raw[tx_id].envelope for tx_id in tx_ids if tx_id in raw]
        self._pool.pick_up(await self._opened(envelopes), expected, others=self._others)
