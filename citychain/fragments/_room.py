"""How much room a store's limit leaves, counted by the process that puts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from citychain.errors import StoreFull

__all__ = ["Claim", "Room"]


class Claim:
    """Room for a fragment that is being put."""

    kept = False

    def keep(self) -> None:
        """The fragment is stored."""
        self.kept = True


class Room:
    """Bytes of the fragments that are there, and of those under way.

    Args:
        where: What a message calls the store.
        limit_mib: Most that fragments may take in all; ``None`` for as much as fits.
    """

    def __init__(self, where: str, limit_mib: int | None) -> None:
        self._where = where
        self.limit = None if limit_mib is None else limit_mib << 20
        self.used = 0

    @contextmanager
    def claim(self, size: int) -> Iterator[Claim]:
        """Count a fragment, unless it is not kept in the end.

        Raises:
            StoreFull: it does not fit.
        """
        if self.limit is not None and self.used + size > self.limit:
            raise StoreFull(
                f"{self._where} is full: a fragment needs {size} bytes, and {self.used} of "
                f"{self.limit} are used; raise limit_mib, or delete something"
            )
        self.used += size
        claim = Claim()
        try:
            yield claim
        finally:
            if not claim.kept:
                self.give_back(size)

    def give_back(self, size: int) -> None:
        """Do not count a fragment any more. What another process put was never counted here."""
        self.used = max(0, self.used - size)
