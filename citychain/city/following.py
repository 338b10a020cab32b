"""What a server does for a city while another one seals its rounds.

It tells its watchers of every round that storage has, and asks for the lease again and again.
Whatever fails is tried again: the city goes on elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final, NoReturn

from citychain.city.cadence import Cadence
from citychain.city.lease import Lease, acquire
from citychain.city.pool import PendingPool
from citychain.city.retry import pause_seconds
from citychain.city.standing import Standing, head_after
from citychain.city.state import LedgerState
from citychain.errors import StorageError
from citychain.ports import CityStorage, Clock
from citychain.types import Head

__all__ = ["Follower"]

logger = logging.getLogger(__name__)

PAGE: Final = 4
"""Rounds read at a time: a record may have 8 MiB."""
ASK_SECONDS: Final = 0.25
"""Between two attempts to get the lease, at most; and a tenth of its time."""
PAUSE_SECONDS: Final = 1.0
"""Longest, while the storage fails: when it is back somebody is to lead soon."""


class Follower:
    """Follows one city.

    Args:
        holder: Names this server in the city's lease.
        ttl: How long the lease holds.
    """

    def __init__(
        self,
        *,
        slug: str,
        storage: CityStorage,
        state: LedgerState,
        standing: Standing,
        pool: PendingPool,
        clock: Clock,
        holder: str,
        ttl: timedelta,
    ) -> None:
        self._slug = slug
        self._storage = storage
        self._state = state
        self._standing = standing
        self._pool = pool
        self._clock = clock
        self._holder = holder
        self._ttl = ttl
        self._pause = min(ttl.total_seconds() / 10, ASK_SECONDS)
        self._stands_back = False
        self._not_before = clock.monotonic()

    def stand_back(self) -> None:
        """Ask for the lease no more: this server is closing."""
        self._stands_back = True

    def give_way(self, *, named: bool) -> None:
        """Ask for the lease later: another server is to have it.

        Args:
            named: Which one is decided: it has as long as a lease holds. Else any other that
                asks in time.
        """
        seconds = self._ttl.total_seconds() if named else 2 * self._pause
        self._not_before = self._clock.monotonic() + seconds

    def ask_again(self) -> None:
        """Undo `give_way`: it is the storage that keeps the lease for whom it is meant."""
        self._not_before = self._clock.monotonic()

    def try_later(self, failures: int) -> None:
        """Ask for the lease later, and another server may be first: so many terms in a row have
        failed."""
        seconds = max(2 * self._pause, pause_seconds(failures))
        self._not_before = self._clock.monotonic() + seconds

    async def until_leading(self) -> Lease:
        """Follow until this server has the lease."""
        following = asyncio.create_task(self._follow())
        try:
            lease = await self._lease()
        except BaseException:
            await _cancelled(following)
            raise
        try:
            await _cancelled(following)
        except asyncio.CancelledError:
            await lease.release()
            raise
        return lease

    async def _lease(self) -> Lease:
        failures = 0
        while True:
            if not self._stands_back and self._clock.monotonic() >= self._not_before:
                try:
                    lease = await acquire(self._storage, self._holder, self._ttl, self._clock)
                    if lease is not None and not self._stands_back:
                        return lease
                    if lease is not None:
                        await lease.release()
                    failures = 0
                except Exception as error:
                    logger.warning("%s: the lease could not be asked for: %r", self._slug, error)
                    failures += 1
            await self._clock.sleep(_pause(failures) if failures else self._pause)

    async def _follow(self) -> NoReturn:
        cadence = Cadence(self._storage, self._clock, together=True)
        failures = 0
        while True:
            try:
                cadence.begin()
                found = await self.catch_up(await self._storage.head())
                await cadence.rest(found=found or bool(len(self._pool)))
                failures = 0
            except Exception as error:
                logger.warning("%s: rounds cannot be followed for now: %r", self._slug, error)
                failures += 1
                await self._clock.sleep(_pause(failures))

    async def catch_up(self, head: Head) -> bool:
        """Tell of all rounds, up to where storage stands, that were not told of yet.

        Returns:
            Whether there were any.
        """
        standing = self._standing
        self._state.expect(head.round)
        before = (standing.head.round, standing.certified_round)
        for round in range(
            standing.certified_round + 1, min(head.certified_round, standing.head.round) + 1
        ):
            standing.approved(round, await self._state.round_nodes(round))
        while standing.head.round < head.round:
            await self._read_on(head)
        return before != (standing.head.round, standing.certified_round)

    async def _read_on(self, head: Head) -> None:
        first = self._standing.head.round + 1
        stored_rounds = await self._storage.rounds(first, min(PAGE, head.round + 1 - first))
        if not stored_rounds or stored_rounds[0].round != first:
            raise StorageError(f"round {first} of {head.round} is not there")
        for stored in stored_rounds:
            # Nothing is told of a round that is visible in part: it is looked at again.
            nodes = await self._state.nodes_of(stored)
            self._pool.sealed([node.tx_id for node in nodes])
            self._standing.sealed(head_after(stored, head.epoch), nodes)
            if stored.round <= head.certified_round:
                self._standing.approved(stored.round, nodes)


async def _cancelled(task: asyncio.Task[NoReturn]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _pause(failures: int) -> float:
    return pause_seconds(failures, longest=PAUSE_SECONDS)
