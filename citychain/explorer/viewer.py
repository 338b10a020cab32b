"""One browser that looks at a city."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from citychain.errors import InvalidRequest
from citychain.explorer.outbox import Outbox
from citychain.explorer.shown import text
from citychain.handler import TransactionEvent, TransactionStatus
from citychain.types import State

__all__ = ["Viewer", "event_shown"]

FOLLOWED_MAX: Final = 64
"""Transactions without a final state that one viewer follows."""


class Viewer:
    """What one is still to be told, and which transactions they follow."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self._followed: dict[bytes, TransactionEvent | None] = {}

    @property
    def followed(self) -> Sequence[bytes]:
        """Transactions that they follow, and that have no final state yet."""
        return [*self._followed]

    def follow(self, tx_ids: Sequence[bytes]) -> None:
        """Follow these, too.

        Raises:
            InvalidRequest: these would be too many, or what became of so many was not taken yet.
        """
        if self.outbox.transactions >= FOLLOWED_MAX:
            raise InvalidRequest("follow", "take first what became of those that are followed")
        if len({*self._followed, *tx_ids}) > FOLLOWED_MAX:
            raise InvalidRequest("follow", f"at most {FOLLOWED_MAX} transactions are followed")
        for tx_id in tx_ids:
            self._followed.setdefault(tx_id, None)

    def forget(self) -> None:
        """Look at another city, or at none."""
        self._followed.clear()
        self.outbox.clear()

    def sealed(self, events: Mapping[bytes, TransactionEvent]) -> None:
        """A round was sealed."""
        for tx_id in self._followed.keys() & events.keys():
            self._tell(events[tx_id])

    def approved(self, round: int) -> None:
        """All rounds up to this one are approved."""
        for event in [*self._followed.values()]:
            if event is not None and event.state == State.SEALED and event.round <= round:
                self._tell(event._replace(state=_final(event.code)))

    def stands(self, status: TransactionStatus) -> None:
        """Where one of the transactions was found."""
        node = status.node
        round, seq = (node.round, node.seq) if node else (0, 0)
        code = node.rejection.code if node and node.rejection else ""
        self._tell(TransactionEvent(status.tx_id, status.state, round, seq, code))

    def _tell(self, event: TransactionEvent) -> None:
        if event.tx_id not in self._followed:
            return
        known = self._followed[event.tx_id]
        if known is not None and known.state >= event.state:
            return
        self._followed[event.tx_id] = event
        if event.state in (State.APPROVED, State.REJECTED):
            del self._followed[event.tx_id]
        self.outbox.transaction(event.tx_id, text({"transaction": event_shown(event)}))


def _final(code: str) -> State:
    return State.REJECTED if code else State.APPROVED


def event_shown(event: TransactionEvent) -> dict[str, Any]:
    """A state that a transaction reached."""
    place = {"round": event.round, "seq": event.seq} if event.round else {}
    code = {"code": event.code} if event.code else {}
    return {"tx_id": event.tx_id, "state": event.state.name.lower()} | place | code
