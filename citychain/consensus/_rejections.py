"""The codes with which ``poh-pop`` rejects, and what each means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from citychain.types import Rejection

__all__ = ["REJECTION_CODES", "reject"]

REASON_BYTES_MAX: Final = 255

REJECTION_CODES: Final[Mapping[str, str]] = {
    # Of whoever must have shown where they are.
    "NO_PRESENCE": "the author has shown no presence in this city",
    "PRESENCE_EXPIRED": "the author's last presence does not hold any more",
    # Of a presence.
    "BAD_WINDOW": "the presence is not made for this round",
    "INACCURATE": "the position is less accurate than this city asks",
    "OUTSIDE_REGION": "the position lies outside the city",
    "TOO_MANY_PRESENCES": "the key has enough presences in this round",
    "WITNESSES_MISSING": "fewer registered witnesses signed than this city asks",
    "IMPOSSIBLE_TRAVEL": "the key cannot have travelled here in that time",
    # Of stakes and the committee.
    "WRONG_ASSET": "stakes of this city are in another asset",
    "STAKE_TOO_SMALL": "the stake would be below the least that this city asks",
    "NO_STAKE": "the key has not as much stake",
    "STAKE_BUSY": "another candidacy or withdrawal of the key stands in this round",
    "CANDIDATES_FULL": "the city has as many candidates as it takes",
    "SERVING": "the key is in office, or stands in an election that is not decided yet",
    "EXCLUDED": "the key is proven to have signed two checkpoints of one round",
    "EQUIVOCATION_UNPROVEN": "this does not prove that a representative signed two checkpoints",
    "NOT_OPERATOR": "only the operator can do this",
    "RECOVERY_MISFIT": "the recovery does not fit where the ledger stands",
}
"""What each code that ``poh-pop`` gives means."""


def reject(code: str, reason: str) -> Rejection:
    """A rejection whose reason fits, in whole characters."""
    assert code in REJECTION_CODES
    return Rejection(code, reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore"))
