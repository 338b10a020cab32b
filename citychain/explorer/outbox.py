"""What waits to be sent to one viewer: bounded, whatever happens in the city."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

__all__ = ["Outbox"]

ROUNDS_MAX: Final = 8
"""Rounds that wait for a viewer; of more the oldest are skipped."""
CERTIFIED_MAX: Final = 64
"""A later one says as much of state as those before it."""


class Outbox:
    """Texts in the order in which they are to be sent.

    What is skipped is told with the next round: its text is the same for all viewers but for that.
    """

    def __init__(self) -> None:
        self._start: str | None = None
        self._rounds: deque[str] = deque()
        self._certified: deque[str] = deque(maxlen=CERTIFIED_MAX)
        self._transactions: dict[bytes, str] = {}
        self._latest: dict[str, str] = {}
        self._skipped = 0
        self._filled = asyncio.Event()

    def start(self, text: str) -> None:
        """Begin anew: nothing that waits of rounds is sent any more."""
        self._rounds.clear()
        self._certified.clear()
        self._latest.clear()
        self._skipped = 0
        self._start = text
        self._filled.set()

    def clear(self) -> None:
        """Send nothing of what waits."""
        self.start("")
        self._start = None
        self._transactions.clear()

    def round(self, text: str) -> bool:
        """A round; returns whether an older one was skipped for it."""
        full = len(self._rounds) == ROUNDS_MAX
        if full:
            self._rounds.popleft()
            self._skipped += 1
        self._rounds.append(text)
        self._filled.set()
        return full

    def certified(self, text: str) -> None:
        """A round was certified."""
        self._certified.append(text)
        self._filled.set()

    @property
    def transactions(self) -> int:
        """Of how many transactions a state waits; who follows bounds it."""
        return len(self._transactions)

    def transaction(self, tx_id: bytes, text: str) -> None:
        """A transaction that is followed reached a state, which replaces one that waits."""
        self._transactions[tx_id] = text
        self._filled.set()

    def latest(self, kind: str, text: str) -> None:
        """Something of which only the latest matters."""
        self._latest[kind] = text
        self._filled.set()

    async def next(self) -> str:
        """What is to be sent next; waits for it."""
        while (text := self._take()) is None:
            self._filled.clear()
            await self._filled.wait()
        return text

    def _take(self) -> str | None:
        if (start := self._start) is not None:
            self._start = None
            return start
        if self._rounds:
            text = self._rounds.popleft()
            if skipped := self._skipped:
                self._skipped = 0
                text = f'{text[:-1]},"skipped":{skipped}}}'
            return text
        if self._certified:
            return self._certified.popleft()
        if self._transactions:
            return self._transactions.pop(next(iter(self._transactions)))
        if self._latest:
            return self._latest.pop(next(iter(self._latest)))
        return None
