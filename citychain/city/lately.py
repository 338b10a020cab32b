"""Which transactions got their place lately, whatever is read of them.

After a change of primary, a read of a shared storage may lag: what it says is pending was sealed a
moment ago. What is remembered here is longer than a lag, and is not sealed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

__all__ = ["SealedLately"]

ROUNDS_MAX: Final = 64
IDS_MAX: Final = 200_000


class SealedLately:
    """Ids that the latest rounds sealed, as many as the bounds allow."""

    def __init__(self, rounds: int = ROUNDS_MAX, ids: int = IDS_MAX) -> None:
        self._rounds_max = rounds
        self._ids_max = ids
        self._rounds: deque[Collection[bytes]] = deque()
        self._ids: set[bytes] = set()

    def __contains__(self, tx_id: bytes) -> bool:
        return tx_id in self._ids

    def add(self, tx_ids: Collection[bytes]) -> None:
        """A round sealed these; the oldest are forgotten, never those of the latest round."""
        if not tx_ids:
            return
        self._rounds.append(tx_ids)
        self._ids.update(tx_ids)
        while len(self._rounds) > self._rounds_max or (
            len(self._ids) > self._ids_max and len(self._rounds) > 1
        ):
            self._ids.difference_update(self._rounds.popleft())
