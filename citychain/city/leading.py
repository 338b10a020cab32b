"""What a server does for a city while it has the lease: one term, from the lease to its end.

It takes up the thread where storage has it, and keeps nothing of an earlier term. It ends when the
lease is lost, between any two steps: a round that was under way is durable, or was never there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from citychain._native.transactions import Transaction, decode_batch
from citychain.city.accuser import Accuser
from citychain.city.approver import Approver
from citychain.city.lease import Lease
from citychain.city.metering import CityMeter
from citychain.city.pickup import PickUp
from citychain.city.pool import PendingPool
from citychain.city.relay import RelayReader
from citychain.city.replay import Replay, held_since
from citychain.city.retry import pause_seconds
from citychain.city.sealing import stored_round
from citychain.city.sequencer import Sequencer
from citychain.city.standing import Standing
from citychain.city.state import LedgerState
from citychain.city.watchers import Watchers
from citychain.config import PacerSettings
from citychain.genesis import Genesis
from citychain.ports import (
    CityStorage,
    Clock,
    Compute,
    ConsensusStep,
    DagHandler,
    StoredRound,
    SupportsVotes,
    resumes,
    takes_votes,
)
from citychain.tracing import Tracer
from citychain.types import SealedRound

__all__ = ["Leading", "LeadingParts"]

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""For how long a round under way may take to be committed when a term is to end."""


