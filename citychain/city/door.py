"""Stands before an open city, so that it can be closed and opened again while calls wait.

Calls that write are counted while they are inside, and wait outside while the city is held. Reads
go on: what is closed can be read as it was left. Streams that end with the city that is closed go
on where they were with the one that is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

from citychain.city.listing import CityListing
from citychain.errors import CityUnavailable, MoveFailed
from citychain.genesis import Genesis
from citychain.handler import (
    CityHandler,
    EventBatch,
    InclusionProof,
    Received,
    Refusal,
    TransactionEvent,
    TransactionStatus,
)
from citychain.ports import CityStorage, CommitteeStatus, StoredRound, SupportsVotes
from citychain.receipt import Receipt
from citychain.types import CastVote, Handover, Head, Objection, State, VoteOutcome

__all__ = ["Door", "Doors"]

T = TypeVar("T")

INSIDE_SECONDS: Final = 10.0
"""For calls under way to end, once the city is held."""
SHUT_SECONDS: Final = 0.5
OPEN_SECONDS: Final = 0.02
"""Turns of a city that is slowed."""


class Door:
    """The `CityHandler` that callers have of an open city."""

    def __init__(self, city: CityHandler) -> None:
        self._city = city
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._shut = 0
        """How many want it shut."""
        self._open = asyncio.Event()
        self._open.set()

    def __getattr__(self, name: str) -> Any:
        """What a handler offers besides, such as ``drain`` and ``ended``."""
        return getattr(self._city, name)

    @property
    def city(self) -> CityHandler:
        """What stands behind it now."""
        return self._city

    @property
    def is_held(self) -> bool:
        """Whether calls that write wait."""
        return bool(self._shut)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let no call that writes in; those that are inside have ended when this is entered.

        Raises:
            MoveFailed: they do not end.
        """
        self._close()
        try:
            try:
                async with asyncio.timeout(INSIDE_SECONDS):
                    await self._empty.wait()
            except TimeoutError:
                raise MoveFailed("calls under way do not end") from None
            yield
        finally:
            self._reopen()

    @asynccontextmanager
    async def slowed(self) -> AsyncIterator[None]:
        """Let calls that write in a moment at a time: they wait a little, and the city seals
        fewer and larger rounds."""
        turns = asyncio.create_task(self._turns())
        try:
            yield
        finally:
            turns.cancel()
            await asyncio.gather(turns, return_exceptions=True)

    async def _turns(self) -> None:
        while True:
            self._close()
            try:
                await asyncio.sleep(SHUT_SECONDS)
            finally:
                self._reopen()
            await asyncio.sleep(OPEN_SECONDS)

    def _close(self) -> None:
        self._shut += 1
        self._open.clear()

    def _reopen(self) -> None:
        self._shut -= 1
        if not self._shut:
            self._open.set()

    def lead_to(self, city: CityHandler) -> None:
        """Put another city behind it: the same one, opened again."""
        self._city = city

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[CityHandler]:
        while self._shut:
            await self._open.wait()
        self._inside += 1
        self._empty.clear()
        try:
            yield self._city
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    async def _replaced(self, city: CityHandler) -> bool:
        """Whether another city stands behind it than the one that ended, once it may."""
        while self._shut:
            await self._open.wait()
        return self._city is not city

    # --- what it is

    @property
    def genesis(self) -> Genesis:
        """See `CityHandler.genesis`."""
        return self._city.genesis

    @property
    def storage(self) -> CityStorage:
        """See `CityHandler.storage`."""
        return self._city.storage

    @property
    def pending(self) -> int:
        """See `CityHandler.pending`."""
        return self._city.pending

    @property
    def voting(self) -> SupportsVotes | None:
        """See `CityHandler.voting`."""
        return None if self._city.voting is None else _Voting(self)

    async def head(self) -> Head:
        """See `CityHandler.head`."""
        return await self._city.head()

    # --- transactions

    async def submit(
        self, envelopes: Sequence[bytes], *, acknowledge: bool = False
    ) -> Sequence[Received | Refusal]:
        """See `CityHandler.submit`."""
        async with self._writing() as city:
            if acknowledge:
                return await city.submit(envelopes, acknowledge=True)
            return await city.submit(envelopes)

    async def status(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, TransactionStatus]:
        """See `CityHandler.status`."""
        return await self._city.status(tx_ids)

    async def receipts(
        self, tx_ids: Sequence[bytes], known_round: int = 0
    ) -> Mapping[bytes, Receipt]:
        """See `CityHandler.receipts`."""
        return await self._city.receipts(tx_ids, known_round)

    async def handovers(self, known_round: int = 0) -> Sequence[Handover]:
        """See `CityHandler.handovers`."""
        return await self._city.handovers(known_round)

    async def watch_transactions(
        self, tx_ids: Sequence[bytes], from_state: State
    ) -> AsyncIterator[EventBatch]:
        """See `CityHandler.watch_transactions`."""
        told: dict[bytes, State | None] = dict.fromkeys(tx_ids)
        again = False
        while told:
            city = self._city
            try:
                async with _closing(city.watch_transactions(list(told), from_state)) as batches:
                    async for batch in batches:
                        if again:
                            # Another opening of the city begins with how things stand.
                            events = [item for item in batch.events if _is_new(item, told)]
                            batch = EventBatch(events, batch.position)
                        told.update((event.tx_id, event.state) for event in batch.events)
                        if batch.events:
                            yield batch
                return
            except CityUnavailable:
                if not await self._replaced(city):
                    raise
                told = {
                    tx_id: state
                    for tx_id, state in told.items()
                    if state is None or state < State.APPROVED
                }
                again = True

    async def watch(
        self, author: bytes | None, from_state: State, after: int | None
    ) -> AsyncIterator[EventBatch]:
        """See `CityHandler.watch`."""
        if after is None:
            head = await self._city.head()
            after = head.round if from_state == State.SEALED else head.certified_round
        while True:
            city = self._city
            try:
                async with _closing(city.watch(author, from_state, after)) as batches:
                    async for batch in batches:
                        after = batch.position
                        yield batch
                return
            except CityUnavailable:
                if not await self._replaced(city):
                    raise

    async def stream_rounds(self, first: int, *, sealed: bool) -> AsyncIterator[StoredRound]:
        """See `CityHandler.stream_rounds`."""
        while True:
            city = self._city
            try:
                async with _closing(city.stream_rounds(first, sealed=sealed)) as rounds:
                    async for round in rounds:
                        first = round.round + 1
                        yield round
                return
            except CityUnavailable:
                if not await self._replaced(city):
                    raise

    # --- proofs

    async def inclusion_proof(self, leaf_index: int, size: int) -> InclusionProof:
        """See `CityHandler.inclusion_proof`."""
        return await self._city.inclusion_proof(leaf_index, size)

    async def consistency_proof(
        self, first: int, second: int
    ) -> tuple[bytes, bytes, Sequence[bytes]]:
        """See `CityHandler.consistency_proof`."""
        return await self._city.consistency_proof(first, second)


