"""What a holder tells of its work."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from citychain.ports import FragmentKey

__all__ = ["Answered", "Claimed", "Deed", "Missed", "Refused", "TakenBack", "Unproven"]


class Claimed(NamedTuple):
    """Receipts were submitted for so many fragments."""

    fragments: int
    until_ms: int


class TakenBack(NamedTuple):
    """Receipts for so many fragments were taken back: they are not there any more, or wrong."""

    fragments: int


class Answered(NamedTuple):
    """Chunks that the challenge of a round asked for were submitted."""

    round: int
    chunks: int


class Unproven(NamedTuple):
    """A chunk cannot be proven now."""

    round: int
    """Of the challenge that asks for it; 0 where it was tried before the fragment is signed for."""
    key: FragmentKey
    chunk: int
    detail: str
    lost: bool
    """Whether the fragment is gone or wrong; else a store does not answer."""


class Missed(NamedTuple):
    """Not everything was answered in time that was asked for last."""

    last_round: int
    """In which an answer to the last challenge that was over counted."""
    fragments: int
    """With a receipt, that do not count as proven until they are answered for."""
    silent: bool
    """Whether nothing at all was answered in that challenge: then none with a receipt counts."""


class Refused(NamedTuple):
    """The city did not take what was submitted; it is tried again."""

    code: str
    detail: str


Deed: TypeAlias = Claimed | TakenBack | Answered | Unproven | Missed | Refused
