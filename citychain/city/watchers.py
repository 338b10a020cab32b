"""Tells whoever waits about transactions and rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from citychain.handler import TransactionEvent
from citychain.types import SealedNode, State

__all__ = ["Subscription", "Watchers", "event_of"]


class Subscription:
    """Events of chosen transactions, kept until they are fetched."""

    def __init__(self) -> None:
        self._events: list[TransactionEvent] = []
        self._filled = asyncio.Event()
        self._error: Exception | None = None

    def push(self, event: TransactionEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self._filled.set()

    def end(self, error: Exception) -> None:
        """No more will come: whoever waits gets the error."""
        self._error = error
        self._filled.set()

    async def next(self) -> Sequence[TransactionEvent]:
        """All events since the last call; waits for at least one.

        Raises:
            CityUnavailable: the city was closed.
        """
        await self._filled.wait()
        if self._error is not None:
            raise self._error
        self._filled.clear()
        events, self._events = self._events, []
        return events


class Watchers:
    """Everybody who waits for something in one city. Used on one event loop."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, list[Subscription]] = {}
        self._progress: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    def close(self, error: Exception) -> None:
        """The city is closed: everybody who waits gets the error, and so does who comes later."""
        self._error = error
        for subscriptions in self._by_id.values():
            for subscription in subscriptions:
                subscription.end(error)
        self._wake()

    def subscribe(self, tx_ids: Iterable[bytes]) -> Subscription:
        """Begin to keep events of these transactions."""
        subscription = Subscription()
        if self._error is not None:
            subscription.end(self._error)
        for tx_id in tx_ids:
            self._by_id.setdefault(tx_id, []).append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription, tx_ids: Iterable[bytes]) -> None:
        """Forget a subscription."""
        for tx_id in tx_ids:
            if (subscriptions := self._by_id.get(tx_id)) and subscription in subscriptions:
                subscriptions.remove(subscription)
                if not subscriptions:
                    del self._by_id[tx_id]

    def tell(self, nodes: Iterable[SealedNode], *, final: bool) -> None:
        """A round's transactions were sealed, or reached their final state."""
        if self._by_id:
            for node in nodes:
                for subscription in self._by_id.get(node.tx_id, ()):
                    subscription.push(event_of(node, final=final))
        self._wake()

    def _wake(self) -> None:
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    def progress(self) -> asyncio.Future[None]:
        """Done at the next round that is sealed or approved: take it, look, then await it.

        Raises:
            CityUnavailable: the city was closed.
        """
        if self._error is not None:
            raise self._error
        if self._progress is None:
            self._progress = asyncio.get_running_loop().create_future()
        return self._progress


def event_of(node: SealedNode, *, final: bool) -> TransactionEvent:
    """That a sealed transaction is so far."""
    if not final:
        state = State.SEALED
    else:
        state = State.APPROVED if node.rejection is None else State.REJECTED
    return TransactionEvent(
        node.tx_id, state, node.round, node.seq, node.rejection.code if node.rejection else ""
    )
