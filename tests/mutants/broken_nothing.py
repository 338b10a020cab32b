"""What `bite` must not take for a caught mutant."""

from __future__ import annotations

from dataclasses import replace

from biting import Mutant
from broken_storage import Suite, forgetting

from citychain.storage.memory import MemoryCity
from citychain.testing.conformance._elsewhere import FAILED

__all__ = ["MUTANTS", "Suite"]

WHOLE = forgetting(MemoryCity)
CHECK = "test_a_new_city_is_empty"


class Misspelt(MemoryCity):
    async def head(self):
        return self._haed


def not_made(options, context):
    raise OSError("no such backend")


class DiesElsewhere(MemoryCity):
    async def head(self):
        raise AssertionError(f"{FAILED}: a mistake in the test")


MUTANTS = [
    Mutant("does all right", WHOLE, CHECK),
    Mutant("is broken by mistake", forgetting(Misspelt), CHECK),
    Mutant("fails elsewhere", forgetting(DiesElsewhere), CHECK),
    Mutant("cannot be made", replace(WHOLE, factory=not_made), CHECK),
    Mutant("has no such check", WHOLE, "test_nothing"),
]
