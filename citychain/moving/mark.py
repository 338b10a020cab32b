"""The note by which a storage knows whether it is where a city lives: ``home``.

It is, where there is no such note or an empty one. Integers big-endian::

    state 1 | id of the move 16 | round 8 | checkpoint hash 32 | name of the other storage, UTF-8

State 1: the city moved away to the other storage; the round is the last that it had then. State 2:
it is being copied to here from the other storage, or, where that has no name, rebuilt here from its
archive, or is a backup; round and hash are 0. The note is the storage's own, and not copied.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from citychain.errors import VerificationError
from citychain.layout import Reader

__all__ = ["REBUILDING", "UNFINISHED", "HomeNote", "decode_home", "home_bytes"]

REBUILDING: Final = ""
"""Where it comes from, while it is rebuilt from its archive, and in a backup."""


class HomeNote(NamedTuple):
    """Why a storage that has a city is not where it lives."""

    moved: bool
    """It moved away from here; else it is being copied to here."""
    move: bytes
    """Id of the move, 16 bytes."""
    round: int
    """The last round when it moved away, else 0."""
    checkpoint_hash: bytes
    """Of that round; 32 zero bytes where there was none."""
    other: str
    """Name of the storage that it moved to, or comes from."""


def home_bytes(note: HomeNote) -> bytes:
    """See the layout above."""
    state = b"\1" if note.moved else b"\2"
    return b"".join(
        (state, note.move, note.round.to_bytes(8, "big"), note.checkpoint_hash, note.other.encode())
    )


UNFINISHED: Final = home_bytes(HomeNote(False, bytes(16), 0, bytes(32), REBUILDING))
"""The note of what no server is to open, and `citychain restore-city` finishes."""


def decode_home(note: bytes) -> HomeNote | None:
    """What `home_bytes` makes; ``None`` of an empty note.

    Raises:
        VerificationError: it is not in this layout.
    """
    if not note:
        return None
    reader = Reader(note, "home note")
    if (state := reader.integer(1)) not in (1, 2):
        raise VerificationError(f"home note: state {state} is unknown")
    move, round, checkpoint_hash = reader.take(16), reader.integer(8), reader.take(32)
    try:
        other = note[57:].decode()
    except UnicodeDecodeError:
        raise VerificationError("home note: not UTF-8") from None
    return HomeNote(state == 1, move, round, checkpoint_hash, other)
