"""What became of many objects, added up."""

from __future__ import annotations

from dataclasses import dataclass

from citychain.fragments.manifest import fragment_bytes
from citychain.fragments.relocating import Outcome

__all__ = ["OutcomeSum"]


@dataclass(slots=True)
class OutcomeSum:
    """What was done in all, or would be."""

    objects: int = 0
    lost: int = 0
    """Of those whose stores all answered; else `troubles` has more."""
    made: int = 0
    moved: int = 0
    removed: int = 0
    missing: int = 0
    troubles: int = 0
    written: int = 0
    """Bytes of what was made and moved."""

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.objects += 1
        self.lost += bool(outcome.loss and not outcome.unanswered)
        self.made += len(outcome.made)
        self.moved += len(outcome.moved)
        self.removed += len(outcome.removed)
        self.missing += len(outcome.missing)
        self.troubles += len(outcome.troubles)
        if outcome.manifest is not None:
            size = fragment_bytes(outcome.manifest.layout)
            self.written += size * (len(outcome.made) + len(outcome.moved))
