"""Nodes approve tips: recent nodes that nothing has built on yet.

A node's parents are its declared dependencies and up to ``tips`` tips of the
last ``window`` rounds, picked by a hash of public data, so that anybody picks
the same::

    pick j = SHA-256("citychain/tip/v1\\0" || previous log root || tx_id || j as one byte)
             mod the number of tips, in order of (round, seq)

Where the window has no tip, the linked nodes of the latest round stand in;
before there are any, the genesis does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from citychain._native.transactions import Transaction
from citychain.dag.dependencies_only import dependency_parents
from citychain.dag.rules import LedgerRules
from citychain.ports import CityContext, RoundContext, StateView
from citychain.types import NodeRef, Parent, SealedNode

__all__ = ["RandomTips", "RandomTipsOptions"]


class RandomTipsOptions(BaseModel):
    """Options of `RandomTips`; pinned by the city's genesis."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tips: Annotated[int, Field(ge=1, le=4)] = 2
    """Tips that a node approves."""
    window: Annotated[int, Field(ge=1, le=16)] = 4
    """Rounds in which tips are looked for."""


class RandomTips(LedgerRules):
    """A DAG handler in which new nodes approve tips."""

    def __init__(self, options: RandomTipsOptions, city: CityContext) -> None:
        super().__init__(city)
        self.options = options

    async def parents(
        self,
        round: RoundContext,
        order: Sequence[Transaction],
        approved: Sequence[bool],
        dependencies: Mapping[bytes, SealedNode],
        state: StateView,
    ) -> Sequence[tuple[Parent, ...]]:
        """See `LedgerRules.parents`."""
        tips = await self._tips(round.round, state) or [NodeRef(0, 0, round.genesis)]
        return await self.city.compute(
            self._link, round, order, approved, dependency_parents(order, dependencies), tips
        )

    async def _tips(self, round: int, state: StateView) -> Sequence[NodeRef]:
        linked: dict[bytes, NodeRef] = {}
        for earlier in range(max(1, round - self.options.window), round):
            for node in await state.round_nodes(earlier):
                if node.rejection is not None:
                    continue
                for parent in node.parents:
                    linked.pop(parent.node_id, None)
                linked[node.ref.node_id] = node.ref
        return list(linked.values()) or await state.tips()

    def _link(
        self,
        round: RoundContext,
        order: Sequence[Transaction],
        approved: Sequence[bool],
        declared: Sequence[tuple[Parent, ...]],
        tips: Sequence[NodeRef],
    ) -> list[tuple[Parent, ...]]:
        seed = b"citychain/tip/v1\0" + round.previous_root
        linked: list[tuple[Parent, ...]] = []
        for transaction, fine, parents in zip(order, approved, declared, strict=True):
            if not fine:
                linked.append(())
                continue
            picks = (
                tips[
                    int.from_bytes(hashlib.sha256(seed + transaction.tx_id + bytes((j,))).digest())
                    % len(tips)
                ]
                for j in range(self.options.tips)
            )
            linked.append(tuple(dict.fromkeys((*parents, *picks))))
        return linked
