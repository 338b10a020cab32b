"""One open city: who receives, who leads or follows, and what is asked about it.

Where several servers share a city, each receives its transactions and tells its watchers of every
round; one at a time leads it, and seals and approves. Which one is decided by the lease alone.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Self

from citychain._native.transactions import Limits
from citychain.city.accuser import Accuser
from citychain.city.acknowledger import Acknowledger
from citychain.city.answers import Answers, Archived
from citychain.city.approver import ROUNDS_MAX
from citychain.city.following import Follower
from citychain.city.intake import Intake
from citychain.city.leading import Leading, LeadingParts
from citychain.city.lease import Lease, acquire
from citychain.city.metering import UNMETERED, CityMeter
from citychain.city.pool import PendingPool, PoolLimits
from citychain.city.proofs import ProofMaker
from citychain.city.relay import SharedVoting
from citychain.city.replay import Replay
from citychain.city.standing import Standing
from citychain.city.state import LedgerState
from citychain.city.watchers import Watchers
from citychain.config import PacerSettings
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.errors import CityUnavailable, LeaseLost, Overloaded, RequestError, RoundTaken
from citychain.exchange.exchange import Exchange
from citychain.genesis import Genesis
from citychain.handler import (
    EventBatch,
    InclusionProof,
    PeerStatus,
    Received,
    Refusal,
    TransactionStatus,
)
from citychain.log_fields import set_log_fields
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
from citychain.receipt import Receipt
from citychain.tracing import UNTRACED, Tracer
from citychain.types import (
    ConflictingVotes,
    Handover,
    Head,
    RawTransaction,
    SealedRound,
    State,
)
from citychain.waiting import wait_in_words

__all__ = ["City"]

logger = logging.getLogger(__name__)

RETRY_AFTER_STALL: Final = timedelta(seconds=5)


class City:
    """The `CityHandler` of a city: enter it to open it, leave it to close it.

    Args:
        operator: The server's key; signs acknowledgements.
        final_within_ms: The time within which they promise a final state.
        shared: Other servers may use the storage too: the lease is asked for once the city is
            open, and renewed.
        state: Over ``storage``.
        replay: On ``state``, for the representatives inside this server, if there are any.
        accusation: Makes a signed transaction of a proof that somebody signed two checkpoints.
        exchange: What it does with other cities.
        holder: Names this server in the city's lease.
        lease: For how long a lease holds that is not renewed.
        on_sealed: Told of each committed round; must not block.
        on_approved: Told of each approved round; must not block.
        archive: Archives it while this server leads it.
        prune: Prunes its storage while this server leads it.
        repair: Repairs its archive while this server leads it.
        archived: Gives what was pruned; ``None`` where the archive cannot be had.
        meter: Counts for whoever runs the server.
        tracer: Traces what becomes of calls' transactions.
    """

    def __init__(
        self,
        *,
        slug: str,
        genesis: Genesis,
        storage: CityStorage,
        shared: bool,
        dag: DagHandler,
        consensus: ConsensusStep,
        state: LedgerState,
        replay: Replay | None,
        compute: Compute,
        clock: Clock,
        keys: KeyCache,
        operator: SigningKey,
        pool_limits: PoolLimits,
        limits: Limits,
        final_within_ms: int,
        pacer: PacerSettings,
        accusation: Callable[[ConflictingVotes], Awaitable[bytes]],
        exchange: Exchange,
        holder: str,
        lease: timedelta,
        on_sealed: Callable[[str, SealedRound], None],
        on_approved: Callable[[str, StoredRound], None],
        archive: Callable[[City], Coroutine[Any, Any, None]] | None = None,
        prune: Callable[[], Coroutine[Any, Any, None]] | None = None,
        repair: Callable[[City], Coroutine[Any, Any, None]] | None = None,
        archived: Archived | None = None,
        meter: CityMeter = UNMETERED,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._slug = slug
        self._genesis = genesis
        self._storage = storage
        self._shared = shared
        self._clock = clock
        self._exchange = exchange
        self._holder = holder
        self._ttl = lease
        self._interval = timedelta(seconds=pacer.min_seconds)
        self._meter = meter
        self._tracer = tracer
        self._pool = PendingPool(pool_limits, shared=shared)
        self._watchers = Watchers()
        self._standing = Standing(self._watchers, meter)
        self._proofs = ProofMaker(genesis.id, storage, compute)
        self._answers = Answers(
            storage=storage,
            shared=shared,
            state=state,
            standing=self._standing,
            pool=self._pool,
            watchers=self._watchers,
            archived=archived,
        )
        self._follower = Follower(
            slug=slug,
            storage=storage,
            state=state,
            standing=self._standing,
            pool=self._pool,
            clock=clock,
            holder=holder,
            ttl=lease,
        )
        self._voting = takes_votes(consensus)
        if self._voting is not None and shared:
            self._voting = SharedVoting(
                slug=slug,
                step=self._voting,
                resume=resumes(consensus),
                storage=storage,
                standing=self._standing,
                clock=clock,
                server=holder,
                leads=lambda: self.leads,
            )
        self._leading_parts = LeadingParts(
            slug=slug,
            genesis=genesis,
            storage=storage,
            shared=shared,
            dag=dag,
            consensus=consensus,
            state=state,
            replay=replay,
            standing=self._standing,
            watchers=self._watchers,
            pool=self._pool,
            compute=compute,
            clock=clock,
            pacer=pacer,
            meter=meter,
            tracer=tracer,
            accuser=self._accuser if self.voting is not None else None,
            exchange=lambda: exchange.lead(self),
            on_sealed=on_sealed,
            on_approved=on_approved,
            archive=None if archive is None else lambda: archive(self),
            prune=prune,
            repair=None if repair is None else lambda: repair(self),
        )
        self._intake = Intake(
            genesis=genesis.id,
            operator=genesis.operator_id,
            storage=storage,
            pool=self._pool,
            keys=keys,
            limits=limits,
            compute=compute,
            clock=clock,
            state_of=self._standing.state_of,
            refuses=exchange.refuses,
            recovers=self.voting.recovers if self.voting is not None else None,
            retry_after=lambda: self._leading.interval if self._leading else self._interval,
            meter=meter,
            tracer=tracer,
            shared=shared,
            author_per_second=pool_limits.author_per_second,
        )
        self._acknowledger = Acknowledger(
            genesis=genesis,
            operator=operator,
            within_ms=final_within_ms,
            head_time_ms=lambda: self._standing.head.time_ms,
            compute=compute,
            clock=clock,
        )
        self._accusation = accusation
        self._leading: Leading | None = None
        """The present term, while this server leads."""
        self._work: asyncio.Task[None] | None = None
        self._closing = False

    def _accuser(self) -> Accuser:
        assert self.voting is not None
        return Accuser(
            slug=self._slug,
            genesis=self._genesis,
            storage=self._storage,
            voting=self.voting,
            sign=self._accusation,
            submit=self.submit,
        )

    # --- opening and closing

    async def __aenter__(self) -> Self:
        if self._shared:
            # Whoever leads it: what is received is durable, and waits there.
            self._standing.begin(await self._storage.head())
        else:
            self._leading = await self._first_term()
        self._work = asyncio.create_task(self._run(), name=f"city {self._slug}")
        return self

    async def _first_term(self) -> Leading:
        """That of a city which no other server can open: ready when the city is open."""
        while (lease := await self._acquire()) is None:
            await self._clock.sleep(self._ttl.total_seconds() / 3)
        try:
            self._standing.begin(await self._storage.head())
            leading = self._term(lease)
            await leading.prepare()
        except BaseException:
            await lease.release()
            raise
        return leading

    async def _acquire(self) -> Lease | None:
        return await acquire(self._storage, self._holder, self._ttl, self._clock)

    def _term(self, lease: Lease) -> Leading:
        return Leading(self._leading_parts, lease, self._catch_up)

    async def _catch_up(self) -> None:
        await self._follower.catch_up(await self._storage.head())

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop at once. What was acknowledged is durable and goes on at the next opening."""
        self._closing = True
        assert self._work is not None
        self._work.cancel()
        try:
            await asyncio.wait({self._work})
        except asyncio.CancelledError:
            # Its storage is closed next: whoever is in a hurry waits for the end of the work too.
            await asyncio.wait({self._work})
            raise
        if not self._work.cancelled():
            self._work.result()

    async def drain(self) -> None:
        """Accept nothing new; answer what was accepted, and if this server leads seal and approve
        it, and let another one lead."""
        self._closing = True
        self._follower.stand_back()
        assert self._work is not None
        draining = asyncio.create_task(self._drain())
        try:
            # Work that ended by itself finishes nothing more.
            await asyncio.wait({draining, self._work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)

    async def _drain(self) -> None:
        await self._intake.drain()
        if (leading := self._leading) is not None:
            await leading.drain()
            if self._shared:
                await leading.stop()

    async def step_down(self) -> int | None:
        """Lead no more, for as long as a lease holds; the city stays open, and follows.

        Returns:
            The epoch of the lease, which is not released; ``None`` where this server does not
            lead, or shares the city with nobody.
        """
        if (leading := self._leading) is None or not self._shared:
            return None
        self._follower.give_way(named=True)
        leading.keep_lease()
        try:
            await leading.stop()
        except BaseException:
            # Nobody hears of the epoch: whoever asks first is to lead.
            self._follower.give_way(named=False)
            await leading.give_up_lease()
            raise
        return leading.lease.epoch

    def handed_over(self) -> None:
        """The lease that `step_down` left is kept for another server: lead again, without waiting
        for as long as it holds, if that one refuses it."""
        self._follower.ask_again()

    @property
    def leads(self) -> bool:
        """Whether this server seals the city's rounds now."""
        return self._leading is not None

    @property
    def lease_left(self) -> float | None:
        """Seconds for which this server's lease holds; ``None`` while it does not lead, or where no
        other server can. From any thread."""
        leading = self._leading
        return leading.lease.left if leading is not None and self._shared else None

    async def ended(self) -> None:
        """Return when the city's work has ended, by itself or by closing."""
        assert self._work is not None
        await asyncio.wait({self._work})

    async def _run(self) -> None:
        set_log_fields(city=self._slug)
        self._tracer.leave_call()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._intake.run())
                group.create_task(self._exchange.attend(self))
                group.create_task(self._lead_and_follow())
        except Exception:
            logger.exception("%s: the city's work ended; it is opened again", self._slug)
        finally:
            self._watchers.close(self._unavailable("closing"))

    async def _lead_and_follow(self) -> None:
        failures = 0
        while True:
            leading = self._leading
            if leading is None:
                leading = self._term(await self._follower.until_leading())
                self._leading = leading
                self._meter.term_began()
                logger.info("%s: leading from epoch %d on", self._slug, leading.lease.epoch)
            # In a task of its own: what is cancelled while it fails raises its failure alone, and
            # this is to end then.
            term = asyncio.create_task(self._lead(leading))
            try:
                await asyncio.wait({term})
            finally:
                term.cancel()
                await asyncio.gather(term, return_exceptions=True)
            failures = failures + 1 if leading.fruitless else 1
            try:
                term.result()
            except* (LeaseLost, RoundTaken) as lost:
                if not self._shared:
                    raise
                self._meter.lease_lost()
                logger.warning("%s: leads no more: %s", self._slug, lost.exceptions[0])
                # If it was our fault, such as a slow way to the storage, others may do better. If
                # it is the storage that is slow, it is not to be asked for leases all the time.
                self._follower.try_later(failures)
            except* Exception as failed:
                if not self._shared:
                    raise
                # Such as one read of the storage: the city stays open, and need not be led here.
                logger.error("%s: a term of leading failed", self._slug, exc_info=failed)
                self._follower.try_later(failures)

    async def _lead(self, leading: Leading) -> None:
        try:
            await leading.run()
        finally:
            self._leading = None
            if self._closing and self._shared and leading.unfinished:
                # A lease that expires is missed: others open the city, if none of them has it.
                leading.keep_lease()
            await leading.release()

    def _unavailable(self, error_id: str) -> CityUnavailable:
        return CityUnavailable(self._slug, error_id, timedelta(seconds=1))

    # --- what it is

    @property
    def genesis(self) -> Genesis:
        """See `CityHandler.genesis`."""
        return self._genesis

    @property
    def storage(self) -> CityStorage:
        """See `CityHandler.storage`."""
        return self._storage

    @property
    def pending(self) -> int:
        """See `CityHandler.pending`."""
        return len(self._pool)

    @property
    def position(self) -> Head:
        """`head`, from any thread."""
        return self._standing.head

    @property
    def voting(self) -> SupportsVotes | None:
        """See `CityHandler.voting`."""
        return self._voting

    @property
    def remittances(self) -> int:
        """Those to other cities without an outcome, as far as this server carries them."""
        return self._exchange.remittances

    @property
    def parent(self) -> tuple[str, tuple[str, ...]] | None:
        """Slug of the city where its checkpoints are anchored, and where that is served."""
        return self._exchange.parent

    async def peers(self) -> Sequence[PeerStatus]:
        """Cities that it exchanges with, and how it goes with each."""
        return await self._exchange.peers(self)

    async def head(self) -> Head:
        """See `CityHandler.head`."""
        return self._standing.head

    def progress(self) -> asyncio.Future[None]:
        """See `Watchers.progress`."""
        return self._watchers.progress()

    # --- transactions

    async def submit(
        self, envelopes: Sequence[bytes], *, acknowledge: bool = False
    ) -> Sequence[Received | Refusal]:
        """See `CityHandler.submit`."""
        if self._closing:
            raise self._unavailable("closing")
        if acknowledge:
            self._acknowledger.check()
        try:
            if self._leading is not None and self._leading.stalled:
                raise Overloaded("new work is refused", RETRY_AFTER_STALL)
            results = await self._intake.submit(envelopes)
        except Overloaded as error:
            self._meter.overloaded(len(envelopes))
            raise await self._with_cause(error) from None
        except RequestError:
            raise
        except Exception as error:
            error_id = secrets.token_hex(4)
            logger.error("%s: nothing was stored (error id %s): %r", self._slug, error_id, error)
            raise self._unavailable(error_id) from error
        self._meter.answered(results)
        return await self._acknowledger.signed(results) if acknowledge else results

    async def _with_cause(self, error: Overloaded) -> Overloaded:
        """Say also why the city fills up, where it waits for its representatives."""
        if self._leading is None or not self._leading.full:
            return error
        cause = f"{ROUNDS_MAX} rounds wait for their certificates"
        if self.voting is not None:
            cause = wait_in_words(await self.voting.committee())
        return Overloaded(f"{error}; {cause}", error.retry_after, error.reason)

    async def status(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, TransactionStatus]:
        """See `CityHandler.status`."""
        return await self._answers.status(tx_ids)

    async def archived(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """See `CityHandler.archived`."""
        return await self._answers.archived(tx_ids)

    async def receipts(
        self, tx_ids: Sequence[bytes], known_round: int = 0
    ) -> Mapping[bytes, Receipt]:
        """See `CityHandler.receipts`."""
        return await self._proofs.receipts(tx_ids, known_round)

    async def handovers(self, known_round: int = 0) -> Sequence[Handover]:
        """See `CityHandler.handovers`."""
        return await self._proofs.handovers(known_round)

    # --- watching, and rounds

    def watch_transactions(
        self, tx_ids: Sequence[bytes], from_state: State
    ) -> AsyncIterator[EventBatch]:
        """See `CityHandler.watch_transactions`."""
        return self._answers.watch_transactions(tx_ids, from_state)

    def watch(
        self, author: bytes | None, from_state: State, after: int | None
    ) -> AsyncIterator[EventBatch]:
        """See `CityHandler.watch`."""
        return self._answers.watch(author, from_state, after)

    def stream_rounds(self, first: int, *, sealed: bool) -> AsyncIterator[StoredRound]:
        """See `CityHandler.stream_rounds`."""
        return self._answers.stream_rounds(first, sealed=sealed)

    async def inclusion_proof(self, leaf_index: int, size: int) -> InclusionProof:
        """See `CityHandler.inclusion_proof`."""
        return await self._proofs.inclusion(leaf_index, size or await self._answers.approved_size())

    async def consistency_proof(
        self, first: int, second: int
    ) -> tuple[bytes, bytes, Sequence[bytes]]:
        """See `CityHandler.consistency_proof`."""
        return await self._proofs.consistency(first, second)
