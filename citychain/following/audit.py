"""The audit of a whole city: everything recomputed from what it published.

Rounds are read ahead, several at once, on all cores; each is then checked against
the ledger that the rounds before it left, and its certificate against the committee
in office. The first thing that does not hold ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from citychain.city.replay import PublishedRound, Replay
from citychain.city.state import LedgerState, MemoryState
from citychain.committee import CommitteeChain
from citychain.errors import InvalidRound, VerificationError
from citychain.following.source import RoundSource
from citychain.ports import Compute, StoredRound
from citychain.types import Handover, SealedRound

__all__ = ["Audit", "AuditResult"]

PATIENCE_SECONDS: Final = 120.0
"""For a round that the source says it has."""
AHEAD: Final = 8
"""Rounds that are read before the one being checked."""


@dataclass(slots=True)
class AuditResult:
    """What was found to hold."""

    rounds: int = 0
    transactions: int = 0
    """Of the rounds that were checked, as the next."""
    approved: int = 0
    certified_round: int = 0
    """All rounds up to this one have a certificate that holds."""
    checkpoint_hash: bytes = b""
    """Of the last round."""
    seconds: float = 0.0


class Audit:
    """Audits one city, once.

    Args:
        replay: At the beginning of the ledger, on ``state``; or resumed, with all certified
            before.
        seen: Told of each round that holds, and whether it and all before are certified.
        keep: Keeps each round that holds, before the ledger moves on.
    """

    def __init__(
        self,
        *,
        replay: Replay,
        state: MemoryState | LedgerState,
        chain: CommitteeChain,
        source: RoundSource,
        compute: Compute,
        seen: Callable[[PublishedRound, bool], None] | None = None,
        keep: Callable[[PublishedRound, SealedRound], Awaitable[None]] | None = None,
    ) -> None:
        self._replay = replay
        self._state = state
        self._chain = chain
        self._source = source
        self._compute = compute
        self._recovered: list[Handover] = []
        self._seen = seen
        self._keep = keep
        before = replay.head.round
        self.result = AuditResult(rounds=before, certified_round=before)
        """As far as it has come."""

    async def run(self, last: int, first: int = 1) -> AuditResult:
        """Check all rounds up to ``last``.

        Args:
            first: Of the rounds before it the ledger is repeated, but signatures, hashing and
                votes are not checked.

        Raises:
            InvalidRound: the first thing that does not hold.
        """
        began = time.monotonic()
        before = self._replay.head.round
        reading: deque[asyncio.Task[PublishedRound]] = deque()
        try:
            async with aclosing(self._source.rounds(before + 1)) as rounds:
                # A server says nothing of a city without more rounds until it has one.
                while last > before and (given := await self._next(rounds)) is not None:
                    stored, envelopes = given
                    if stored.round > last:
                        break
                    thorough = stored.round >= first
                    reading.append(
                        asyncio.create_task(
                            self._replay.read(stored, envelopes, signatures=thorough)
                        )
                    )
                    if len(reading) >= AHEAD:
                        await self._check(await reading.popleft(), first)
                    if stored.round == last:
                        break
            while reading:
                await self._check(await reading.popleft(), first)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
        if self.result.rounds < last:
            raise InvalidRound(self.result.rounds + 1, "round", "the city does not give it")
        self.result.seconds = time.monotonic() - began
        return self.result

    async def _next(
        self, rounds: AsyncIterator[tuple[StoredRound, Sequence[bytes]]]
    ) -> tuple[StoredRound, Sequence[bytes]] | None:
        """The next round; ``None`` where the source ends, or keeps one back that it has."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await anext(rounds, None)
        except TimeoutError:
            return None

    async def _check(self, published: PublishedRound, first: int) -> None:
        sealed = await self._replay.check(published)
        await self._check_certificate(published, thorough=sealed.round >= first)
        if self._keep is not None:
            await self._keep(published, sealed)
        self._replay.advance(sealed)
        self._state.apply(sealed)
        result = self.result
        result.rounds = sealed.round
        result.transactions += len(sealed.verdicts)
        result.approved += sum(verdict is None for verdict in sealed.verdicts)
        result.checkpoint_hash = sealed.checkpoint_hash
        if self._seen is not None:
            self._seen(published, result.certified_round == sealed.round)

    async def _check_certificate(self, published: PublishedRound, *, thorough: bool) -> None:
        stored, seats = published.stored, published.checkpoint.next_committee
        if stored.certificate is None:
            return
        keys = await self._source.public_keys([seat.key_id for seat in seats]) if seats else {}
        if thorough or seats:
            advance = partial(self._chain.advance, stored.checkpoint, stored.certificate, keys)
            try:
                try:
                    await self._compute(advance)
                except VerificationError:
                    # By another committee than the one in office: the operator's, perhaps.
                    if not await self._recover(stored.round):
                        raise
                    await self._compute(advance)
            except VerificationError as error:
                raise InvalidRound(stored.round, "certificate", str(error)) from error
        if self.result.certified_round == stored.round - 1:
            self.result.certified_round = stored.round

    async def _recover(self, round: int) -> bool:
        """Put committees in office that the operator's recoveries up to a round name; whether
        there are new ones."""
        known = len(self._recovered)
        for from_round, handover in await self._source.recoveries():
            if from_round <= round and handover not in self._recovered:
                await self._compute(self._chain.apply, handover)
                self._recovered.append(handover)
        return len(self._recovered) > known
