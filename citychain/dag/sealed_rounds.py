"""The default rule: rounds carry the order, edges carry dependency.

Parents of a node, in this order, without repeats, at most 8: each declared
dependency; the author's previous node; two linked nodes of the latest earlier
round that has any, picked by hash; the genesis where there is none of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from citychain._native import link
from citychain._native.transactions import Transaction
from citychain.dag.rules import LedgerRules
from citychain.ports import RoundContext, StateView
from citychain.types import Parent, SealedNode

__all__ = ["SealedRounds"]


class SealedRounds(LedgerRules):
    """The default DAG handler."""

    async def parents(
        self,
        round: RoundContext,
        order: Sequence[Transaction],
        approved: Sequence[bool],
        dependencies: Mapping[bytes, SealedNode],
        state: StateView,
    ) -> Sequence[tuple[Parent, ...]]:
        """See `LedgerRules.parents`."""
        return await self.city.compute(
            link.sealed_rounds_parents,
            genesis=round.genesis,
            round=round.round,
            previous_root=round.previous_root,
            order=order,
            approved=approved,
            dependencies={
                tx_id: node.ref for tx_id, node in dependencies.items() if node.rejection is None
            },
            latest=await state.latest(list({transaction.author for transaction in order})),
            tips=await state.tips(),
        )
