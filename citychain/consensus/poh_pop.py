"""Proof of history, proof of place, and committees that are elected by stake.

The consensus step ``poh-pop``. Rounds are sealed as by ``solo``. Before they are ordered,
transactions are judged by what the author has shown of where they are; every epoch elects
the committee of the next from those who locked a stake; votes make the certificate. What each
part shows, and what it cannot, is in ``docs/consensus.md``; the layouts of what it keeps in
the ledger are in `citychain.presence` and `citychain.election`.
"""

from __future__ import annotations

from collections.abc import Sequence

from citychain import checkpoint
from citychain._native.transactions import Transaction
from citychain.consensus._poh_pop_options import PohPopOptions
from citychain.consensus._rejections import REJECTION_CODES
from citychain.consensus._round_rules import RoundRules
from citychain.crypto import poh
from citychain.crypto.keys import key_id
from citychain.errors import ConsensusError
from citychain.ports import (
    CityContext,
    Judgement,
    RoundContext,
    StateView,
    StoredRound,
)
from citychain.types import Certificate, PohEntry, Vote

__all__ = ["REJECTION_CODES", "PohPop", "PohPopOptions"]


class PohPop:
    """The consensus step ``poh-pop``.

    Where a city is only followed it judges, and neither seals nor approves.
    """

    def __init__(self, options: PohPopOptions, city: CityContext) -> None:
        self.city = city
        self._rules = RoundRules(options, city.genesis)

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """See `citychain.ports.ConsensusStep.judge`."""
        wanted = await self.city.compute(self._rules.want, round.round, candidates)
        before = await wanted.read(state)
        return await self.city.compute(self._rules.judge, round, candidates, before)

    async def seal(self, previous_poh: bytes, mixin: bytes) -> PohEntry:
        """See `citychain.ports.ConsensusStep.seal`."""
        num_hashes = self.city.genesis.num_hashes
        digest = await self.city.compute(poh.extend, previous_poh, num_hashes, mixin)
        return PohEntry(previous_poh, num_hashes, mixin, digest)

    async def approve(self, round: StoredRound) -> Certificate:
        """See `citychain.ports.ConsensusStep.approve`."""
        named = checkpoint.decode(round.checkpoint).committee
        seats = {seat.key_id: seat.stake for seat in named}
        keys = {key_id(key.public_key): key for key in self.city.representatives}
        stake = sum(seats.get(signer, 0) for signer in keys)
        if stake < checkpoint.quorum_stake(sum(seats.values()), self.city.genesis.quorum):
            raise ConsensusError("the keys inside the server are no quorum of the committee")
        message = checkpoint.vote_message(self.city.genesis.id, round.round, round.checkpoint_hash)
        votes = [
            Vote(
                signer,
                await self.city.compute(
                    keys[signer].sign, message, checkpoint.VOTE_CONTEXT, deterministic=True
                ),
            )
            for signer in sorted(keys.keys() & seats.keys())
        ]
        return Certificate(round.round, round.checkpoint_hash, tuple(votes))
