"""How long to wait before what failed is tried again."""

from __future__ import annotations

from typing import Final

__all__ = ["pause_seconds"]

FIRST: Final = 0.1
LONGEST: Final = 5.0
DOUBLINGS_MAX: Final = 32
"""Bounds the power: failures in a row have no bound."""


def pause_seconds(failures: int, first: float = FIRST, longest: float = LONGEST) -> float:
    """Seconds after so many failures in a row: doubled each time, up to the longest."""
    return min(first * 2.0 ** min(failures - 1, DOUBLINGS_MAX), longest)
