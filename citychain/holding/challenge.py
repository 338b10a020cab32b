"""What the checkpoint of a round asks of a holder: which of its fragments, and which chunk of each.

Nobody foresees a checkpoint, so nobody knows what to keep but who keeps everything. Everybody
computes the same from it; integers are big-endian::

    draw(n) = SHA-256("citychain/challenge/v1\\0" | checkpoint hash 32 | holder 32
                      | object id 32 | root 32 | index 2 | n 4)

Of a holder's fragments those are asked for whose draw(0) is least. The chunk is the first 8 bytes
of draw(1), modulo the number of chunks.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Mapping
from typing import Final

from citychain.ports import FragmentKey
from citychain.statements import ANSWERS_MAX, FRAGMENTS_MAX

__all__ = ["asked", "chunk_asked", "number_asked"]

_TAG: Final = b"citychain/challenge/v1\0"


def number_asked(held: int) -> int:
    """Of how many fragments a holder of so many is asked for a chunk: 3 for every 400 that it has,
    and for those left over."""
    return min(held, ANSWERS_MAX * -(-held // FRAGMENTS_MAX))


def asked(
    checkpoint_hash: bytes,
    holder: bytes,
    chunks: Mapping[FragmentKey, int],
    first: Collection[FragmentKey] = (),
) -> dict[FragmentKey, int]:
    """The chunk that is asked for, by fragment.

    Args:
        chunks: How many chunks each of the holder's fragments has; at least one.
        first: Those that are asked for before others, as far as the holder has them.
    """

    def rank(key: FragmentKey) -> tuple[bool, bytes]:
        return key not in first, _draw(checkpoint_hash, holder, key, 0)

    chosen = heapq.nsmallest(number_asked(len(chunks)), chunks, key=rank)
    return {key: chunk_asked(checkpoint_hash, holder, key, chunks[key]) for key in chosen}


def chunk_asked(checkpoint_hash: bytes, holder: bytes, key: FragmentKey, chunks: int) -> int:
    """Which of a fragment's chunks is asked for, if the fragment is."""
    return int.from_bytes(_draw(checkpoint_hash, holder, key, 1)[:8], "big") % chunks


def _draw(checkpoint_hash: bytes, holder: bytes, key: FragmentKey, n: int) -> bytes:
    fragment = key.object_id + key.root + key.index.to_bytes(2, "big")
    return hashlib.sha256(
        _TAG + checkpoint_hash + holder + fragment + n.to_bytes(4, "big")
    ).digest()
