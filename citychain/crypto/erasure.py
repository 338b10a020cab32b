"""Erasure coding: ``k`` fragments of data and ``m`` of parity, any ``k`` of which restore the data.

Data is coded a run at a time: any number of whole stripes of ``k * chunk`` bytes, or the last
stripe alone, where it is shorter::

    data              stripe 0              stripe 1            ...
                      chunk 0 | chunk 1     chunk 0 | chunk 1         here k = 2
    fragment i        chunk i of stripe 0 | chunk i of stripe 1 | ...
    fragment k + j    parity over fragments 0 to k - 1, position by position

The ``r`` bytes of a last stripe make ``k`` chunks of ``ceil(r / k)`` bytes, rounded up to an even
number; zeros fill what is missing, and `decode` returns them too. What a fragment has of a run is
its chunks in a row, in one ``bytes``; leaf hashes are those of `citychain.crypto.merkle`, 32 bytes
a chunk.

The code is Reed-Solomon over GF(2^16): docs/design/erasure-code.md defines it. It restores what is
lost and finds nothing that is wrong: check chunks against their hashes first. All functions run on
all cores and without the GIL, so call them by way of an executor, some 4 MiB a call: `decode` and
`rebuild` take a quarter of a millisecond for any loss, however little data it is.
"""

from citychain._native.erasure import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    FRAGMENTS_MAX,
    decode,
    encode,
    leaf_hashes,
    rebuild,
)

__all__ = [
    "CHUNK_BYTES_MAX",
    "CHUNK_BYTES_MIN",
    "FRAGMENTS_MAX",
    "decode",
    "encode",
    "leaf_hashes",
    "rebuild",
]
