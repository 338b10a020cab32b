"""Leads one ledger along the committees of another city, so that proofs for it stay small.

A ledger knows the committees that proofs have shown (`citychain.exchange.terms`), and a proof
starts from any of them. What it does not know yet is shown by anchors of rounds on the way, each
with as many handovers as fit::

    the newest known ──▶ handovers ──▶ an anchor of a first round ──▶ known ──▶ …  ──▶ in office

Of the source's committees only ids and first rounds are kept. One that was in office in a round
that is certified stays as it is: so the list goes on from the last one before that, whatever is
doubted of the target, and begins anew only where a step was rejected.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from citychain.committee import Term, first_term
from citychain.errors import CitychainError
from citychain.exchange import terms
from citychain.exchange.neighbour import (
    REJECTED_SECONDS_MAX,
    Backoff,
    PeerCity,
    Sign,
    closing,
)
from citychain.exchange.proof import encode_certified, handover_bytes
from citychain.genesis import Genesis
from citychain.handler import Refusal
from citychain.ports import Clock, Compute
from citychain.types import Anchor, Handover

__all__ = ["STEP_BYTES", "Steps"]

logger = logging.getLogger(__name__)

STEP_BYTES: Final = 160 << 10
"""Handovers that go together, if the other city takes so much: with a certificate beside them
they fit into the default of a body."""
PROBED_TOGETHER: Final = 64


class Steps:
    """What the ledger of a target knows of the committees of a source.

    Args:
        source: Genesis of the city that proofs are from.
        target: Genesis id of the city that they are for.
        sign: Signs as the operator.
    """

    def __init__(
        self, source: Genesis, target: bytes, sign: Sign, compute: Compute, clock: Clock
    ) -> None:
        self._genesis = source
        self.target = target
        self._sign = sign
        self._compute = compute
        self._clock = clock
        self._lock = asyncio.Lock()
        self._step_bytes = STEP_BYTES
        self._doubted = False
        self._rejected = ""
        """Why the last step led nowhere."""
        self._rejections = Backoff(REJECTED_SECONDS_MAX)
        self._not_before = 0.0
        self._begin()

    def _begin(self) -> None:
        self._first_rounds = [1]
        self._ids = [self._genesis.id]
        self._known = {self._genesis.id}
        self._through = 0
        """Those in office up to this round are listed."""
        self._base, self._base_term = 0, first_term(self._genesis)
        """Where the list goes on; what is after it may have been replaced since."""

    def forget(self) -> None:
        """Believe nothing that was found of the target: something was rejected."""
        # Whoever is at it goes on with what he has found.
        self._doubted = True

    async def starts(
        self, source: PeerCity, target: PeerCity, rounds: Iterable[int]
    ) -> Mapping[int, bytes]:
        """What proofs of these rounds start from, without any handover.

        Args:
            rounds: Certified ones.

        Raises:
            CitychainError: the target does not come to know a committee.
        """
        return {round: (await self.way(source, target, round, room=0))[0] for round in set(rounds)}

    async def way(
        self, source: PeerCity, target: PeerCity, round: int, *, room: int
    ) -> tuple[bytes, Sequence[Handover]]:
        """What a proof of a certified round starts from, and the handovers after that, of at
        most ``room`` bytes; shows the target what is before them.

        Raises:
            CitychainError: the target does not come to know a committee.
        """
        async with self._lock:
            if self._rejected and self._clock.monotonic() >= self._not_before:
                self._rejected = ""
                self._begin()
            if self._doubted:
                self._doubted = False
                self._known = {self._genesis.id}
                self._through = 0
            if round > self._through:
                await self._list(source, round)
            at = bisect_right(self._first_rounds, round) - 1
            known = await self._newest_known(target, at)
            if known == at:
                return self._ids[at], ()
            if self._rejected:
                raise CitychainError(self._rejected)
            return await self._led(source, target, known, at, room)

    async def _led(
        self, source: PeerCity, target: PeerCity, known: int, at: int, room: int
    ) -> tuple[bytes, Sequence[Handover]]:
        """Show the target terms after one that it knows, until those up to another have room."""
        # Those of one round come together: one of them alone cannot be asked for.
        base = max(bisect_left(self._first_rounds, self._first_rounds[known + 1]), 1)
        skipped = known + 1 - base
        ahead: list[Handover] = []
        async with closing(source.handovers(self._after(base - 1))) as pages:
            async for page in pages:
                ahead += page[skipped:][: at - known - len(ahead)]
                skipped = max(skipped - len(page), 0)
                complete = len(ahead) == at - known
                while _bytes(ahead) > (room if complete else max(room, self._step_bytes)) and (
                    self._together(known, ahead)
                ):
                    shown = await self._step(source, target, known, ahead)
                    del ahead[: shown - known]
                    known = shown
                if complete:
                    return self._ids[known], ahead
        self._begin()
        raise CitychainError(f"{self._genesis.city} does not tell all changes of its committee")

    def _after(self, index: int) -> int:
        """The round after which to ask for what follows on a term."""
        return self._first_rounds[index] if index else 0

    async def _list(self, source: PeerCity, through: int) -> None:
        """Go along the source's committees, to the one in office in a certified round."""
        base, terms_ = self._base, [self._base_term]
        first_rounds, ids = self._first_rounds[: base + 1], self._ids[: base + 1]
        async with closing(source.handovers(self._after(base))) as pages:
            async for page in pages:
                found = await self._compute(_followed, self._genesis, terms_[-1], page)
                for term, id in found:
                    if term.first_round < first_rounds[-1]:
                        raise CitychainError(
                            f"{self._genesis.city} does not tell changes of its committee in order"
                        )
                    first_rounds.append(term.first_round)
                    ids.append(id)
                    terms_.append(term)
                # A recovery may replace the one in office yet, from the same round on.
                at = bisect_right(first_rounds, through) - 1
                before = max(bisect_left(first_rounds, first_rounds[at]) - 1, base)
                base, terms_ = before, terms_[before - base :]
        self._first_rounds, self._ids = first_rounds, ids
        self._base, self._base_term = base, terms_[0]
        self._through = through

    async def _newest_known(self, target: PeerCity, at: int) -> int:
        """Index of the newest term up to one that the target's ledger has."""
        end = at + 1
        while self._ids[end - 1] not in self._known:
            begin = max(0, end - PROBED_TOGETHER)
            names = {
                terms.term_object(self._genesis.id, id): id
                for id in self._ids[begin:end]
                if id not in self._known
            }
            self._known.update(names[name] for name in await target.objects(list(names)))
            while end > begin and self._ids[end - 1] not in self._known:
                end -= 1
        return end - 1

    async def _step(
        self, source: PeerCity, target: PeerCity, known: int, handovers: Sequence[Handover]
    ) -> int:
        """Show the target some of the terms after one that it knows; the index of the last."""
        while True:
            count = self._together(known, handovers)
            stored = await source.round(self._first_rounds[known + count])
            if stored.certificate is None:
                raise CitychainError(f"round {stored.round} is not certified")
            proof = await self._compute(
                encode_certified, self._ids[known], stored.certificate, handovers[:count]
            )
            anchor = Anchor(self._genesis.id, stored.checkpoint, proof)
            [signed] = await self._sign(self.target, [anchor], [()])
            [result] = await target.submit([signed.envelope])
            if not isinstance(result, Refusal):
                break
            if result.code != "TOO_LARGE" or self._together(known, handovers, least=True) == count:
                raise CitychainError(f"{result.code}: {result.detail}")
            self._step_bytes = _bytes(handovers[:count]) // 2
        await target.wait([signed.tx_id])
        shown = known + count
        if await self._newest_known(target, shown) != shown:
            # Each of them stays in the target's ledger.
            self._not_before = self._clock.monotonic() + self._rejections.seconds()
            self._rejected = (
                f"it does not come to know the committee of round {stored.round} of "
                f"{self._genesis.city}: see what became of {signed.tx_id.hex()} there"
            )
            raise CitychainError(self._rejected)
        self._rejections.reset()
        logger.info(
            "%s knows the committee of %s from round %d on",
            self.target.hex()[:16],
            self._genesis.city,
            stored.round,
        )
        return shown

    def _together(self, known: int, handovers: Sequence[Handover], *, least: bool = False) -> int:
        """How many handovers go in one step, at least one of whose committees certified a round;
        0 if none of them is known to have."""
        best, size = 0, 0
        for count, handover in enumerate(handovers, 1):
            size += handover_bytes(handover)
            if best and (least or size > self._step_bytes):
                break
            index = known + count
            following = self._first_rounds[index + 1 : index + 2]
            # One that was replaced before its first round certified nothing.
            if not following or following[0] > self._first_rounds[index]:
                best = count
        return best


def _bytes(handovers: Sequence[Handover]) -> int:
    return sum(map(handover_bytes, handovers))


def _followed(
    genesis: Genesis, start: Term, handovers: Sequence[Handover]
) -> list[tuple[Term, bytes]]:
    """The terms after one, with their ids; without keys and handovers, which take most room."""
    return [
        (replace(term, public_keys={}, handover=None), terms.term_id(genesis, term))
        for term in terms.follow(genesis, start, handovers)
    ]