@dataclass(frozen=True, slots=True)
class LeadingParts:
    """What every term of a city is made of."""

    slug: str
    genesis: Genesis
    storage: CityStorage
    shared: bool
    """Other servers use the storage too."""
    dag: DagHandler
    consensus: ConsensusStep
    state: LedgerState
    replay: Replay | None
    """On ``state``, for the representatives inside this server, if there are any."""
    standing: Standing
    watchers: Watchers
    pool: PendingPool
    compute: Compute
    clock: Clock
    pacer: PacerSettings
    meter: CityMeter
    tracer: Tracer
    accuser: Callable[[], Accuser] | None
    """Makes one; where nobody votes nobody is accused."""
    exchange: Callable[[], Coroutine[Any, Any, None]]
    """What the city does with others while this server leads it."""
    on_sealed: Callable[[str, SealedRound], None]
    on_approved: Callable[[str, StoredRound], None]
    archive: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Archives the city while this server leads it."""
    prune: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Prunes its storage while this server leads it."""
    repair: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Repairs its archive while this server leads it."""

    @property
    def resume(self) -> Callable[[], Awaitable[None]] | None:
        """See `citychain.ports.resumes`."""
        return resumes(self.consensus)


class _Stopped(Exception):
    """The term was to end."""


class Leading:
    """One term of one city.

    Args:
        catch_up: Tells of all rounds that other servers sealed and approved.
    """

    def __init__(
        self, parts: LeadingParts, lease: Lease, catch_up: Callable[[], Awaitable[None]]
    ) -> None:
        self._parts = parts
        self.lease = lease
        """The term's lease."""
        self._has_sealed = False
        self._keeps_lease = False
        self._released = False
        """Nobody gives the lease up any more, where it was kept."""
        self._catch_up = catch_up
        self._backlog: Sequence[StoredRound] = ()
        self._sequencer: Sequencer | None = None
        self._approver = Approver(
            slug=parts.slug,
            storage=parts.storage,
            consensus=parts.consensus,
            clock=parts.clock,
            meter=parts.meter,
            approved=self._approved,
        )
        self._pick_up = PickUp(
            slug=parts.slug,
            storage=parts.storage,
            pool=parts.pool,
            clock=parts.clock,
            opened=self._opened,
            others=parts.shared,
        )
        self._stop = asyncio.Event()
        self._draining = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def interval(self) -> timedelta:
        """The present batch interval."""
        if self._sequencer is None:
            return timedelta(seconds=self._parts.pacer.min_seconds)
        return self._sequencer.interval

    @property
    def full(self) -> bool:
        """See `Approver.full`."""
        return self._approver.full

    @property
    def stalled(self) -> bool:
        """See `Approver.stalled`."""
        return self._approver.stalled

    async def run(self) -> None:
        """Lead the city until `stop`.

        Raises:
            BaseExceptionGroup: with a `LeaseLost` or `RoundTaken` where another server has the
                city now; of whatever else ended it.
        """
        parts = self._parts
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._until_stopped())
                if parts.shared:
                    group.create_task(self.lease.renew())
                    group.create_task(self.lease.expired())
                if self._sequencer is None:
                    await self.prepare()
                assert self._sequencer is not None
                group.create_task(self._approver.run(self._backlog))
                group.create_task(self._sequencer.run())
                if parts.shared:
                    group.create_task(self._pick_up_until_draining())
                    if (step := takes_votes(parts.consensus)) is not None:
                        group.create_task(self._relay_reader(step).run())
                if parts.accuser is not None:
                    group.create_task(self._accuse(parts.accuser()))
                group.create_task(parts.exchange())
                if parts.archive is not None:
                    group.create_task(parts.archive())
                if parts.prune is not None:
                    group.create_task(parts.prune())
                if parts.repair is not None:
                    group.create_task(parts.repair())
        except* _Stopped:
            pass
        finally:
            self._ended.set()
            # What the step does by itself, such as keeping a recovery, is for a leader to do.
            if parts.shared and parts.resume is not None:
                await parts.resume()

    def _relay_reader(self, step: SupportsVotes) -> RelayReader:
        parts = self._parts
        return RelayReader(
            slug=parts.slug,
            step=step,
            storage=parts.storage,
            standing=parts.standing,
            watchers=parts.watchers,
            clock=parts.clock,
        )

    async def prepare(self) -> None:
        """Take up the thread where storage has it."""
        parts = self._parts
        await self._catch_up()
        parts.state.forget()
        if parts.resume is not None:
            await parts.resume()
        if parts.replay is not None:
            await parts.replay.resume(parts.storage)
        held: dict[bytes, int] = {}
        if await parts.storage.pending_ids(1):
            held = await held_since(
                parts.storage, parts.standing.head.round, parts.genesis.hold_rounds, parts.compute
            )
        await self._pick_up.begin(held)
        self._backlog = await parts.storage.rounds(parts.standing.certified_round + 1, 1 << 30)
        self._sequencer = Sequencer(
            slug=parts.slug,
            genesis=parts.genesis.id,
            operator=parts.genesis.operator_id,
            epoch=self.lease.epoch,
            storage=parts.storage,
            rule=parts.genesis.rule,
            dag=parts.dag,
            consensus=parts.consensus,
            pool=parts.pool,
            state=parts.state,
            standing=parts.standing,
            replay=parts.replay,
            pacer=parts.pacer,
            compute=parts.compute,
            clock=parts.clock,
            meter=parts.meter,
            committed=self._committed,
            sealed=self._sealed,
        )

    async def drain(self) -> None:
        """Seal and approve all that could be; returns early when the term ends before that."""
        draining = asyncio.create_task(self._drain())
        ended = asyncio.create_task(self._ended.wait())
        try:
            # Work that ended by itself finishes nothing more.
            await asyncio.wait({draining, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (draining, ended):
                task.cancel()
            await asyncio.gather(draining, ended, return_exceptions=True)

    async def _drain(self) -> None:
        self._draining.set()
        if self._sequencer is not None:
            await self._sequencer.drain()
        await self._approver.drain()

    async def stop(self) -> None:
        """End the term, between two rounds if the one under way is not held up.

        It ends also where this is cancelled: then at once.
        """
        try:
            await self._between_rounds()
        finally:
            self._stop.set()
        await self._ended.wait()

    async def _between_rounds(self) -> None:
        if self._sequencer is None or self._ended.is_set():
            return
        tasks = [
            asyncio.create_task(self._sequencer.stop()),
            asyncio.create_task(self._ended.wait()),
        ]
        try:
            await asyncio.wait(tasks, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def began(self) -> bool:
        """Whether it has taken up the thread."""
        return self._sequencer is not None

    @property
    def fruitless(self) -> bool:
        """Whether it has sealed nothing, though something was to be sealed."""
        return not self._has_sealed and (not self.began or bool(len(self._parts.pool)))

    @property
    def unfinished(self) -> bool:
        """Whether the city has work left, as far as is known: what is not sealed or not approved.

        Of a term that has not begun nothing is known.
        """
        standing = self._parts.standing
        return (
            not self.began
            or bool(len(self._parts.pool))
            or standing.certified_round < standing.head.round
        )

    def keep_lease(self) -> None:
        """Do not give the lease up when the term ends: the caller does, or lets it expire."""
        self._keeps_lease = True

    async def give_up_lease(self) -> None:
        """Undo `keep_lease`, also if the term has ended meanwhile."""
        self._keeps_lease = False
        if self._released:
            await self.lease.release()

    async def release(self) -> None:
        """Once the term has ended, let another server lead at once."""
        self._released = True
        if not self._keeps_lease:
            await self.lease.release()

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        raise _Stopped

    async def _pick_up_until_draining(self) -> None:
        """What others receive from then on, they or whoever leads next will seal."""
        picking = asyncio.create_task(self._pick_up.run())
        try:
            await self._draining.wait()
        finally:
            picking.cancel()
            await asyncio.gather(picking, return_exceptions=True)

    async def _opened(self, envelopes: Sequence[bytes]) -> list[Transaction]:
        if self._parts.replay is None:
            return await self._parts.compute(decode_batch, envelopes)
        return await self._parts.replay.admit(envelopes)

    async def _accuse(self, accuser: Accuser) -> None:
        """Look for new proofs after each round: only in a round do they change anything."""
        while True:
            progress = self._parts.watchers.progress()
            try:
                await accuser.look()
            except Exception as error:
                logger.warning(
                    "%s: proofs against keys were not submitted: %r", self._parts.slug, error
                )
            await asyncio.shield(progress)

    # --- rounds

    def _committed(self, sealed: SealedRound) -> None:
        self._has_sealed = True
        self._parts.meter.sealed(sealed)
        self._parts.tracer.sealed(self._parts.slug, sealed)
        self._parts.on_sealed(self._parts.slug, sealed)

    async def _sealed(self, sealed: SealedRound) -> None:
        await self._approver.add(stored_round(sealed))

    async def _approved(self, round: StoredRound) -> None:
        failures = 0
        while True:
            try:
                nodes = await self._parts.state.nodes_of(round)
                break
            except Exception as error:
                logger.warning(
                    "%s: round %d cannot be read: %r", self._parts.slug, round.round, error
                )
                failures += 1
                await self._parts.clock.sleep(pause_seconds(failures))
        self._parts.standing.approved(round.round, nodes)
        self._parts.meter.approved(round, nodes)
        self._parts.tracer.approved(self._parts.slug, round)
        self._parts.on_approved(self._parts.slug, round)
