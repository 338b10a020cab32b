"""Reading and writing fixed layouts: big-endian integers and counted bytes."""

from __future__ import annotations

from citychain.errors import VerificationError
from citychain.types import PohEntry, Seat

__all__ = ["POH_BYTES", "Reader", "poh_bytes", "seats_bytes"]

POH_BYTES = 104
SEATS_MAX = 1_024


class Reader:
    """Reads a layout from its beginning.

    Every method raises `VerificationError` where the bytes end too early.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        end = self._at + length
        if end > len(self._data):
            raise VerificationError(f"{self._what}: ends after {len(self._data)} bytes")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def integer(self, length: int) -> int:
        """The next ``length`` bytes as an unsigned integer."""
        return int.from_bytes(self.take(length), "big")

    def text(self, length_bytes: int = 1) -> str:
        """A length of ``length_bytes`` bytes, then that many bytes of UTF-8."""
        try:
            return self.take(self.integer(length_bytes)).decode()
        except UnicodeDecodeError:
            raise VerificationError(f"{self._what}: not UTF-8") from None

    def poh(self) -> PohEntry:
        """A proof-of-history entry: prev 32, num_hashes 8, mixin 32, hash 32."""
        return PohEntry(self.take(32), self.integer(8), self.take(32), self.take(32))

    def seats(self) -> tuple[Seat, ...]:
        """Number of seats (2), then for each key id 32 and stake 8."""
        count = self.integer(2)
        if not 1 <= count <= SEATS_MAX:
            raise VerificationError(f"{self._what}: {count} seats; 1 to {SEATS_MAX} are allowed")
        return tuple(Seat(self.take(32), self.integer(8)) for _ in range(count))

    @property
    def left(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._data) - self._at

    def end(self) -> None:
        """Refuse bytes that follow."""
        if self._at != len(self._data):
            raise VerificationError(f"{self._what}: {len(self._data) - self._at} bytes too many")


def poh_bytes(entry: PohEntry) -> bytes:
    """The layout that `Reader.poh` reads."""
    return entry.prev + entry.num_hashes.to_bytes(8, "big") + entry.mixin + entry.hash


def seats_bytes(seats: tuple[Seat, ...]) -> bytes:
    """The layout that `Reader.seats` reads."""
    return len(seats).to_bytes(2, "big") + b"".join(
        seat.key_id + seat.stake.to_bytes(8, "big") for seat in seats
    )
