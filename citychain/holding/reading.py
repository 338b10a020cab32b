"""What of a round is recounted: its approved transactions that state something."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from citychain._native.transactions import Transaction
from citychain.city.replay import PublishedRound
from citychain.holding.recount import Recount, StatedTransaction
from citychain.statements import CONTENT_TYPES
from citychain.types import Verdict

__all__ = ["recounting", "stated"]


def stated(
    transactions: Sequence[Transaction], verdicts: Sequence[Verdict]
) -> list[StatedTransaction]:
    """Statements of a round, in order of seq.

    Args:
        transactions: Those that its record seals; any that follow are left out.
        verdicts: Its record's.
    """
    return [
        (it.tx_id, it.author, it.content_type, it.content)
        for it, verdict in zip(transactions, verdicts, strict=False)
        if verdict is None and it.content_type in CONTENT_TYPES and it.content is not None
    ]


def recounting(recount: Recount) -> Callable[[PublishedRound, bool], None]:
    """What an audit tells of each round: those that are certified are taken."""

    def seen(published: PublishedRound, certified: bool) -> None:
        if certified:
            decided, stored = published.record, published.stored
            statements = stated(published.transactions, decided.verdicts)
            recount.take(decided.round, decided.time_ms, stored.checkpoint_hash, statements)

    return seen
