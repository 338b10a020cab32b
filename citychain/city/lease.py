"""The right to seal a city's rounds, for as long as it is renewed.

Nothing depends on it but peace: storage takes no round of an older epoch than the newest. A server
that was away for longer than a lease lasts stops by itself, before it is told.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final, NoReturn

from citychain.errors import LeaseLost
from citychain.ports import CityStorage, Clock

__all__ = ["Lease", "acquire"]

logger = logging.getLogger(__name__)

RENEWALS: Final = 3
"""Renewals in the time that a lease holds."""
RETRIES: Final = 12
"""Attempts in that time while renewals fail."""


async def acquire(storage: CityStorage, holder: str, ttl: timedelta, clock: Clock) -> Lease | None:
    """The city's lease for the server of this name, or ``None`` while another one has it."""
    since = clock.monotonic()
    epoch = await storage.acquire_lease(holder, ttl)
    return None if epoch is None else Lease(storage, epoch, ttl, clock, since)


class Lease:
    """One city's lease, in this server's hands.

    Args:
        since: When it was asked for, by the monotonic clock: what comes after may have taken long.
    """

    def __init__(
        self, storage: CityStorage, epoch: int, ttl: timedelta, clock: Clock, since: float
    ) -> None:
        self._storage = storage
        self.epoch = epoch
        """Its fencing epoch."""
        self._ttl = ttl
        self._clock = clock
        self._until = since + ttl.total_seconds()

    async def renew(self) -> NoReturn:
        """Renew it again and again, until cancelled.

        Raises:
            LeaseLost: another server has the city.
        """
        pause = self._ttl / RENEWALS
        while True:
            await self._clock.sleep(pause.total_seconds())
            since = self._clock.monotonic()
            try:
                await self._storage.renew_lease(self.epoch, self._ttl)
            except LeaseLost:
                raise
            except Exception as error:
                logger.warning("lease epoch %d was not renewed: %r", self.epoch, error)
                pause = self._ttl / RETRIES
            else:
                self._until = since + self._ttl.total_seconds()
                pause = self._ttl / RENEWALS

    async def expired(self) -> NoReturn:
        """Wait until it was not renewed for as long as it holds.

        Raises:
            LeaseLost: always, then.
        """
        while (left := self._until - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        raise LeaseLost(self.epoch)

    async def release(self) -> None:
        """Let another server have it at once; if that fails it expires."""
        try:
            async with asyncio.timeout(self._ttl.total_seconds()):
                await self._storage.release_lease(self.epoch)
        except Exception as error:
            logger.warning("lease epoch %d is left to expire: %r", self.epoch, error)
