"""Cities that an operator has pinned: their genesis files, as they stand in the ledger.

========================= ==========================================================
object                    value
========================= ==========================================================
``$peer/GENESIS/N``       the file's bytes from ``N * 16,384`` on, at most so many;
                          GENESIS is the id in hexadecimal, N decimal
``$peer-name/NETWORK/CITY``  the genesis id under which that city is pinned
========================= ==========================================================

A pinned file never changes: the id is its hash.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

from citychain.errors import ConfigurationError
from citychain.genesis import Genesis
from citychain.ports import Compute, StateView

__all__ = ["PEER_BYTES_MAX", "PEER_HASHES_MAX", "genesis_of", "peer_object", "pinned"]

PEER_BYTES_MAX: Final = 262_144
"""The longest genesis file that can be pinned."""
CHUNK_BYTES: Final = 16_384
PEER_HASHES_MAX: Final = 1 << 18
"""Hashes a round of a city that can be pinned: whoever judges its proofs repeats them."""


def peer_object(genesis: bytes, chunk: int = 0) -> str:
    """Object id of a piece of a pinned genesis file; that of the first says that it is pinned."""
    return f"$peer/{genesis.hex()}/{chunk}"


@lru_cache(64)
def genesis_of(file: bytes) -> Genesis | None:
    """A genesis, read from its file; ``None`` if that is none."""
    try:
        return Genesis.from_bytes(file)
    except ConfigurationError:
        return None


async def pinned(
    cities: Collection[bytes], needed: Collection[bytes], state: StateView, compute: Compute
) -> Mapping[bytes, Genesis | None]:
    """Those cities that are pinned, by genesis id.

    Args:
        needed: Those whose genesis is read; of the others it may be ``None``.
    """
    first = await state.objects([peer_object(city) for city in cities])
    found: dict[bytes, Genesis | None] = {
        city: None for city in cities if peer_object(city) in first
    }
    for city in needed:
        if city in found:
            names = [peer_object(city, n) for n in range(PEER_BYTES_MAX // CHUNK_BYTES)]
            pieces = await state.objects(names)
            file = b"".join(pieces[name].value for name in names if name in pieces)
            found[city] = await compute(genesis_of, file)
    return found
