"""The sparsest rule: a node's parents are the dependencies that it declared.

For ledgers whose applications say all there is to say about order. A node
without dependencies hangs on the genesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from citychain._native.transactions import Transaction
from citychain.dag.rules import LedgerRules
from citychain.ports import RoundContext, StateView
from citychain.types import NodeRef, Parent, SealedNode

__all__ = ["DependenciesOnly", "dependency_parents"]


class DependenciesOnly(LedgerRules):
    """A DAG handler that links declared dependencies and nothing else."""

    async def parents(
        self,
        round: RoundContext,
        order: Sequence[Transaction],
        approved: Sequence[bool],
        dependencies: Mapping[bytes, SealedNode],
        state: StateView,
    ) -> Sequence[tuple[Parent, ...]]:
        """See `LedgerRules.parents`."""
        genesis = (NodeRef(0, 0, round.genesis),)
        return [
            parents or genesis if linked else ()
            for parents, linked in zip(
                dependency_parents(order, dependencies), approved, strict=True
            )
        ]


def dependency_parents(
    order: Sequence[Transaction], dependencies: Mapping[bytes, SealedNode]
) -> list[tuple[Parent, ...]]:
    """The declared dependencies of each as parents: an earlier seq of this round or a node."""
    seqs = {transaction.tx_id: seq for seq, transaction in enumerate(order)}
    return [
        tuple(
            dependencies[tx_id].ref if tx_id in dependencies else seqs[tx_id]
            for tx_id in transaction.depends_on
            if (tx_id in dependencies and dependencies[tx_id].rejection is None) or tx_id in seqs
        )
        for transaction in order
    ]
