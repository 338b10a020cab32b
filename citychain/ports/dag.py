"""The port of a DAG rule: order, validity and parents of a city's transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from citychain._native.transactions import Transaction
    from citychain.ports.context import RoundContext, StateView
    from citychain.types import Decision, Rejection

__all__ = ["EXCHANGE_ACTIONS", "SETTLED_ACTIONS", "DagHandler", "settled_actions"]

EXCHANGE_ACTIONS: Final = frozenset(("peer", "remittance", "delivery", "settlement", "anchor"))
"""Actions that another city has a part in."""
SETTLED_ACTIONS: Final = EXCHANGE_ACTIONS | {"reward"}
"""Actions that mean nothing under a rule that does not settle them."""


class DagHandler(Protocol):
    """Decides order, validity and parents of a city's transactions. Pure.

    What is between cities, and rewards, it is only given if it says that it settles that: see
    `settled_actions`.
    """

    async def decide(
        self,
        round: RoundContext,
        candidates: Sequence[Transaction],
        held_since: Sequence[int],
        refused: Mapping[int, Rejection],
        state: StateView,
    ) -> Decision:
        """Decide one round.

        Args:
            candidates: Without repeats: first those held in earlier rounds,
                then new ones in arrival order.
                Who repeats the round has the new ones in the order that was decided.
            held_since: For each candidate the round that first held it, 0 if new.
            refused: Verdicts of the consensus step by index into ``candidates``.
            state: The ledger before this round.

        Each candidate is in the result once, sealed or held, and a held one is
        sealed within `Genesis.hold_rounds` rounds.
        """


def settled_actions(rule: DagHandler) -> frozenset[str]:
    """Which of `SETTLED_ACTIONS` a rule settles, as docs/protocol.md, section 10, says.

    They are in its attribute ``settles``. Without one it settles none, and transactions with
    such an action are refused before it sees them: it would approve that amounts leave for
    another city, come from there or are paid, and move nothing. `citychain.LedgerRules` settles
    all.
    """
    settles = getattr(rule, "settles", None)
    return settles & SETTLED_ACTIONS if isinstance(settles, frozenset) else frozenset()
