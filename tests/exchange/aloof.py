"""A rule that knows nothing of other cities."""

from __future__ import annotations

from typing import ClassVar

from citychain.dag.sealed_rounds import SealedRounds


class Aloof(SealedRounds):
    """As one that a plugin wrote before cities spoke to each other."""

    settles: ClassVar[frozenset[str]] = frozenset()
