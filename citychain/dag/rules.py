"""What every built-in DAG handler shares: which transactions are valid, and what they write.

Dependencies, object versions, balances and a city's own rule decide a verdict;
`LedgerRules.parents`, left to subclasses, decides the edges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from citychain._native import settle
from citychain._native.transactions import Transaction
from citychain.errors import ConsensusError
from citychain.ports import SETTLED_ACTIONS, CityContext, RoundContext, StateView
from citychain.statements import is_statement
from citychain.types import Decision, Parent, Rejection, SealedNode

__all__ = ["LedgerRules"]


class LedgerRules(ABC):
    """A DAG handler whose subclasses choose the parents.

    Args:
        city: The city it decides for.
    """

    settles: ClassVar[frozenset[str]] = SETTLED_ACTIONS
    """See `citychain.ports.settled_actions`. A subclass whose ``decide`` does not call the one
    here says otherwise."""

    def __init__(self, city: CityContext) -> None:
        self.city = city

    def validate(self, transaction: Transaction, round: RoundContext) -> Rejection | None:
        """A city's own rule; override it. ``None`` lets the transaction pass.

        Pure, and called in a worker thread, once for each candidate of a round, but for the
        operator's statements (`citychain.statements`), which a city is archived and paid by.
        It must not raise; the built-in rules follow whatever it says.
        """
        return None

    @abstractmethod
    async def parents(
        self,
        round: RoundContext,
        order: Sequence[Transaction],
        approved: Sequence[bool],
        dependencies: Mapping[bytes, SealedNode],
        state: StateView,
    ) -> Sequence[tuple[Parent, ...]]:
        """Parents of each sealed transaction, ``()`` for one that is not approved.

        Args:
            dependencies: By id, those of earlier rounds that somebody depends on.
        """

    async def decide(
        self,
        round: RoundContext,
        candidates: Sequence[Transaction],
        held_since: Sequence[int],
        refused: Mapping[int, Rejection],
        state: StateView,
    ) -> Decision:
        """See `citychain.ports.DagHandler.decide`."""
        if type(self).validate is not LedgerRules.validate:
            own = await self.city.compute(self._validate_all, candidates, round)
            refused = own | dict(refused)
        tx_ids, objects = await self.city.compute(settle.needs, candidates)
        dependencies = await state.find(tx_ids)
        settlement = await self.city.compute(
            settle.settle,
            round=round.round,
            time_ms=round.time_ms,
            hold_rounds=self.city.genesis.hold_rounds,
            candidates=candidates,
            held_since=held_since,
            refused=refused,
            dependencies={tx_id: node.rejection is None for tx_id, node in dependencies.items()},
            objects=await state.objects(objects),
        )
        order = [candidates[index] for index in settlement.order]
        verdicts = settlement.verdicts
        return Decision(
            order=order,
            verdicts=verdicts,
            parents=await self.parents(
                round, order, [verdict is None for verdict in verdicts], dependencies, state
            ),
            held=[candidates[index] for index in settlement.held],
            writes=settlement.writes,
        )

    def _validate_all(
        self, candidates: Sequence[Transaction], round: RoundContext
    ) -> dict[int, Rejection]:
        rejections: dict[int, Rejection] = {}
        operator = self.city.genesis.operator_id
        for index, candidate in enumerate(candidates):
            if candidate.author == operator and is_statement(
                candidate.content_type or "", candidate.content or b""
            ):
                continue
            try:
                rejection = self.validate(candidate, round)
            except Exception as error:
                raise self._fault(candidate, f"raised {error!r}") from error
            if isinstance(rejection, Rejection):
                rejections[index] = rejection
            elif rejection is not None:
                raise self._fault(candidate, f"returned {rejection!r}, not None or a Rejection")
        return rejections

    def _fault(self, transaction: Transaction, what: str) -> ConsensusError:
        rule = f"{type(self).__module__}.{type(self).__qualname__}.validate"
        return ConsensusError(f"{rule} {what} for transaction {transaction.tx_id.hex()}")
