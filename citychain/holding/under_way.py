"""What a holder submitted, until a round says what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from citychain.city.retry import pause_seconds
from citychain.ports import Clock, FragmentKey
from citychain.types import Rejection, Verdict

__all__ = ["UnderWay"]

REJECTED_SECONDS: Final = 5.0
REJECTED_SECONDS_MAX: Final = 300.0
"""What is rejected stands in the ledger, so another one is not to follow soon."""


class UnderWay:
    """What is in no round yet.

    After a rejection one at a time is tried, each later than the one before, until a round
    approves one again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._claims: dict[bytes, Collection[FragmentKey]] = {}
        """By transaction id."""
        self._answers: dict[bytes, tuple[int, Collection[FragmentKey]]] = {}
        """Likewise, with the round of the challenge."""
        self._rejections = 0
        """In a row."""
        self._not_before = float("-inf")

    @property
    def may_submit(self) -> bool:
        """Whether something may be submitted now."""
        return self._clock.monotonic() >= self._not_before

    def submitted(self) -> None:
        """Something is being submitted."""
        if self._rejections:
            self._rest()

    def claim(self, tx_id: bytes, keys: Collection[FragmentKey]) -> None:
        """A receipt for these was submitted, or one that takes them back."""
        self._claims[tx_id] = keys

    def answer(self, tx_id: bytes, round: int, keys: Collection[FragmentKey]) -> None:
        """An answer to the challenge of a round was submitted."""
        self._answers[tx_id] = (round, keys)

    def seen(self, verdicts: Mapping[bytes, Verdict]) -> list[Rejection]:
        """A round says these of its transactions; returns why ours were rejected."""
        known = [tx_id for tx_id in self.tx_ids if tx_id in verdicts]
        for tx_id in known:
            self._claims.pop(tx_id, None)
            self._answers.pop(tx_id, None)
        rejected = [it for tx_id in known if (it := verdicts[tx_id]) is not None]
        if rejected:
            self._rejections += 1
            self._rest()
        elif known:
            self._rejections, self._not_before = 0, float("-inf")
        return rejected

    @property
    def tx_ids(self) -> list[bytes]:
        """Of all that is under way."""
        return [*self._claims, *self._answers]

    @property
    def claimed(self) -> set[FragmentKey]:
        """For which a receipt is under way."""
        return {key for keys in self._claims.values() for key in keys}

    def answered(self, round: int) -> set[FragmentKey]:
        """For which an answer to the challenge of a round is."""
        return {key for of, keys in self._answers.values() if of == round for key in keys}

    def _rest(self) -> None:
        pause = pause_seconds(self._rejections, REJECTED_SECONDS, REJECTED_SECONDS_MAX)
        self._not_before = self._clock.monotonic() + pause
