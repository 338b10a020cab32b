"""Proof of History: a chain of SHA-256 that shows order and sequential work.

An entry is (prev, num_hashes, mixin, hash), such as `citychain.types.PohEntry`::

    h    = prev
    h    = SHA-256(h)            num_hashes - 1 times
    hash = SHA-256(h || mixin)

`extend` makes one; it is sequential by intent. `verify` spreads entries over the cores and, on each
of them, advances several chains at once. Both run without the GIL, so call them by way of an
executor.
"""

from citychain._native.poh import NUM_HASHES_MAX, extend, verify

__all__ = ["NUM_HASHES_MAX", "extend", "verify"]
