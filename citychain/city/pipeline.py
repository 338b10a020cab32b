"""One open city: intake, sequencer and approver, and what is asked about them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final, Self

from citychain import checkpoint
from citychain._native.transactions import Limits
from citychain.city.accuser import Accuser
from citychain.city.acknowledger import Acknowledger
from citychain.city.approver import ROUNDS_MAX, Approver
from citychain.city.intake import Intake
from citychain.city.pool import PendingPool, PoolLimits
from citychain.city.proofs import ProofMaker
from citychain.city.replay import Replay
from citychain.city.retry import pause_seconds
from citychain.city.sealing import stored_round
from citychain.city.sequencer import Sequencer
from citychain.city.state import LedgerState
from citychain.city.watchers import Watchers, event_of
from citychain.config import PacerSettings
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.errors import CityUnavailable, NotFound, Overloaded, RequestError
from citychain.genesis import Genesis
from citychain.handler import (
    EventBatch,
    InclusionProof,
    Received,
    Refusal,
    TransactionEvent,
    TransactionStatus,
)
from citychain.ports import (
    CityStorage,
    Clock,
    Compute,
    ConsensusStep,
    DagHandler,
    StoredRound,
    SupportsVotes,
    takes_votes,
)
from citychain.receipt import Receipt
from citychain.types import ConflictingVotes, Handover, Head, SealedNode, SealedRound, State
from citychain.waiting import wait_in_words

__all__ = ["City"]

logger = logging.getLogger(__name__)

ROUNDS_PAGE: Final = 16
RETRY_AFTER_STALL: Final = timedelta(seconds=5)


class City:
    """The `CityHandler` of a city: enter it to open it, leave it to close it.

    Args:
        operator: The server's key; signs acknowledgements.
        final_within_ms: The time within which they promise a final state.
        state: Over ``storage``.
        replay: On ``state``, for the representatives inside this server, if there are any.
        accusation: Makes a signed transaction of a proof that somebody signed two checkpoints.
        holder: Names this server in the city's lease.
        on_sealed: Told of each committed round; must not block.
        on_approved: Told of each approved round; must not block.
    """

    def __init__(
        self,
        *,
        slug: str,
        genesis: Genesis,
        storage: CityStorage,
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
        holder: str,
        on_sealed: Callable[[str, SealedRound], None],
        on_approved: Callable[[str, StoredRound], None],
    ) -> None:
        self._slug = slug
        self._genesis = genesis
        self._storage = storage
        self._dag = dag
        self._consensus = consensus
        self._clock = clock
        self._on_sealed = on_sealed
        self._on_approved = on_approved
        self._pool = PendingPool(pool_limits)
        self._state = state
        self._watchers = Watchers()
        self._proofs = ProofMaker(genesis.id, storage, compute)
        self._sequencer = Sequencer(
            slug=slug,
            genesis=genesis.id,
            hold_rounds=genesis.hold_rounds,
            holder=holder,
            storage=storage,
            rule=genesis.rule,
            dag=dag,
            consensus=consensus,
            pool=self._pool,
            state=state,
            replay=replay,
            pacer=pacer,
            compute=compute,
            clock=clock,
            sealed=self._sealed,
        )
        self._approver = Approver(
            slug=slug,
            storage=storage,
            consensus=consensus,
            clock=clock,
            approved=self._approved,
        )
        self._intake = Intake(
            genesis=genesis.id,
            storage=storage,
            pool=self._pool,
            keys=keys,
            limits=limits,
            compute=compute,
            clock=clock,
            state_of=self._state_of,
            recovers=self.voting.recovers if self.voting is not None else None,
            retry_after=lambda: self._sequencer.interval,
        )
        self._acknowledger = Acknowledger(
            genesis=genesis,
            operator=operator,
            within_ms=final_within_ms,
            head_time_ms=lambda: self._sequencer.head.time_ms,
            compute=compute,
            clock=clock,
        )
        self._accuser: Accuser | None = None
        if self.voting is not None:
            self._accuser = Accuser(
                slug=slug,
                genesis=genesis,
                storage=storage,
                voting=self.voting,
                sign=accusation,
                submit=self.submit,
            )
        self._work: asyncio.Task[None] | None = None
        self._closing = False

    # --- opening and closing

    async def __aenter__(self) -> Self:
        try:
            await self._sequencer.load()
            self._approver.certified_round = self._sequencer.head.certified_round
            backlog = await self._storage.rounds(self._approver.certified_round + 1, 1 << 30)
        except BaseException:
            await self._sequencer.close()
            raise
        self._work = asyncio.create_task(self._run(backlog), name=f"city {self._slug}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop at once. What was acknowledged is durable and goes on at the next opening."""
        self._closing = True
        assert self._work is not None
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work
        await self._sequencer.close()

    async def drain(self) -> None:
        """Accept nothing new; answer, seal and approve what was accepted."""
        self._closing = True
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
        await self._sequencer.drain()
        await self._approver.drain()

    async def ended(self) -> None:
        """Return when the city's work has ended, by itself or by closing."""
        assert self._work is not None
        await asyncio.wait({self._work})

    async def _run(self, backlog: Sequence[StoredRound]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._approver.run(backlog))
                group.create_task(self._sequencer.run())
                group.create_task(self._intake.run())
                if self._accuser is not None:
                    group.create_task(self._accuse(self._accuser))
        except Exception:
            logger.exception("%s: the city's work ended; it is opened again", self._slug)
        finally:
            self._watchers.close(self._unavailable("closing"))

    async def _accuse(self, accuser: Accuser) -> None:
        """Look for new proofs after each round: only in a round do they change anything."""
        while True:
            progress = self._watchers.progress()
            try:
                await accuser.look()
            except Exception as error:
                logger.warning("%s: proofs against keys were not submitted: %r", self._slug, error)
            await asyncio.shield(progress)

    def _unavailable(self, error_id: str) -> CityUnavailable:
        return CityUnavailable(self._slug, error_id, timedelta(seconds=1))

    async def _sealed(self, sealed: SealedRound, nodes: Sequence[SealedNode]) -> None:
        self._watchers.tell(nodes, final=False)
        self._on_sealed(self._slug, sealed)
        await self._approver.add(stored_round(sealed))

    async def _approved(self, round: StoredRound) -> None:
        failures = 0
        while True:
            try:
                nodes = await self._state.round_nodes(round.round)
                break
            except Exception as error:
                logger.warning("%s: round %d cannot be read: %r", self._slug, round.round, error)
                failures += 1
                await self._clock.sleep(pause_seconds(failures))
        self._watchers.tell(nodes, final=True)
        self._on_approved(self._slug, round)

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
    def voting(self) -> SupportsVotes | None:
        """See `CityHandler.voting`."""
        return takes_votes(self._consensus)

    async def head(self) -> Head:
        """See `CityHandler.head`."""
        return replace(self._sequencer.head, certified_round=self._approver.certified_round)

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
            if self._approver.stalled:
                raise Overloaded("new work is refused", RETRY_AFTER_STALL)
            results = await self._intake.submit(envelopes)
        except Overloaded as error:
            raise await self._with_cause(error) from None
        except RequestError:
            raise
        except Exception as error:
            error_id = secrets.token_hex(4)
            logger.error("%s: nothing was stored (error id %s): %r", self._slug, error_id, error)
            raise self._unavailable(error_id) from error
        return await self._acknowledger.signed(results) if acknowledge else results

    async def _with_cause(self, error: Overloaded) -> Overloaded:
        """Say also why the city fills up, where it waits for its representatives."""
        if not self._approver.full:
            return error
        cause = f"{ROUNDS_MAX} rounds wait for their certificates"
        if self.voting is not None:
            cause = wait_in_words(await self.voting.committee())
        return Overloaded(f"{error}; {cause}", error.retry_after, error.reason)

    def _state_of(self, node: SealedNode) -> State:
        return event_of(node, final=node.round <= self._approver.certified_round).state

    async def status(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, TransactionStatus]:
        """See `CityHandler.status`."""
        pending = {tx_id: transaction for tx_id in tx_ids if (transaction := self._pool.get(tx_id))}
        result = {
            tx_id: TransactionStatus(tx_id, State.RECEIVED, transaction.envelope, None, 0, b"")
            for tx_id, transaction in pending.items()
        }
        nodes = await self._storage.find([tx_id for tx_id in tx_ids if tx_id not in pending])
        raw = await self._storage.raw(list(nodes))
        rounds: dict[int, StoredRound] = {}
        for number in {node.round for node in nodes.values()}:
            [rounds[number]] = await self._storage.rounds(number, 1)
        for tx_id, node in nodes.items():
            stored = rounds[node.round]
            result[tx_id] = TransactionStatus(
                tx_id,
                self._state_of(node),
                raw[tx_id].envelope if tx_id in raw else None,
                node,
                stored.time_ms,
                checkpoint.decode(stored.checkpoint).poh.hash,
            )
        return result

    async def receipts(
        self, tx_ids: Sequence[bytes], known_round: int = 0
    ) -> Mapping[bytes, Receipt]:
        """See `CityHandler.receipts`."""
        return await self._proofs.receipts(tx_ids, known_round)

    async def handovers(self, known_round: int = 0) -> Sequence[Handover]:
        """See `CityHandler.handovers`."""
        return await self._proofs.handovers(known_round)

    async def watch_transactions(
        self, tx_ids: Sequence[bytes], from_state: State
    ) -> AsyncIterator[EventBatch]:
        """See `CityHandler.watch_transactions`."""
        reached: dict[bytes, State | None] = dict.fromkeys(tx_ids)
        subscription = self._watchers.subscribe(reached)
        try:
            events: Sequence[TransactionEvent] = await self._present(list(reached))
            while True:
                told = []
                for event in events:
                    before = reached.get(event.tx_id)
                    if event.tx_id not in reached or (before is not None and event.state <= before):
                        continue
                    if event.state >= State.APPROVED:
                        del reached[event.tx_id]
                    else:
                        reached[event.tx_id] = event.state
                    if event.state >= from_state:
                        told.append(event)
                if told:
                    yield EventBatch(told, self._approver.certified_round)
                if not reached:
                    return
                events = await subscription.next()
        finally:
            self._watchers.unsubscribe(subscription, tx_ids)

    async def _present(self, tx_ids: Sequence[bytes]) -> list[TransactionEvent]:
        events = [
            TransactionEvent(tx_id, State.RECEIVED, 0, 0, "")
            for tx_id in tx_ids
            if tx_id in self._pool
        ]
        nodes = await self._storage.find([tx_id for tx_id in tx_ids if tx_id not in self._pool])
        events += [
            event_of(node, final=node.round <= self._approver.certified_round)
            for node in nodes.values()
        ]
        if len(events) < len(tx_ids):
            known = {event.tx_id for event in events}
            unknown = next(tx_id for tx_id in tx_ids if tx_id not in known)
            raise NotFound("transaction", unknown.hex())
        return events

    # --- rounds

    async def watch(
        self, author: bytes | None, from_state: State, after: int | None
    ) -> AsyncIterator[EventBatch]:
        """See `CityHandler.watch`."""
        final = from_state != State.SEALED
        position = self._last(sealed=not final) if after is None else after
        while True:
            progress = self._watchers.progress()
            last = self._last(sealed=not final)
            while position < last:
                position += 1
                nodes = await self._state.round_nodes(position)
                yield EventBatch(
                    [
                        event_of(node, final=final)
                        for node in nodes
                        if author is None or node.author == author
                    ],
                    position,
                )
            await asyncio.shield(progress)

    async def stream_rounds(self, first: int, *, sealed: bool) -> AsyncIterator[StoredRound]:
        """See `CityHandler.stream_rounds`."""
        while True:
            progress = self._watchers.progress()
            last = self._last(sealed=sealed)
            while first <= last:
                for round in await self._storage.rounds(first, min(ROUNDS_PAGE, last + 1 - first)):
                    yield round
                    first = round.round + 1
            await asyncio.shield(progress)

    def _last(self, *, sealed: bool) -> int:
        return self._sequencer.head.round if sealed else self._approver.certified_round

    async def inclusion_proof(self, leaf_index: int, size: int) -> InclusionProof:
        """See `CityHandler.inclusion_proof`."""
        return await self._proofs.inclusion(leaf_index, size or await self._approved_size())

    async def consistency_proof(
        self, first: int, second: int
    ) -> tuple[bytes, bytes, Sequence[bytes]]:
        """See `CityHandler.consistency_proof`."""
        return await self._proofs.consistency(first, second)

    async def _approved_size(self) -> int:
        if not self._approver.certified_round:
            return 0
        rounds = await self._storage.rounds(self._approver.certified_round, 1)
        return rounds[0].size if rounds else 0
