"""Proof of history, proof of place, and committees that are elected by stake.

The consensus step ``poh-pop``. Rounds are sealed as by ``solo``. Before they are ordered,
transactions are judged by what the author has shown of where they are; every epoch elects
the committee of the next from those who locked a stake; votes make the certificate. What each
part shows, and what it cannot, is in ``docs/consensus.md``; the layouts of what it keeps in
the ledger are in `citychain.presence` and `citychain.election`.
"""

from __future__ import annotations

from collections.abc import Sequence

from citychain._native.transactions import Transaction
from citychain.consensus._poh_pop_options import Event, PohPopOptions
from citychain.consensus._rejections import REJECTION_CODES
from citychain.consensus._round_rules import RoundRules
from citychain.consensus.steps import ApprovedByVotes
from citychain.ports import (
    CityContext,
    Judgement,
    RoundContext,
    StateView,
)

__all__ = ["REJECTION_CODES", "Event", "PohPop", "PohPopOptions"]


class PohPop(ApprovedByVotes):
    """The consensus step ``poh-pop``.

    Where a city is only followed it judges, and neither seals nor approves.
    """

    def __init__(self, options: PohPopOptions, city: CityContext) -> None:
        super().__init__(city)
        self._rules = RoundRules(options, city.genesis)

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """See `citychain.ports.ConsensusStep.judge`."""
        wanted = await self.city.compute(self._rules.want, round.round, candidates)
        before = await wanted.read(state)
        if more := self._rules.want_more(round.round, before):
            before = before.with_objects(await state.objects(more))
        return await self.city.compute(self._rules.judge, round, candidates, before)
