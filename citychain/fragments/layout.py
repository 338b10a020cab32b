"""How an object is cut into stripes and chunks, and where these lie in its fragments.

With k data and m parity fragments and chunks of C bytes, an object is cut into stripes of k * C
bytes. Chunk i of a stripe is its bytes from i * C on, and goes to fragment i; the m chunks of its
parity go to fragments k to k + m - 1. The last stripe, of r bytes, has chunks of r / k bytes,
rounded up to a whole and then to an even number; what it lacks to k such chunks is zeros.

A fragment as it is stored, integers big-endian::

    chunks | their leaf hashes, 32 each | manifest | index 2 | bytes of the manifest 4 | magic 22

Every length follows from k, m, C and the size of the object, so that a fragment is written in one
go and any chunk of it is found without reading the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from citychain.crypto.erasure import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, FRAGMENTS_MAX

__all__ = [
    "CHUNKS_MAX",
    "CHUNKS_MAX_IN_ALL",
    "HASH_BYTES",
    "STRIPE_BYTES_MAX",
    "Layout",
    "Run",
    "Shape",
]

CHUNKS_MAX: Final = 1 << 21
"""Of one fragment. Their hashes are held in memory, by who stores and by who restores: 64 MiB."""
CHUNKS_MAX_IN_ALL: Final = 1 << 23
"""Of all fragments together: 256 MiB of hashes."""
STRIPE_BYTES_MAX: Final = 64 << 20
"""Of data and parity. A stripe is in memory, by who stores, restores or checks."""
HASH_BYTES: Final = 32
RUN_BYTES: Final = 8 << 20
"""Of all fragments together: what is coded, hashed and sent at a time."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Into how many fragments an object goes, and into chunks of how many bytes.

    Raises:
        ValueError: it is out of bounds.
    """

    data: int = 2
    """Any so many fragments restore the object."""
    parity: int = 2
    """So many fragments may be lost."""
    chunk: int = 64 << 10
    """Bytes, a power of two."""

    def __post_init__(self) -> None:
        if not (self.data >= 1 and self.parity >= 0 and self.fragments <= FRAGMENTS_MAX):
            raise ValueError(
                f"{self.data} data and {self.parity} parity fragments: at least one of data, "
                f"and at most {FRAGMENTS_MAX} in all"
            )
        if not CHUNK_BYTES_MIN <= self.chunk <= CHUNK_BYTES_MAX or self.chunk & (self.chunk - 1):
            raise ValueError(
                f"chunks of {self.chunk} bytes: a power of two, "
                f"{CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}"
            )
        if self.fragments * self.chunk > STRIPE_BYTES_MAX:
            raise ValueError(
                f"a stripe of {self.fragments} chunks of {self.chunk} bytes: at most "
                f"{STRIPE_BYTES_MAX} bytes in all; take smaller chunks, or fewer fragments"
            )

    @property
    def fragments(self) -> int:
        """Data and parity."""
        return self.data + self.parity

    @property
    def stripe(self) -> int:
        """Bytes of an object in a whole stripe."""
        return self.data * self.chunk

    @property
    def stripes_max(self) -> int:
        """Of an object; as many chunks has each fragment."""
        return min(CHUNKS_MAX, CHUNKS_MAX_IN_ALL // self.fragments)


class Run(NamedTuple):
    """Some stripes in a row whose chunks are of one length."""

    first: int
    stripes: int
    chunk: int
    """Bytes of each chunk."""
    begin: int
    """Where its bytes begin in the object."""
    length: int
    """Its bytes in the object; fewer than those of its data chunks where these are filled up."""
    at: int
    """Where its chunks begin in each fragment."""


@dataclass(frozen=True, slots=True)
class Layout:
    """An object of ``size`` bytes in a shape.

    Raises:
        ValueError: it has too many chunks.
    """

    shape: Shape
    size: int

    def __post_init__(self) -> None:
        if self.stripes > (most := self.shape.stripes_max):
            raise ValueError(
                f"an object of {self.size} bytes has more than {most} stripes of "
                f"{self.shape.data} chunks of {self.shape.chunk} bytes: take larger chunks"
            )

    @property
    def stripes(self) -> int:
        """As many as each fragment has chunks."""
        return -(-self.size // self.shape.stripe)

    @property
    def last_chunk(self) -> int:
        """Bytes of a chunk of the last stripe; 0 where there is none."""
        if not self.size:
            return 0
        left = self.size - (self.stripes - 1) * self.shape.stripe
        chunk = -(-left // self.shape.data)
        return chunk + chunk % 2

    @property
    def hashes_at(self) -> int:
        """Where the leaf hashes of a fragment begin: the bytes of its chunks."""
        if not self.size:
            return 0
        return (self.stripes - 1) * self.shape.chunk + self.last_chunk

    @property
    def tail_at(self) -> int:
        """Where a fragment's manifest begins."""
        return self.hashes_at + self.stripes * HASH_BYTES

    def runs(self) -> Iterator[Run]:
        """All stripes, in order. The last is a run of its own where its chunks are shorter."""
        shape = self.shape
        step = max(1, RUN_BYTES // (shape.fragments * shape.chunk))
        whole = self.size // shape.stripe
        for first in range(0, whole, step):
            count = min(step, whole - first)
            yield self._run(first, count, shape.chunk, count * shape.stripe)
        if left := self.size - whole * shape.stripe:
            yield self._run(whole, 1, self.last_chunk, left)

    def _run(self, first: int, count: int, chunk: int, length: int) -> Run:
        begin, at = first * self.shape.stripe, first * self.shape.chunk
        return Run(first, count, chunk, begin, length, at)
