"""The transactions of rounds as they are sent, made once for all who follow a city.

Representatives ask for each round at about the same time, so what one is sent is
kept for the others for a while. A round goes in steps, since it may be large.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final, TypeAlias

from citychain import record
from citychain.handler import CityHandler
from citychain.ports import StoredRound
from citychain.rpc._generated.citychain.v1 import services_pb2
from citychain.rpc.messages import RESPONSE_BYTES

__all__ = ["RoundParts"]

TRANSACTIONS_STEP: Final = 256
KEPT_BYTES_MAX: Final = 32 << 20

Part: TypeAlias = services_pb2.StreamRoundsResponse
Step: TypeAlias = tuple[bytes, int, int]
"""Genesis id, round, and the first transaction's place among the round's."""


class RoundParts:
    """Makes them, and keeps the latest made."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._steps: OrderedDict[Step, asyncio.Task[list[Part]]] = OrderedDict()
        self._sizes: dict[Step, int] = {}
        self._size = 0

    async def of(self, handler: CityHandler, stored: StoredRound) -> AsyncIterator[Part]:
        """Those that a round seals, then those that it newly holds.

        Raises:
            Pruned: transactions were pruned, and the archive does not give them here.
        """
        decided = record.decode(stored.record)
        tx_ids = [*decided.tx_ids, *decided.held]
        for start in range(0, len(tx_ids), TRANSACTIONS_STEP):
            step = handler.genesis.id, stored.round, start
            wanted = tx_ids[start : start + TRANSACTIONS_STEP]
            if (making := self._steps.get(step)) is None:
                making = asyncio.create_task(_make(handler, wanted))
                self._steps[step] = making
                making.add_done_callback(partial(self._made, step))
            # Shielded: others may wait for the same.
            for part in await asyncio.shield(making):
                yield part

    def _made(self, step: Step, made: asyncio.Task[list[Part]]) -> None:
        if made.cancelled() or made.exception() is not None:
            del self._steps[step]
            return
        self._sizes[step] = size = sum(part.ByteSize() for part in made.result())
        self._size += size
        while self._size > self._bytes_max:
            oldest = next(iter(self._sizes))
            self._size -= self._sizes.pop(oldest)
            del self._steps[oldest]


async def _make(handler: CityHandler, wanted: Sequence[bytes]) -> list[Part]:
    found = await handler.storage.raw(wanted)
    if missing := [tx_id for tx_id in wanted if tx_id not in found]:
        found = {**found, **await handler.archived(missing)}
    parts, size = [services_pb2.StreamRoundsResponse()], 0
    for tx_id in wanted:
        envelope = found[tx_id].envelope
        if size and size + len(envelope) > RESPONSE_BYTES:
            parts.append(services_pb2.StreamRoundsResponse())
            size = 0
        parts[-1].transactions.append(envelope)
        size += len(envelope)
    return parts
