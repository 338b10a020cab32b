"""A city of this server, as a city to exchange with is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from citychain.between_cities import (
    Decided,
    decode_inbox,
    inbox_object,
)
from citychain.exchange.neighbour import ROUND_MAX, PeerCity, closing
from citychain.genesis import Genesis
from citychain.handler import CityHandler, Received, Refusal
from citychain.ports import StoredRound
from citychain.receipt import Receipt
from citychain.types import Handover, State

__all__ = ["FINAL", "LocalCity"]

FINAL: Final = timedelta(seconds=30)
"""How long a city may take until transactions are final, before that is asked anew."""


class LocalCity(PeerCity):
    """A city of this server as a `PeerCity`."""

    def __init__(self, handler: CityHandler) -> None:
        self._handler = handler

    async def genesis(self) -> Genesis:
        """See `PeerCity.genesis`."""
        return self._handler.genesis

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Received | Refusal]:
        """See `PeerCity.submit`."""
        return await self._handler.submit(envelopes)

    async def wait(self, tx_ids: Sequence[bytes]) -> None:
        """See `PeerCity.wait`."""
        async with asyncio.timeout(FINAL.total_seconds()):
            watched = self._handler.watch_transactions(tx_ids, State.APPROVED)
            async with closing(watched) as batches:
                async for _ in batches:
                    pass

    async def decided(self, source: bytes, tx_ids: Sequence[bytes]) -> Mapping[bytes, Decided]:
        """See `PeerCity.decided`."""
        names = {inbox_object(source, tx_id): tx_id for tx_id in tx_ids}
        found = await self.objects(list(names))
        return {names[name]: decode_inbox(value) for name, value in found.items()}

    async def receipts(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, Receipt]:
        """See `PeerCity.receipts`."""
        return await self._handler.receipts(tx_ids, ROUND_MAX)

    async def objects(self, objects: Sequence[str]) -> Mapping[str, bytes]:
        """See `PeerCity.objects`."""
        found = await self._handler.storage.objects(objects)
        return {name: state.value for name, state in found.items()}

    async def handovers(self, known_round: int) -> AsyncIterator[Sequence[Handover]]:
        """See `PeerCity.handovers`."""
        yield await self._handler.handovers(known_round)

    async def latest_round(self) -> int:
        """See `PeerCity.latest_round`."""
        return (await self._handler.head()).round

    async def rounds(self, first: int, limit: int) -> Sequence[StoredRound]:
        """See `PeerCity.rounds`."""
        return await self._handler.storage.rounds(first, limit)
