"""What a holder states when, and what of it goes into one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Final

from citychain.holding.recount import HoldingReceipt
from citychain.ports import FragmentKey
from citychain.statements import ANSWERS_MAX, FRAGMENTS_MAX, Answer, AnsweredChunk

__all__ = ["due_receipts", "packed", "parts"]

CONTENT_BYTES_MAX: Final = 63 << 10
"""Of an answer: a transaction has little more."""


def due_receipts(
    here: Set[FragmentKey], held: Mapping[FragmentKey, HoldingReceipt], now_ms: int, term_ms: int
) -> Set[FragmentKey]:
    """Fragments that want a receipt: those without; and once one has less than a third of its term
    left, all with less than two thirds, so that receipts do not come in ever smaller parts."""
    left = {key: held[key].until_ms - now_ms for key in here & held.keys()}
    due = here - left.keys()
    if left and 3 * min(left.values()) < term_ms:
        due |= {key for key, ms in left.items() if 3 * ms < 2 * term_ms}
    return due


def packed(round: int, chunks: Sequence[AnsweredChunk]) -> Iterator[tuple[AnsweredChunk, ...]]:
    """As many at a time as fit into a transaction."""
    pack: tuple[AnsweredChunk, ...] = ()
    for chunk in chunks:
        larger = (*pack, chunk)
        is_full = len(pack) == ANSWERS_MAX
        if pack and (is_full or _bytes_of(round, larger) > CONTENT_BYTES_MAX):
            yield pack
            larger = (chunk,)
        pack = larger
    if pack:
        yield pack


def _bytes_of(round: int, answers: tuple[AnsweredChunk, ...]) -> int:
    return len(Answer(challenge=round, answers=answers).encode())


def parts(keys: Collection[FragmentKey]) -> Iterator[list[FragmentKey]]:
    """Fragments in order, as many at a time as a receipt can have."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), FRAGMENTS_MAX):
        yield ordered[start : start + FRAGMENTS_MAX]
