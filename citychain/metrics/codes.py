"""Bounds of labels whose values others choose."""

from __future__ import annotations

from typing import Final

__all__ = ["OTHER", "Codes"]

OTHER: Final = "OTHER"


class Codes:
    """The first so many different codes keep their name, all further ones are `OTHER`."""

    def __init__(self, most: int) -> None:
        self._room = most
        self._known: set[str] = set()

    def __call__(self, code: str) -> str:
        """Under which a code is counted."""
        if code not in self._known:
            if len(self._known) >= self._room:
                return OTHER
            self._known.add(code)
        return code
