"""Leads one ledger along the committees of another city, so that proofs for it stay small.

A ledger knows the committees that proofs have shown (`citychain.exchange.terms`), and a proof
starts from any of them. What it does not know yet is shown by anchors of rounds on the way, each
with as many handovers as fit::

    the newest known ──▶ handovers ──▶ an anchor of a first round ──▶ known ──▶ …  ──▶ in office
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
from citychain.exchange.neighbour import PeerCity, Sign
from citychain.exchange.proof import encode_certified, handover_bytes
from citychain.genesis import Genesis
from citychain.handler import Refusal
from citychain.ports import Compute
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

    def __init__(self, source: Genesis, target: bytes, sign: Sign, compute: Compute) -> None:
        self._genesis = source
        self.target = target
        self._sign = sign
        self._compute = compute
        self._lock = asyncio.Lock()
        self._step_bytes = STEP_BYTES
        self.forget()

    def forget(self) -> None:
        """Believe nothing that was found before: something was rejected."""
        self._terms = [first_term(self._genesis)]
        self._ids = [self._genesis.id]
        self._known = {self._genesis.id}
        self._through = 0

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
            if round > self._through:
                await self._list(source, target)
                self._through = round
            at = bisect_right(self._terms, round, key=_first_round) - 1
            known = await self._newest_known(target, at)
            if known == at:
                return self._ids[at], ()
            # Those of one round come together: one of them alone cannot be asked for.
            first = self._terms[known + 1].first_round
            base = max(bisect_left(self._terms, first, key=_first_round), 1)
            handovers = await source.handovers(self._after(base - 1))
            handovers = handovers[: at + 1 - base]
            while sum(map(handover_bytes, handovers[known + 1 - base :])) > room:
                known = await self._step(source, target, known, handovers[known + 1 - base :])
            return self._ids[known], handovers[known + 1 - base :]

    def _after(self, index: int) -> int:
        """The round after which to ask for what follows on a term."""
        return self._terms[index].first_round if index else 0

    async def _list(self, source: PeerCity, target: PeerCity) -> None:
        """Go along the source's committees, from one that the target knows."""
        newest = max(index for index, id in enumerate(self._ids) if id in self._known)
        # A recovery may have replaced it since, from the same round on.
        first = self._terms[newest].first_round
        base = max(bisect_left(self._terms, first, key=_first_round) - 1, 0)
        handovers = await source.handovers(self._after(base))
        found = await self._compute(
            _followed, self._genesis, self._terms[base], self._ids[base], handovers
        )
        self._terms[base + 1 :] = [term for term, _ in found]
        self._ids[base + 1 :] = [id for _, id in found]

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
            stored = await source.round(self._terms[known + count].first_round)
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
            self._step_bytes = sum(map(handover_bytes, handovers[:count])) // 2
        await target.wait([signed.tx_id])
        shown = known + count
        if await self._newest_known(target, shown) != shown:
            raise CitychainError(
                f"it does not come to know the committee of round {stored.round} of "
                f"{self._genesis.city}: see what became of {signed.tx_id.hex()} there"
            )
        logger.info(
            "%s knows the committee of %s from round %d on",
            self.target.hex()[:16],
            self._genesis.city,
            stored.round,
        )
        return shown

    def _together(self, known: int, handovers: Sequence[Handover], *, least: bool = False) -> int:
        """How many handovers go in one step, at least one of whose committees certified a round."""
        best, size = 0, 0
        for count, handover in enumerate(handovers, 1):
            size += handover_bytes(handover)
            if best and (least or size > self._step_bytes):
                break
            following = self._terms[known + count + 1 : known + count + 2]
            # One that was replaced before its first round certified nothing.
            if not following or following[0].first_round > self._terms[known + count].first_round:
                best = count
        return best


def _first_round(term: Term) -> int:
    return term.first_round


def _followed(
    genesis: Genesis, start: Term, start_id: bytes, handovers: Sequence[Handover]
) -> list[tuple[Term, bytes]]:
    """The terms after one, with their ids; without keys and handovers, which take most room."""
    return [
        (replace(term, public_keys={}, handover=None), terms.term_id(genesis, term))
        for term in terms.follow(genesis, start, handovers)
    ]
