"""A city in which much happens, made up for who looks at it: nobody signs, seals or stores it.

So hours of a busy city cost little more than showing them. Round by round it follows from the
clock and the round's number alone; what stands still of it is a real city's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Final

from citychain import record
from citychain.client import CityClient
from citychain.client.city import CityInfo
from citychain.explorer.upstream import Upstream
from citychain.ports import StoredRound
from citychain.rpc.messages import LinkedNode
from citychain.types import Certificate, NodeRef, PohEntry, Rejection, SealedNode, Vote

__all__ = ["BusyUpstream"]

ROUNDS_PER_SECOND: Final = 2
APPROVED_AFTER: Final = 0.2
"""Seconds from sealed to approved."""
VOTERS: Final = tuple(bytes([number]) * 32 for number in range(1, 6))
REJECTED: Final = 0.01
"""Of all transactions."""
BEFORE: Final = 100
"""Rounds that are there at the beginning."""


class BusyUpstream(Upstream):
    """Servers whose every city is busy from now on.

    Args:
        of: The servers of the real one.
        rate: Transactions a second.
    """

    def __init__(self, of: Upstream, rate: int) -> None:
        super().__init__(lambda _: of.channels)
        self._size = rate // ROUNDS_PER_SECOND
        self._began = time.monotonic() - BEFORE / ROUNDS_PER_SECOND

    def city(self, name: str) -> CityClient:
        return _BusyCity(name, self, self._size, self._began)


class _BusyCity(CityClient):
    def __init__(self, name: str, upstream: Upstream, size: int, began: float) -> None:
        super().__init__(name, upstream.channels)
        self._size = size
        self._began = began

    async def info(self) -> CityInfo:
        real, since = await super().info(), time.monotonic() - self._began
        head = replace(
            real.head,
            round=int(since * ROUNDS_PER_SECOND),
            certified_round=int((since - APPROVED_AFTER) * ROUNDS_PER_SECOND),
            size=int(since * ROUNDS_PER_SECOND) * self._size,
        )
        return replace(real, head=head, pending=self._size // 2)

    async def rounds(self, first: int = 1, limit: int = 10) -> list[StoredRound]:
        head = (await self.info()).head
        numbers = range(first, min(head.round, first + limit - 1) + 1)
        return [self._round(it, approved=it <= head.certified_round) for it in numbers]

    async def follow_rounds(
        self, first: int = 1, *, sealed: bool = False
    ) -> AsyncGenerator[StoredRound, None]:
        number = first
        while True:
            due = self._began + number / ROUNDS_PER_SECOND + (0 if sealed else APPROVED_AFTER)
            await asyncio.sleep(due - time.monotonic())
            yield self._round(number, approved=not sealed)
            number += 1

    async def nodes(self, round: int, first: int = 0, limit: int = 100) -> Sequence[LinkedNode]:
        stored = self._round(round, approved=False)
        decided, chance = record.decode(stored.record), random.Random(-round)
        linked = [seq for seq, verdict in enumerate(decided.verdicts) if verdict is None]
        return [
            LinkedNode(self._node(round, seq, chance), "strand", stored.time_ms, bytes(32))
            for seq in linked
            if first <= seq < first + limit
        ]

    def _node(self, round: int, seq: int, chance: random.Random) -> SealedNode:
        parents = tuple(
            NodeRef(max(1, round - chance.randint(1, 3)), chance.randrange(self._size), bytes(32))
            for _ in range(2)
        )
        return SealedNode(bytes(32), bytes(32), round, seq, chance.randbytes(32), parents, None)

    def _round(self, number: int, *, approved: bool) -> StoredRound:
        chance = random.Random(number)
        time_ms = int(1000 * (time.time() - time.monotonic() + self._began))
        time_ms += 1000 * number // ROUNDS_PER_SECOND
        body = record.body_bytes(
            genesis=bytes(32),
            round=number,
            time_ms=time_ms,
            epoch=1,
            tx_ids=[chance.randbytes(32) for _ in range(self._size)],
            verdicts=[
                Rejection("conflict", "made up") if chance.random() < REJECTED else None
                for _ in range(self._size)
            ],
            held=(),
            held_places=(),
            writes=(),
        )
        poh = PohEntry(bytes(32), 10_000, bytes(32), chance.randbytes(32))
        hashed = chance.randbytes(32)
        votes = tuple(Vote(voter, b"") for voter in VOTERS)
        return StoredRound(
            round=number,
            time_ms=time_ms,
            first_index=(number - 1) * self._size,
            size=number * self._size,
            record=record.with_poh(body, poh),
            checkpoint=b"",
            checkpoint_hash=hashed,
            peaks=b"",
            certificate=Certificate(number, hashed, votes) if approved else None,
        )
