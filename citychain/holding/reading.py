"""Between a city's rounds and the recount, and between the recount and the stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from citychain._native.transactions import Transaction
from citychain.city.replay import PublishedRound
from citychain.holding.recount import Recount, StatedTransaction
from citychain.ports import FragmentKey
from citychain.statements import CONTENT_TYPES
from citychain.types import Verdict

__all__ = ["recounting", "stated", "unproven"]


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


def unproven(
    recount: Recount, holders: Mapping[str, bytes], at_ms: int
) -> frozenset[tuple[str, FragmentKey]]:
    """What is to be put elsewhere, since its holder is not proven to have it any more.

    Args:
        holders: By the name of a store, the key that proves what is in it.
    """
    return frozenset(
        (store, key) for store, holder in holders.items() for key in recount.lapsed(holder, at_ms)
    )
