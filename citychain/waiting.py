"""What a city waits for, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from citychain.ports import CommitteeStatus
    from citychain.types import ConflictingVotes, Objection

__all__ = ["conflict_in_words", "objection_in_words", "short", "wait_in_words"]

NAMED_MAX: Final = 4
"""Representatives that one line names."""


def short(key_id: bytes) -> str:
    """A key id's beginning, enough to tell a committee's members apart."""
    return f"{key_id.hex()[:12]}…"


def objection_in_words(objection: Objection) -> str:
    """Who objects to what, and why. The text is a stranger's: it stays on its line."""
    check, detail = map(_printable, (objection.check, objection.detail))
    why = f"{check}: {detail}" if detail else check
    return f"{short(objection.key_id)} objects to round {objection.round}: {why}"


def conflict_in_words(conflict: ConflictingVotes) -> str:
    """Who signed two checkpoints of which round."""
    first = conflict.first
    return f"{short(first.vote.key_id)} signed two checkpoints of round {first.round}"


def wait_in_words(status: CommitteeStatus) -> str:
    """What the committee's first round without a certificate waits for."""
    total = sum(member.stake for member in status.members)
    silent = [member for member in status.members if member.last_round < status.round]
    words = [
        f"round {status.round} waits for its certificate: stake {status.stake_for} of {total} "
        f"signed, {status.stake_needed} needed"
    ]
    if unheard := [short(member.key_id) for member in silent if member.objection is None]:
        more = f" and {len(unheard) - NAMED_MAX} more" if len(unheard) > NAMED_MAX else ""
        words.append(f"silent: {', '.join(unheard[:NAMED_MAX])}{more}")
    objections = [member.objection for member in silent if member.objection is not None]
    words += map(objection_in_words, objections[:NAMED_MAX])
    return "; ".join(words)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text).strip()
