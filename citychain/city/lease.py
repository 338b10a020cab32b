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
LEAVE_SECONDS: Final = 5.0
"""How long who wants a lease no more waits for the answer of who was asked for it, or given it."""


async def acquire(storage: CityStorage, holder: str, ttl: timedelta, clock: Clock) -> Lease | None:
    """The city's lease for the server of this name, or ``None`` while another one has it.

    Who is cancelled does not have it: what is given nevertheless, is given back.
    """
    since = clock.monotonic()
    asking = asyncio.ensure_future(storage.acquire_lease(holder, ttl))
    try:
        # A storage goes on to the end of a call that is cancelled, and nobody would know of it.
        epoch = await asyncio.shield(asking)
    except asyncio.CancelledError:
        await _give_back(storage, asking, ttl, clock)
        raise
    return None if epoch is None else Lease(storage, epoch, ttl, clock, since)


async def _give_back(
    storage: CityStorage, asking: asyncio.Future[int | None], ttl: timedelta, clock: Clock
) -> None:
    """Release the lease that is being asked for; if the answer is late it expires."""
    try:
        await asyncio.wait({asking}, timeout=_leave_seconds(ttl))
    finally:
        asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    if asking.cancelled() or asking.exception() is not None:
        return
    if (epoch := asking.result()) is not None:
        await Lease(storage, epoch, ttl, clock, clock.monotonic()).release()


def _leave_seconds(ttl: timedelta) -> float:
    return min(LEAVE_SECONDS, ttl.total_seconds())


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

    @property
    def left(self) -> float:
        """Seconds for which it holds, if it is not renewed; from any thread."""
        return max(0.0, self._until - self._clock.monotonic())

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
            async with asyncio.timeout(_leave_seconds(self._ttl)):
                await self._storage.release_lease(self.epoch)
        except Exception as error:
            logger.warning("lease epoch %d is left to expire: %r", self.epoch, error)
