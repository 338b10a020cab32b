"""One operator, one key: proof of history, and the operator's signature as certificate.

What it proves: the operator cannot show two people different histories without
both holding signed evidence of it. What it does not: that anybody else looked.
"""

from __future__ import annotations

from collections.abc import Sequence

from citychain import checkpoint
from citychain._native.transactions import Transaction
from citychain.consensus._durable import durable_hash
from citychain.consensus.steps import SealedByHistory
from citychain.crypto.keys import key_id
from citychain.errors import ConfigurationError, ConsensusError
from citychain.hooks.definitions import NoOptions
from citychain.ports import CityContext, Judgement, RoundContext, StateView, StoredRound
from citychain.types import Certificate, Vote

__all__ = ["Solo", "SoloOptions"]


class SoloOptions(NoOptions):
    """`Solo` has no options; the genesis says how many hashes a round takes."""


class Solo(SealedByHistory):
    """The consensus step ``solo``.

    Raises:
        ConfigurationError: the genesis names another committee than the operator alone.
    """

    def __init__(self, options: SoloOptions, city: CityContext) -> None:
        super().__init__(city)
        if city.operator is None:
            return
        self._key_id = key_id(city.operator.public_key)
        if [seat.key_id for seat in city.genesis.seats] != [self._key_id]:
            raise ConfigurationError(
                f"city {city.slug}: the genesis names another operator key than the one in use"
            )

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """Refuses nothing: whoever can sign is heard."""
        return Judgement(committee=self.city.genesis.seats)

    async def approve(self, round: StoredRound) -> Certificate:
        """Sign the checkpoint. The same round always gets the same signature.

        Raises:
            ConsensusError: storage has another checkpoint of this round.
        """
        assert self.city.operator is not None
        if await durable_hash(self.city, round.round) != round.checkpoint_hash:
            raise ConsensusError(f"storage has another checkpoint of round {round.round}")
        message = checkpoint.vote_message(self.city.genesis.id, round.round, round.checkpoint_hash)
        signature = await self.city.compute(
            self.city.operator.sign, message, checkpoint.VOTE_CONTEXT, deterministic=True
        )
        return Certificate(round.round, round.checkpoint_hash, (Vote(self._key_id, signature),))
