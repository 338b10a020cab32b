"""Segments that a city's own transactions announce, as the archiver notes them."""

from __future__ import annotations

from collections.abc import Iterable

from citychain import notes
from citychain._native.transactions import Transaction
from citychain.errors import VerificationError
from citychain.statements import Segment as Announcement

__all__ = ["announced_segments"]


def announced_segments(operator: bytes, approved: Iterable[Transaction]) -> dict[str, bytes]:
    """The notes of segments that approved transactions announce, by name.

    Args:
        operator: Key id of the server, whose word alone counts.
    """
    kept = {}
    for item in approved:
        if item.author != operator or item.content_type != Announcement.CONTENT_TYPE:
            continue
        if item.content is None:
            continue
        try:
            announcement = Announcement.from_bytes(item.content)
        except VerificationError:
            continue
        kept[notes.round_name(notes.SEGMENT, announcement.last)] = item.tx_id + item.content
    return kept
