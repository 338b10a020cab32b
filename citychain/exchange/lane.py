"""Carries a city's remittances to one other city, and the answers home, batch by batch::

    other city's inbox ── not there ──▶ a delivery with our receipt ──▶ final there
           │                                                              │
           └── decided, by whichever delivery ──▶ its certified receipt ◀─┘
                                                  └▶ a settlement with it, at home

Neither brings a change of the committee: what the ledger that takes it does not know of these is
shown to it before, by `citychain.exchange.steps`.

Every step may be repeated, after a crash or a doubtful answer: what was decided already is told
by the ledger that decided it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from citychain.between_cities import Decided, Outgoing
from citychain.errors import CitychainError
from citychain.exchange.local import LocalCity
from citychain.exchange.neighbour import (
    REJECTED_SECONDS_MAX,
    Backoff,
    Neighbour,
    PeerCity,
    Sign,
    Signed,
    Stranger,
    closing,
)
from citychain.exchange.proof import encode_receipt
from citychain.exchange.steps import Steps
from citychain.genesis import Genesis
from citychain.handler import CityHandler, Refusal, TransactionEvent
from citychain.ports import Clock, Compute
from citychain.receipt import Receipt
from citychain.types import Delivery, Settlement, State

__all__ = ["Lane", "either"]

logger = logging.getLogger(__name__)

BATCH_MAX: Final = 128
"""Remittances that go together."""
BATCHES_MAX: Final = 4
"""Batches of a lane on their way."""


IN_VAIN: Final = 12
"""A remittance was tried in vain after so much of the next two."""
FAILED: Final = 4
"""The other city did not decide, or its answer does not hold here."""
UNANSWERED: Final = 1
"""It decided, and has no receipt yet: that comes with its next certificate."""


@dataclass(slots=True)
class _Item:
    """A remittance on its way."""

    outgoing: Outgoing
    delivery: Signed | None = None
    """On its way to a final state in the other city."""
    settlement: Signed | None = None
    """On its way to a final state here."""
    rejected: bool = False
    """The last delivery was final, and decided nothing."""
    unanswered: bool = False
    """The other city decided, and has no receipt yet."""
    tried: int = 0
    """See `IN_VAIN`."""
    not_before: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)
    rejections: Backoff = field(default_factory=lambda: Backoff(REJECTED_SECONDS_MAX))


class Lane:
    """Carries the remittances to one other city.

    Args:
        on_tried: Called when some were tried, and are not settled.
    """

    def __init__(
        self,
        slug: str,
        home: CityHandler,
        neighbour: Neighbour,
        sign: Sign,
        compute: Compute,
        clock: Clock,
        on_tried: Callable[[], None],
    ) -> None:
        self._slug = slug
        self._home = home
        self._neighbour = neighbour
        self._sign = sign
        self._compute = compute
        self._clock = clock
        self._on_tried = on_tried
        self._items: dict[bytes, _Item] = {}
        self._under_way: set[bytes] = set()
        self._here = LocalCity(home)
        self._steps_there = Steps(home.genesis, neighbour.genesis.id, sign, compute, clock)
        self._steps_here = Steps(neighbour.genesis, home.genesis.id, sign, compute, clock)
        self._changed = asyncio.Event()
        self._backoff = Backoff()
        self.trouble = ""

    def add(self, outgoing: Outgoing, *, again: bool = False) -> None:
        """Carry a remittance; one that is carried already is left alone.

        Args:
            again: It was tried in vain before: once more is enough.
        """
        tried = IN_VAIN - FAILED if again else 0
        self._items.setdefault(outgoing.tx_id, _Item(outgoing, tried=tried))
        self._changed.set()

    def in_vain(self) -> list[bytes]:
        """Those that were tried in vain, and are not under way now, the oldest first."""
        return [
            tx_id
            for tx_id, item in self._items.items()
            if item.tried >= IN_VAIN and tx_id not in self._under_way
        ]

    def settled(self, tx_id: bytes) -> None:
        """It is done, by whomever, or not to be carried any more."""
        self._items.pop(tx_id, None)

    async def run(self) -> None:
        """Work until cancelled; what fails is tried again, after a while."""
        while True:
            await self._ready()
            try:
                async with self._neighbour.connect() as city:
                    await self._check(city)
                    await self._carry(city)
            except* Exception as errors:
                self._failed(_first(errors))
            await self._clock.sleep(self._backoff.seconds())

    def _failed(self, error: BaseException) -> None:
        name = self._neighbour.slug
        trouble = str(error) or type(error).__name__
        if trouble != self.trouble:  # Told once: it may go on for days.
            logger.warning("%s: remittances to %s wait: %s", self._slug, name, trouble)
        if not isinstance(error, CitychainError | TimeoutError):
            logger.debug("%s: the lane to %s failed", self._slug, name, exc_info=error)
        self.trouble = trouble

    async def _ready(self) -> None:
        """Return once something may be carried."""
        while not self._due():
            self._changed.clear()
            waits = [item.not_before for item in self._items.values()]
            seconds = min(waits) - self._clock.monotonic() if waits else None
            await either(self._changed.wait(), seconds, self._clock)

    def _due(self) -> list[_Item]:
        now = self._clock.monotonic()
        due = []
        for tx_id, item in self._items.items():
            if tx_id not in self._under_way and item.not_before <= now:
                due.append(item)
                if len(due) == BATCH_MAX:
                    break
        return due

    async def _check(self, city: PeerCity) -> None:
        """That it is the city that is pinned, and has this one pinned.

        A delivery that came before that would be rejected, and so it would each time.
        """
        theirs, ours = await city.genesis(), self._home.genesis
        if theirs.id != self._neighbour.genesis.id:
            raise Stranger(self._neighbour, theirs)
        if await city.pinned(ours.network, ours.city) != ours.id:
            raise _NotPinned(self._neighbour.slug, ours)

    async def _carry(self, city: PeerCity) -> None:
        room = asyncio.Semaphore(BATCHES_MAX)
        async with asyncio.TaskGroup() as group:
            while True:
                await room.acquire()
                await self._ready()
                batch = self._due()
                self._under_way.update(item.outgoing.tx_id for item in batch)
                group.create_task(self._see_through(city, batch, room))

    async def _see_through(
        self, city: PeerCity, batch: list[_Item], room: asyncio.Semaphore
    ) -> None:
        try:
            await self._batch(city, batch)
            self._backoff.reset()
            self._tried(batch)
        except Exception:
            # So that others have their turn: it may be one of these that it fails for.
            self._tried(batch)
            raise
        finally:
            room.release()
            self._under_way.difference_update(item.outgoing.tx_id for item in batch)
            self._changed.set()
            self._on_tried()

    def _tried(self, batch: Sequence[_Item]) -> None:
        """Let those of them that are not settled wait."""
        for item in batch:
            item.tried += UNANSWERED if item.unanswered else FAILED
            backoff = item.rejections if item.rejected else item.backoff
            item.not_before = self._clock.monotonic() + backoff.seconds()

    async def _batch(self, city: PeerCity, batch: list[_Item]) -> None:
        """Bring each as far as it goes now."""
        ours = self._home.genesis.id
        items = {item.outgoing.tx_id: item for item in batch}
        for item in batch:
            item.rejected = item.unanswered = False
        decided = dict(await city.decided(ours, list(items)))
        fresh = [item for tx_id, item in items.items() if tx_id not in decided]
        if fresh:
            received = await self._deliver(city, fresh)
            decided |= await city.decided(ours, [item.outgoing.tx_id for item in fresh])
            for item in received:
                item.rejected = item.outgoing.tx_id not in decided
            if any(item.rejected for item in received):
                self._steps_there.forget()
        receipts = await city.receipts([one.tx_id for one in decided.values()])
        for tx_id, one in decided.items():
            items[tx_id].unanswered = one.tx_id not in receipts
        answered = {
            tx_id: (one, receipts[one.tx_id])
            for tx_id, one in decided.items()
            if one.tx_id in receipts
        }
        if answered:
            self.trouble = ""
            await self._settle(city, {tx_id: items[tx_id] for tx_id in answered}, answered)

    async def _deliver(self, city: PeerCity, items: Sequence[_Item]) -> list[_Item]:
        """Submit a delivery of each, wait until they are final, and return those that are."""
        new = [item for item in items if item.delivery is None]
        receipts = await self._here.receipts([item.outgoing.tx_id for item in new])
        new = [item for item in new if item.outgoing.tx_id in receipts]
        rounds = {receipt.round for receipt in receipts.values()}
        starts = await self._steps_there.starts(self._here, city, rounds)
        proofs = await self._compute(
            _proofs, [receipts[item.outgoing.tx_id] for item in new], starts
        )
        deliveries = [
            Delivery(
                city=self._home.genesis.id,
                tx_id=item.outgoing.tx_id,
                asset=item.outgoing.asset,
                to=item.outgoing.to,
                amount=item.outgoing.amount,
                proof=proof,
            )
            for item, proof in zip(new, proofs, strict=True)
        ]
        signed = await self._sign(self._neighbour.genesis.id, deliveries, [()] * len(deliveries))
        for item, delivery in zip(new, signed, strict=True):
            item.delivery = delivery
        on_its_way = [item for item in items if item.delivery is not None]
        received = await self._submit(
            city.submit, on_its_way, [item.delivery for item in on_its_way if item.delivery]
        )
        if received:
            await city.wait([item.delivery.tx_id for item in received if item.delivery])
        for item in on_its_way:
            # Final, or never received: what its ledger does not say is decided, it has not.
            item.delivery = None
        return received

    async def _settle(
        self,
        city: PeerCity,
        items: Mapping[bytes, _Item],
        answered: Mapping[bytes, tuple[Decided, Receipt]],
    ) -> None:
        """Bring the answers into the ledger, and wait until they are final."""
        new = [tx_id for tx_id, item in items.items() if item.settlement is None]
        receipts = [answered[tx_id][1] for tx_id in new]
        starts = await self._steps_here.starts(city, self._here, [it.round for it in receipts])
        proofs = await self._compute(_proofs, receipts, starts)
        settlements = []
        for tx_id, proof in zip(new, proofs, strict=True):
            outgoing = items[tx_id].outgoing
            settlements.append(
                Settlement(
                    tx_id=tx_id,
                    payer=outgoing.payer,
                    city=outgoing.city,
                    asset=outgoing.asset,
                    amount=outgoing.amount,
                    returned=not answered[tx_id][0].accepted,
                    proof=proof,
                )
            )
        # By the dependency people find the settlement of a remittance, in the graph.
        signed = await self._sign(self._home.genesis.id, settlements, [(tx_id,) for tx_id in new])
        for tx_id, settlement in zip(new, signed, strict=True):
            items[tx_id].settlement = settlement
        received = await self._submit(
            self._home.submit,
            list(items.values()),
            [item.settlement for item in items.values() if item.settlement],
        )
        waiting = {item.settlement.tx_id: item for item in received if item.settlement}
        if not waiting:
            return
        async with closing(self._home.watch_transactions(list(waiting), State.APPROVED)) as batches:
            async for batch in batches:
                for event in batch.events:
                    self._final(waiting[event.tx_id], event)

    def _final(self, item: _Item, settlement: TransactionEvent) -> None:
        if settlement.state == State.APPROVED:
            self.settled(item.outgoing.tx_id)
            return
        # Most likely somebody else's was first, of which a round will tell.
        item.settlement = None
        self._steps_here.forget()
        logger.info(
            "%s: settlement %s was rejected: %s",
            self._slug,
            settlement.tx_id.hex(),
            settlement.code,
        )

    async def _submit(
        self,
        submit: Callable[[Sequence[bytes]], Awaitable[Sequence[object]]],
        items: Sequence[_Item],
        signed: Sequence[Signed],
    ) -> list[_Item]:
        """Submit one transaction for each item; returns those whose was received."""
        results = await submit([one.envelope for one in signed]) if signed else ()
        received = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Refusal):
                self.trouble = f"{result.code}: {result.detail}"
                item.delivery = None
                item.settlement = None
            else:
                received.append(item)
        return received


class _NotPinned(CitychainError):
    def __init__(self, slug: str, ours: Genesis) -> None:
        super().__init__(
            f"{slug} has not pinned {ours.city} with genesis {ours.id.hex()[:16]}… yet: its "
            f"operator names it under [peers.{ours.city}]"
        )


def _proofs(receipts: Sequence[Receipt], starts: Mapping[int, bytes]) -> list[bytes]:
    """Proofs that bring no handover."""
    return [encode_receipt(receipt, starts[receipt.round]) for receipt in receipts]


def _first(errors: BaseExceptionGroup[Exception]) -> BaseException:
    """One of the errors of tasks that failed together."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def either(wait: Awaitable[object], seconds: float | None, clock: Clock) -> None:
    """Return once something is there, at the latest after some seconds."""
    tasks = [asyncio.ensure_future(wait)]
    if seconds is not None:
        tasks.append(asyncio.ensure_future(clock.sleep(max(seconds, 0.0))))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