@asynccontextmanager
async def _closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close an iterator that can be closed, whatever ends the block."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


def _is_new(event: TransactionEvent, told: Mapping[bytes, State | None]) -> bool:
    before = told.get(event.tx_id)
    return before is None or event.state > before


class Directory(Protocol):
    """What is asked of `citychain.city.directory.CityDirectory`."""

    async def door(self, name: str) -> CityHandler: ...

    async def listing(self, name: str) -> CityListing: ...

    def listings(self, query: str, after: str, limit: int) -> Sequence[CityListing]: ...


class Doors:
    """A directory that gives doors in the place of cities: for calls from outside."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.listing = directory.listing
        self.listings = directory.listings

    async def handler(self, name: str) -> CityHandler:
        """See `citychain.city.directory.CityDirectory.door`."""
        return await self._directory.door(name)


class _Voting:
    """The `SupportsVotes` of the city behind a door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def _step(self, city: CityHandler) -> SupportsVotes:
        voting = city.voting
        assert voting is not None
        return voting

    async def cast(self, votes: Sequence[CastVote]) -> Sequence[VoteOutcome]:
        async with self._door._writing() as city:
            return await self._step(city).cast(votes)

    async def object(self, objections: Sequence[Objection]) -> None:
        async with self._door._writing() as city:
            await self._step(city).object(objections)

    async def recover(self, envelope: bytes, public_keys: Sequence[bytes]) -> None:
        async with self._door._writing() as city:
            await self._step(city).recover(envelope, public_keys)

    async def recovers(self, tx_id: bytes) -> bool:
        return await self._step(self._door.city).recovers(tx_id)

    async def committee(self) -> CommitteeStatus:
        return await self._step(self._door.city).committee()
