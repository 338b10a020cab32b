"""The Merkle tree of a city's log: RFC 6962 (and RFC 9162), section 2.

Leaves are counted from 0. Hashes are 32 bytes; several stand one after the other in one ``bytes``.
Appending needs a `Tree` alone, which is its size and at most 64 hashes. Storage keeps the leaf
hashes, and the hashes of the perfect subtrees over 256, 65,536, ... leaves that `Tree.append`
returns; from these, with few reads, comes any proof for any size::

    inclusion = [
        await subtree_hash(reader, begin, end) for begin, end in inclusion_ranges(index, size)
    ]
    consistency = [
        await subtree_hash(reader, begin, end) for begin, end in consistency_ranges(first, second)
    ]

The proofs for the size at which a round ended need no reads but the round's own leaves:
`round_inclusions`. What does not verify raises `citychain.errors.InvalidProof`.
"""

from __future__ import annotations

from typing import Protocol

from citychain._native.merkle import (
    Tree,
    consistency_ranges,
    fold,
    hash_children,
    hash_leaf,
    inclusion_ranges,
    leaf_hashes,
    range_reads,
    round_inclusions,
    verify_consistency,
    verify_inclusion,
)

__all__ = [
    "HashReader",
    "Tree",
    "consistency_ranges",
    "hash_children",
    "hash_leaf",
    "inclusion_ranges",
    "leaf_hashes",
    "round_inclusion",
    "round_inclusions",
    "subtree_hash",
    "verify_consistency",
    "verify_inclusion",
]


class HashReader(Protocol):
    """Where a log's hashes are stored. Only what exists is asked for."""

    async def leaf_hashes(self, begin: int, end: int) -> bytes:
        """Hashes of the leaves ``begin <= index < end``, 32 bytes each."""

    async def subtree_hashes(self, level: int, begin: int, end: int) -> bytes:
        """Hashes of the perfect subtrees of a level (8, 16, ...) with ``begin <= index < end``,
        32 bytes each. ``index`` is over leaves ``[index << level, (index + 1) << level)``."""


async def subtree_hash(reader: HashReader, begin: int, end: int) -> bytes:
    """The hash of the subtree over the leaves ``[begin, end)``: an element of a proof.

    It takes one read for each stored level: at most 255 hashes of each.

    Raises:
        ValueError: no subtree is over these leaves, or the reader gave another number of hashes.
    """
    hashes = []
    for level, first, last in range_reads(begin, end):
        if level:
            hashes.append(await reader.subtree_hashes(level, first, last))
        else:
            hashes.append(await reader.leaf_hashes(first, last))
    return fold(begin, end, b"".join(hashes))


def round_inclusion(peaks: bytes, first_index: int, leaf_hashes: bytes, index: int) -> list[bytes]:
    """`round_inclusions` of one leaf."""
    [proof] = round_inclusions(peaks, first_index, leaf_hashes, [index])
    return proof
