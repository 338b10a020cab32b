"""What is asked about a city's transactions and rounds, by whoever does not write.

The same on every server: from its pool, its storage and what it told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final

from citychain import checkpoint
from citychain.city.pool import PendingPool
from citychain.city.standing import Standing
from citychain.city.state import LedgerState
from citychain.city.watchers import Watchers, event_of
from citychain.errors import NotFound, Pruned
from citychain.handler import EventBatch, TransactionEvent, TransactionStatus
from citychain.ports import CityStorage, StoredRound
from citychain.types import RawTransaction, State

__all__ = ["Answers", "Archived"]

Archived = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, RawTransaction]]]
"""Gives sealed transactions from the archive; raises `Pruned` where it cannot."""

ROUNDS_PAGE: Final = 16


class Answers:
    """Answers for one city.

    Args:
        shared: Other servers receive transactions of the city too.
        archived: Gives what was pruned, where the archive can be had.
    """

    def __init__(
        self,
        *,
        storage: CityStorage,
        shared: bool,
        state: LedgerState,
        standing: Standing,
        pool: PendingPool,
        watchers: Watchers,
        archived: Archived | None,
    ) -> None:
        self._storage = storage
        self._archived = archived
        self._shared = shared
        self._state = state
        self._standing = standing
        self._pool = pool
        self._watchers = watchers

    # --- transactions

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
                self._standing.state_of(node),
                raw[tx_id].envelope if tx_id in raw else None,
                node,
                stored.time_ms,
                checkpoint.decode(stored.checkpoint).poh.hash,
            )
        for tx_id, received in (await self._elsewhere(tx_ids, result)).items():
            result[tx_id] = TransactionStatus(
                tx_id, State.RECEIVED, received.envelope, None, 0, b""
            )
        return result

    async def archived(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        """See `CityHandler.archived`."""
        nodes = await self._storage.find(tx_ids)
        for tx_id in tx_ids:
            if tx_id not in nodes:
                raise NotFound("transaction", tx_id.hex())
        if self._archived is None:
            first = min((node.round for node in nodes.values()), default=0)
            raise Pruned(first, "this server has no store of the archive")
        return await self._archived(tx_ids)

    async def _elsewhere(
        self, tx_ids: Sequence[bytes], known: Mapping[bytes, object]
    ) -> Mapping[bytes, RawTransaction]:
        """Those that another server received, of those that are not known here."""
        missing = [tx_id for tx_id in tx_ids if tx_id not in known]
        return await self._storage.raw(missing) if missing and self._shared else {}

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
                    yield EventBatch(told, self._standing.certified_round)
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
            event_of(node, final=node.round <= self._standing.certified_round)
            for node in nodes.values()
        ]
        if len(events) < len(tx_ids):
            known = {event.tx_id: event for event in events}
            elsewhere = await self._elsewhere(tx_ids, known)
            events += [TransactionEvent(one, State.RECEIVED, 0, 0, "") for one in elsewhere]
            for tx_id in tx_ids:
                if tx_id not in known and tx_id not in elsewhere:
                    raise NotFound("transaction", tx_id.hex())
        return events

    # --- rounds

    async def watch(
        self, author: bytes | None, from_state: State, after: int | None
    ) -> AsyncIterator[EventBatch]:
        """See `CityHandler.watch`."""
        final = from_state != State.SEALED
        position = self._standing.last(sealed=not final) if after is None else after
        while True:
            progress = self._watchers.progress()
            last = self._standing.last(sealed=not final)
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
            last = self._standing.last(sealed=sealed)
            while first <= last:
                for round in await self._storage.rounds(first, min(ROUNDS_PAGE, last + 1 - first)):
                    yield round
                    first = round.round + 1
            await asyncio.shield(progress)

    async def approved_size(self) -> int:
        """Leaves of the log after the latest approved round."""
        if not self._standing.certified_round:
            return 0
        rounds = await self._storage.rounds(self._standing.certified_round, 1)
        return rounds[0].size if rounds else 0
