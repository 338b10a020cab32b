"""What a round's judgement reads of the ledger before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from citychain.ports import StateView
from citychain.types import ObjectState

__all__ = ["LedgerBefore", "Wanted"]


@dataclass(slots=True)
class Wanted:
    """What must be read before a round is judged, each once."""

    objects: set[str] = field(default_factory=set)
    rounds: set[int] = field(default_factory=set)
    """Whose checkpoint hashes are wanted."""

    async def read(self, state: StateView) -> LedgerBefore:
        """Read it, with one call for objects and one for hashes."""
        return LedgerBefore(
            await state.objects(sorted(self.objects)) if self.objects else {},
            await state.checkpoint_hashes(sorted(self.rounds)) if self.rounds else {},
        )


@dataclass(frozen=True, slots=True)
class LedgerBefore:
    """The read part of the ledger."""

    _objects: Mapping[str, ObjectState]
    _hashes: Mapping[int, bytes]

    def value(self, object: str) -> bytes:
        """Value of an object; empty where it does not exist."""
        state = self._objects.get(object)
        return state.value if state else b""

    def checkpoint_hash(self, round: int) -> bytes | None:
        """Hash of a committed round's checkpoint."""
        return self._hashes.get(round)

    def with_objects(self, more: Mapping[str, ObjectState]) -> LedgerBefore:
        """With further objects read."""
        return LedgerBefore({**self._objects, **more}, self._hashes)
