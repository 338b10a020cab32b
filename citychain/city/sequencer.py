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
from typing import Final

from citychain import checkpoint, record
from citychain._native.transactions import Transaction, decode_batch
from citychain.city.pool import Candidates, PendingPool
from citychain.city.sealing import (
    RecordTooLarge,
    check_decision,
    draft_round,
    seal_round,
    with_effects,
)
from citychain.city.state import LedgerState
from citychain.config import PacerSettings, get_dynamic_batch_interval
from citychain.crypto import merkle
from citychain.errors import LeaseLost, RoundTaken, StorageError
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
RETRY_SECONDS_MAX: Final = 5.0


class Sequencer:
    """Closes one city's rounds.

    Args:
        holder: Names this server in the city's lease.
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
        self._pacer = pacer
        self._compute = compute
        self._clock = clock
        self._sealed = sealed
        self._epoch = 0
        self._tree = merkle.Tree()
        self._previous_poh = genesis
        self._interval = timedelta(seconds=pacer.min_seconds)
        self._closed_at = clock.monotonic() - pacer.max_seconds
        self._limit = pacer.max_tx
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
        self._state.forget()
        self._pool.restore(await self._pending(), await self._held_since())

    async def run(self) -> None:
        """Close rounds until cancelled."""
        while True:
            try:
                while True:
                    await self._due()
                    await self._close_round()
            except (RoundTaken, LeaseLost) as error:
                logger.warning("%s: another sequencer went on: %s", self._slug, error)
                await self.load()

    async def close(self) -> None:
        """Let another server be the sequencer at once."""
        try:
            await self._storage.release_lease(self._epoch)
        except StorageError as error:
            logger.warning("%s: the lease is left to expire: %s", self._slug, error)

    async def drain(self) -> None:
        """Close rounds without pause until all that could be sealed is."""
        self._draining.set()
        await self._pool.emptied()

    async def _due(self) -> None:
        """Wait until the next round should close. An idle city waits here for good."""
        if not self._pool.holding:
            await self._pool.filled(1)
        remaining = self._closed_at + self._interval.total_seconds() - self._clock.monotonic()
        if remaining <= 0 or self._draining.is_set():
            return
        waits = [
            asyncio.ensure_future(wait)
            for wait in (
                self._pool.filled(self._pacer.max_tx),
                self._clock.sleep(remaining),
                self._draining.wait(),
            )
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _close_round(self) -> None:
        self._interval = get_dynamic_batch_interval(self._pool.waiting, self._interval, self._pacer)
        self._closed_at = self._clock.monotonic()
        attempt = 0
        while True:
            candidates = self._pool.candidates(self._limit)
            try:
                sealed = await self._make_round(candidates)
                break
            except RecordTooLarge:
                self._limit = max(1, len(candidates.transactions) // 2)
            except Exception:
                # A part's fault; the other cities, and this one's intake, go on.
                logger.exception("%s: round %d failed", self._slug, self.head.round + 1)
                attempt += 1
                await self._clock.sleep(min(0.1 * 2**attempt, RETRY_SECONDS_MAX))
        await self._commit(sealed)
        self._limit = self._pacer.max_tx
        nodes = self._state.apply(sealed)
        self._pool.decided(candidates, sealed.transactions, sealed.held, sealed.round)
        await self._sealed(sealed, nodes)

    async def _make_round(self, candidates: Candidates) -> SealedRound:
        transactions = candidates.transactions
        context = RoundContext(
            genesis=self._genesis,
            round=self.head.round + 1,
            time_ms=max(self.head.time_ms, self._clock.time_ms()),
            previous_root=self._tree.root(),
            previous_poh=self._previous_poh,
        )
        judgement = await self._consensus.judge(context, transactions, self._state)
        decision = await self._dag.decide(
            context, transactions, candidates.held_since, judgement.refused, self._state
        )
        check_decision(decision, transactions)
        decision = await with_effects(decision, judgement, transactions, self._state)
        tree = self._tree.copy()
        draft = await self._compute(
            draft_round,
            context=context,
            rule=self._rule,
            epoch=self._epoch,
            head=self.head,
            tree=tree,
            candidates=transactions,
            decision=decision,
            judgement=judgement,
            known_held=candidates.held_ids,
        )
        return await seal_round(draft, self._previous_poh, self._consensus)

    async def _commit(self, sealed: SealedRound) -> None:
        attempt = 0
        while True:
            try:
                await self._storage.commit(sealed)
                break
            except (RoundTaken, LeaseLost):
                if not await self._is_committed(sealed):
                    raise
                break
            except StorageError as error:
                # Committed or not: the same round again, never another version of it.
                logger.warning(
                    "%s: round %d was not confirmed: %s", self._slug, sealed.round, error
                )
                attempt += 1
                await self._clock.sleep(min(0.1 * 2**attempt, RETRY_SECONDS_MAX))
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
            pending += await self._compute(
                decode_batch, [item.envelope for item in page.transactions]
            )
            if (cursor := page.cursor) is None:
                return pending

    async def _held_since(self) -> dict[bytes, int]:
        """Ids held by the last rounds, in the order in which they were; some are sealed since."""
        first = max(1, self.head.round - self._hold_rounds + 1)
        return {
            tx_id: stored.round
            for stored in await self._storage.rounds(first, self._hold_rounds)
            for tx_id in record.decode(stored.record).held
        }
