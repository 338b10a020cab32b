"""Takes up what storage has pending, whoever received it.

The ids of all that is pending are the truth, compared as a whole with what is in the pool: what
another server received earlier can become visible later.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
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
        """Take up all that is pending before the first round is decided; nobody seals meanwhile.

        Args:
            held_since: See `PendingPool.restore`. What is held comes whether there is room or
                not.
        """
        known = self._pool.ids()
        ids, _ = await self._look(held_since)
        # Sealed by another server, if it was not heard of yet; or the list lags, and then names
        # them later.
        self._pool.drop(known.difference(ids))
        self._pool.restore(ids, held_since)

    async def run(self) -> NoReturn:
        """Take up what other servers receive, until cancelled."""
        cadence = Cadence(self._storage, self._clock)
        found, failures = True, 0
        while True:
            try:
                await cadence.rest(found=found)
                cadence.begin()
                _, found = await self._look()
                failures = 0
            except Exception as error:
                logger.warning("%s: nothing is picked up for now: %r", self._slug, error)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))

    async def _look(self, first: Collection[bytes] = ()) -> tuple[Sequence[bytes], bool]:
        """Ids of all that is pending, in arrival order, and whether there was something new."""
        # Before the list is read: it may name what a round seals while it is on its way.
        expected = self._pool.expect()
        try:
            ids = await self._storage.pending_ids()
            missing = [
                tx_id
                for tx_id in ids
                if not (tx_id in self._pool if tx_id in first else self._pool.knows(tx_id))
                and not self._pool.sealed_lately(tx_id)
            ]
            missing.sort(key=lambda tx_id: tx_id not in first)
            wanted = sum(tx_id in first for tx_id in missing)
            taken = 0
            while taken < len(missing):
                # What there is no room for is durable, and comes when there is.
                size = max(self._pool.room, wanted - taken) if self._others else PAGE
                if size <= 0:
                    break
                page = missing[taken : taken + min(size, PAGE)]
                await self._take(page, expected)
                taken += len(page)
            return ids, bool(missing)
        finally:
            self._pool.forget(expected)

    async def _take(self, tx_ids: Sequence[bytes], expected: Expected) -> None:
        raw = await self._storage.raw(tx_ids)
        envelopes = [raw[tx_id].envelope for tx_id in tx_ids if tx_id in raw]
        self._pool.pick_up(await self._opened(envelopes), expected, others=self._others)
