"""Gets certificates for sealed rounds.

Several rounds are being approved at a time; they are certified and told about
in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from citychain import checkpoint, notes
from citychain.city.metering import CityMeter
from citychain.city.retry import pause_seconds
from citychain.errors import ConsensusError
from citychain.ports import CityStorage, Clock, ConsensusStep, StoredRound
from citychain.types import Certificate

__all__ = ["Approver"]

logger = logging.getLogger(__name__)

ROUNDS_MAX: Final = 8
"""Rounds sealed and not yet approved; further ones wait, and new work is refused."""
STALLED_SECONDS: Final = 10.0
"""Longer than a busy city's rounds wait for each other."""


class Approver:
    """Approves one city's rounds.

    Args:
        meter: Told how long a certificate takes to come, and to be stored.
        approved: Awaited with each round, in order, once its certificate is stored.
    """

    def __init__(
        self,
        *,
        slug: str,
        storage: CityStorage,
        consensus: ConsensusStep,
        clock: Clock,
        meter: CityMeter,
        approved: Callable[[StoredRound], Awaitable[None]],
    ) -> None:
        self._slug = slug
        self._storage = storage
        self._consensus = consensus
        self._clock = clock
        self._meter = meter
        self._approved = approved
        self._room = asyncio.Semaphore(ROUNDS_MAX)
        self._order = asyncio.Lock()
        self._queue: asyncio.Queue[tuple[StoredRound, asyncio.Task[Certificate]]] = asyncio.Queue()
        self._tasks: asyncio.TaskGroup | None = None
        self._waiting_since: float | None = None
        """Since when a round waits for room."""

    @property
    def full(self) -> bool:
        """Whether the next round would wait for one before it to be approved."""
        return self._room.locked()

    @property
    def stalled(self) -> bool:
        """Whether a round has waited so long for one before it to be approved that more work
        would only pile up."""
        since = self._waiting_since
        return since is not None and self._clock.monotonic() - since > STALLED_SECONDS

    async def add(self, round: StoredRound) -> None:
        """Have a committed round approved; waits while too many are, and for those before."""
        async with self._order:
            await self._add(round)

    async def _add(self, round: StoredRound) -> None:
        assert self._tasks is not None
        self._waiting_since = self._clock.monotonic()
        await self._room.acquire()
        self._waiting_since = None
        self._queue.put_nowait((round, self._tasks.create_task(self._approve(round))))

    async def run(self, backlog: Sequence[StoredRound]) -> None:
        """Certify rounds until cancelled, those of ``backlog`` first."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._publish())
            # A round sealed meanwhile must not come between.
            async with self._order:
                for round in backlog:
                    await self._add(round)

    async def drain(self) -> None:
        """Wait until every round added so far is approved."""
        await self._queue.join()

    async def _publish(self) -> None:
        while True:
            round, task = await self._queue.get()
            certificate = await task
            await self._certify(round, certificate)
            await self._approved(replace(round, certificate=certificate))
            self._room.release()
            self._queue.task_done()

    async def _approve(self, round: StoredRound) -> Certificate:
        failures = 0
        while True:
            try:
                with self._meter.timed("approve"):
                    certificate = await self._consensus.approve(round)
                    if (certificate.round, certificate.checkpoint_hash) != (
                        round.round,
                        round.checkpoint_hash,
                    ):
                        raise ConsensusError("the certificate is for another round")
                return certificate
            except Exception:
                logger.exception("%s: round %d was not approved", self._slug, round.round)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))

    async def _certify(self, round: StoredRound, certificate: Certificate) -> None:
        elects = checkpoint.decode(round.checkpoint).next_committee is not None
        failures = 0
        while True:
            try:
                with self._meter.timed("certify"):
                    # First, since what is certified must be found by who makes proofs of it.
                    if elects:
                        handover = notes.round_name(notes.HANDOVER, round.round)
                        await self._storage.keep({handover: b""})
                    await self._storage.certify([certificate])
            except Exception as error:
                logger.warning(
                    "%s: certificate of round %d was not stored: %r",
                    self._slug,
                    certificate.round,
                    error,
                )
                failures += 1
                await self._clock.sleep(pause_seconds(failures))
            else:
                return
