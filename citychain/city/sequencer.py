"""Closes rounds: takes candidates, has them judged, linked and sealed, commits.

One round after the other. A round that fails is tried again from the same
candidates; nothing of it was shown to anybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from citychain import checkpoint, record
from citychain.city.metering import CityMeter
from citychain.city.pool import Candidates, PendingPool
from citychain.city.replay import Replay
from citychain.city.retry import pause_seconds
from citychain.city.sealing import decide_round, seal_round, stored_round
from citychain.city.standing import Standing
from citychain.city.state import LedgerState
from citychain.config import PacerSettings, get_dynamic_batch_interval
from citychain.crypto import merkle
from citychain.errors import LeaseLost, RoundTaken
from citychain.ports import (
    CityStorage,
    Clock,
    Compute,
    ConsensusStep,
    DagHandler,
    RoundContext,
)
from citychain.types import Head, SealedRound

__all__ = ["Sequencer"]

logger = logging.getLogger(__name__)


class Sequencer:
    """Closes one city's rounds, in one term: where the ledger stands is `standing`'s to know,
    and nobody else may change it meanwhile.

    Args:
        operator: Id of the operator's key.
        epoch: Of the city's lease.
        standing: At the latest round that storage has.
        replay: On ``state``, with parts of its own: checks each round for the representatives
            inside this server before it is committed.
        meter: Told how long each step of a round takes.
        committed: Told of each round once it is durable.
        sealed: Awaited with each such round; may wait, and then the next round does.
    """

    def __init__(
        self,
        *,
        slug: str,
        genesis: bytes,
        operator: bytes,
        epoch: int,
        storage: CityStorage,
        rule: str,
        dag: DagHandler,
        consensus: ConsensusStep,
        pool: PendingPool,
        state: LedgerState,
        standing: Standing,
        replay: Replay | None,
        pacer: PacerSettings,
        compute: Compute,
        clock: Clock,
        meter: CityMeter,
        committed: Callable[[SealedRound], None],
        sealed: Callable[[SealedRound], Awaitable[None]],
    ) -> None:
        self._slug = slug
        self._genesis = genesis
        self._operator = operator
        self._epoch = epoch
        self._storage = storage
        self._rule = rule
        self._dag = dag
        self._consensus = consensus
        self._pool = pool
        self._state = state
        self._standing = standing
        self._replay = replay
        self._pacer = pacer
        self._compute = compute
        self._clock = clock
        self._meter = meter
        self._committed = committed
        self._sealed = sealed
        head = standing.head
        self._tree = merkle.Tree(head.size, head.peaks)
        self._previous_poh = checkpoint.decode(head.checkpoint).poh.hash if head.round else genesis
        self._interval = timedelta(seconds=pacer.min_seconds)
        self._closed_at = clock.monotonic() - pacer.max_seconds
        self._draining = asyncio.Event()
        self._deciding = asyncio.Lock()
        """Held from the candidates of a round until it is committed and told of."""
        self._stopped = False

    @property
    def interval(self) -> timedelta:
        """The present batch interval."""
        return self._interval

    async def run(self) -> None:
        """Close rounds until stopped, or cancelled.

        Raises:
            RoundTaken: another sequencer went on from the same round: begin anew.
            LeaseLost: likewise.
        """
        while True:
            await self._due()
            async with self._deciding:
                if self._stopped:
                    return
                sealed = await self._close_round()
            await self._sealed(sealed)

    async def stop(self) -> None:
        """Begin no further round; returns when the one under way is committed."""
        async with self._deciding:
            self._stopped = True

    async def drain(self) -> None:
        """Close rounds without pause until all that could be sealed is."""
        self._draining.set()
        await self._pool.emptied()

    async def _due(self) -> None:
        """Wait until the next round should close. An idle city waits here for good."""
        if not self._pool.holding:
            await self._pool.filled(1)
        due = self._closed_at + self._interval.total_seconds()
        while (remaining := due - self._clock.monotonic()) > 0:
            # What is held waits for others, so it is no reason to hurry.
            enough = 1 if self._draining.is_set() else self._pacer.max_tx
            if self._pool.waiting >= enough:
                return
            waits: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(self._pool.filled(enough)),
                asyncio.ensure_future(self._clock.sleep(remaining)),
            ]
            if not self._draining.is_set():
                waits.append(asyncio.ensure_future(self._draining.wait()))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _close_round(self) -> SealedRound:
        self._interval = get_dynamic_batch_interval(self._pool.waiting, self._interval, self._pacer)
        self._closed_at = self._clock.monotonic()
        failures = 0
        while True:
            candidates = self._pool.candidates(self._pacer.max_tx)
            try:
                sealed = await self._make_round(candidates)
                await self._examine(sealed)
                break
            except Exception:
                # A part's fault; the other cities, and this one's intake, go on.
                logger.exception("%s: round %d failed", self._slug, self._standing.head.round + 1)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))
        await self._commit(sealed)
        if self._replay is not None:
            self._replay.advance(sealed)
        nodes = self._state.apply(sealed)
        self._pool.decided(candidates, sealed.transactions, sealed.held, sealed.round)
        self._standing.sealed(self._head_after(sealed), nodes)
        self._committed(sealed)
        return sealed

    async def _make_round(self, candidates: Candidates) -> SealedRound:
        head = self._standing.head
        context = RoundContext(
            genesis=self._genesis,
            round=head.round + 1,
            time_ms=max(head.time_ms, self._clock.time_ms()),
            previous_root=self._tree.root(),
            previous_poh=self._previous_poh,
            previous_checkpoint=head.checkpoint_hash or self._genesis,
        )
        with self._meter.timed("decide"):
            draft = await decide_round(
                context,
                candidates,
                rule=self._rule,
                operator=self._operator,
                epoch=self._epoch,
                head=head,
                tree=self._tree,
                dag=self._dag,
                consensus=self._consensus,
                state=self._state,
                compute=self._compute,
            )
        with self._meter.timed("seal"):
            return await seal_round(draft, self._previous_poh, self._consensus)

    async def _examine(self, sealed: SealedRound) -> None:
        """Have the representatives inside the server check a round.

        Raises:
            InvalidRound: they would not vote for it.
        """
        if self._replay is None:
            return
        # Of the pool, where nothing is that was not admitted, whatever the round was made of.
        tx_ids = (*(item.tx_id for item in sealed.transactions), *sealed.held)
        with self._meter.timed("examine"):
            published = await self._replay.read_admitted(
                stored_round(sealed),
                [item for tx_id in tx_ids if (item := self._pool.get(tx_id)) is not None],
            )
            await self._replay.check(published)

    async def _commit(self, sealed: SealedRound) -> None:
        # Awaits nothing once it is committed: then it is told of, or the city follows from it.
        failures = 0
        while True:
            try:
                with self._meter.timed("commit"):
                    await self._storage.commit(sealed)
                break
            except (RoundTaken, LeaseLost):
                if not await self._is_committed(sealed):
                    raise
                break
            except Exception as error:
                # Committed or not: the same round again, never another version of it.
                logger.warning(
                    "%s: round %d was not confirmed: %r", self._slug, sealed.round, error
                )
                failures += 1
                await self._clock.sleep(pause_seconds(failures))
        self._tree = merkle.Tree(sealed.first_index + len(sealed.transactions), sealed.peaks)
        self._previous_poh = record.poh_of(sealed.record).hash

    def _head_after(self, sealed: SealedRound) -> Head:
        return replace(
            self._standing.head,
            round=sealed.round,
            time_ms=sealed.time_ms,
            epoch=sealed.epoch,
            size=self._tree.size,
            peaks=sealed.peaks,
            checkpoint=sealed.checkpoint,
            checkpoint_hash=sealed.checkpoint_hash,
        )

    async def _is_committed(self, sealed: SealedRound) -> bool:
        failures = 0
        while True:
            try:
                stored = await self._storage.rounds(sealed.round, 1)
                break
            except Exception as error:
                logger.warning("%s: round %d cannot be read: %r", self._slug, sealed.round, error)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))
        return bool(stored) and stored[0].checkpoint_hash == sealed.checkpoint_hash
