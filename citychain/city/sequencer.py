"""Closes rounds: takes candidates, has them judged, linked and sealed, commits.

One round after the other. A round that fails is tried again from the same
candidates; nothing of it was shown to anybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from citychain import checkpoint, record
from citychain._native.transactions import Transaction, decode_batch
from citychain.city.pool import Candidates, PendingPool
from citychain.city.replay import Replay, held_since
from citychain.city.retry import pause_seconds
from citychain.city.sealing import decide_round, seal_round, stored_round
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
from citychain.types import Head, SealedNode, SealedRound

__all__ = ["Sequencer"]

logger = logging.getLogger(__name__)

LEASE_TTL: Final = timedelta(seconds=10)
PENDING_PAGE: Final = 1_000


class Sequencer:
    """Closes one city's rounds.

    Args:
        holder: Names this server in the city's lease.
        replay: On ``state``, with parts of its own: checks each round for the representatives
            inside this server before it is committed.
        sealed: Awaited with each round, and its nodes, once it is durable; may
            wait, and then the next round does.
    """

    def __init__(
        self,
        *,
        slug: str,
        genesis: bytes,
        hold_rounds: int,
        holder: str,
        storage: CityStorage,
        rule: str,
        dag: DagHandler,
        consensus: ConsensusStep,
        pool: PendingPool,
        state: LedgerState,
        replay: Replay | None,
        pacer: PacerSettings,
        compute: Compute,
        clock: Clock,
        sealed: Callable[[SealedRound, Sequence[SealedNode]], Awaitable[None]],
    ) -> None:
        self._slug = slug
        self._genesis = genesis
        self._hold_rounds = hold_rounds
        self._holder = holder
        self._storage = storage
        self._rule = rule
        self._dag = dag
        self._consensus = consensus
        self._pool = pool
        self._state = state
        self._replay = replay
        self._pacer = pacer
        self._compute = compute
        self._clock = clock
        self._sealed = sealed
        self._epoch = 0
        self._tree = merkle.Tree()
        self._previous_poh = genesis
        self._interval = timedelta(seconds=pacer.min_seconds)
        self._closed_at = clock.monotonic() - pacer.max_seconds
        self._draining = asyncio.Event()
        self.head = Head()
        """Where the ledger stands; ``certified_round`` is the approver's to know."""

    @property
    def interval(self) -> timedelta:
        """The present batch interval."""
        return self._interval

    async def load(self) -> None:
        """Take the lease, and up the thread where storage has it."""
        while (epoch := await self._storage.acquire_lease(self._holder, LEASE_TTL)) is None:
            await self._clock.sleep(LEASE_TTL.total_seconds() / 3)
        self._epoch = epoch
        self.head = head = await self._storage.head()
        self._tree = merkle.Tree(head.size, head.peaks)
        if head.round:
            self._previous_poh = checkpoint.decode(head.checkpoint).poh.hash
        if self._replay is not None:
            await self._replay.resume(self._storage)
        if pending := await self._pending():
            held = await held_since(self._storage, head.round, self._hold_rounds, self._compute)
            self._pool.restore(pending, held)

    async def run(self) -> None:
        """Close rounds until cancelled.

        Raises:
            RoundTaken: another sequencer went on from the same round: begin anew.
            LeaseLost: likewise.
        """
        while True:
            await self._due()
            await self._close_round()

    async def close(self) -> None:
        """Let another server be the sequencer at once."""
        try:
            await self._storage.release_lease(self._epoch)
        except Exception as error:
            logger.warning("%s: the lease is left to expire: %s", self._slug, error)

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

    async def _close_round(self) -> None:
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
                logger.exception("%s: round %d failed", self._slug, self.head.round + 1)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))
        await self._commit(sealed)
        if self._replay is not None:
            self._replay.advance(sealed)
        nodes = self._state.apply(sealed)
        self._pool.decided(candidates, sealed.transactions, sealed.held, sealed.round)
        await self._sealed(sealed, nodes)

    async def _make_round(self, candidates: Candidates) -> SealedRound:
        context = RoundContext(
            genesis=self._genesis,
            round=self.head.round + 1,
            time_ms=max(self.head.time_ms, self._clock.time_ms()),
            previous_root=self._tree.root(),
            previous_poh=self._previous_poh,
            previous_checkpoint=self.head.checkpoint_hash or self._genesis,
        )
        draft = await decide_round(
            context,
            candidates,
            rule=self._rule,
            epoch=self._epoch,
            head=self.head,
            tree=self._tree,
            dag=self._dag,
            consensus=self._consensus,
            state=self._state,
            compute=self._compute,
        )
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
        published = await self._replay.read_admitted(
            stored_round(sealed),
            [item for tx_id in tx_ids if (item := self._pool.get(tx_id)) is not None],
        )
        await self._replay.check(published)

    async def _commit(self, sealed: SealedRound) -> None:
        failures = 0
        while True:
            try:
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
        self.head = replace(
            self.head,
            round=sealed.round,
            time_ms=sealed.time_ms,
            epoch=sealed.epoch,
            size=self._tree.size,
            peaks=sealed.peaks,
            checkpoint=sealed.checkpoint,
            checkpoint_hash=sealed.checkpoint_hash,
        )

    async def _is_committed(self, sealed: SealedRound) -> bool:
        stored = await self._storage.rounds(sealed.round, 1)
        return bool(stored) and stored[0].checkpoint_hash == sealed.checkpoint_hash

    async def _pending(self) -> list[Transaction]:
        pending: list[Transaction] = []
        cursor: bytes | None = None
        while True:
            page = await self._storage.pending(cursor, PENDING_PAGE)
            pending += await self._opened([item.envelope for item in page.transactions])
            if (cursor := page.cursor) is None:
                return pending

    async def _opened(self, envelopes: Sequence[bytes]) -> list[Transaction]:
        if self._replay is None:
            return await self._compute(decode_batch, envelopes)
        return await self._replay.admit(envelopes)
