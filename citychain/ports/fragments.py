"""The port of a fragment store: where single fragments of objects are kept.

A store knows keys and bytes. What the bytes mean, which store gets which fragment, and whether a
fragment is intact is for those above it: they check all that they read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

__all__ = ["FragmentKey", "FragmentStore", "Space"]


class FragmentKey(NamedTuple):
    """What a fragment is of; keys sort by object, manifest and index."""

    object_id: bytes
    """SHA-256 of the object's content."""
    root: bytes
    """Root of the object's manifest, 32 bytes."""
    index: int  # type: ignore[assignment]  # a tuple's method of this name is not needed
    """Which of the object's fragments: 0 to 254."""


class Space(NamedTuple):
    """How much a store has."""

    used: int
    """Bytes of its fragments."""
    limit: int | None
    """Bytes that fragments may take in all; ``None`` where nothing is set."""


class FragmentStore(Protocol):
    """A place that fragments are put in, such as a disk or a bucket.

    Entered before use and left after it. A fragment never changes: it is put whole, read in
    ranges, and deleted. Calls may overlap; reads see every write whose call has returned. Any
    call may be cancelled at any await: a cancelled `put` or `delete` has happened or has not.

    Every call may raise `StoreUnavailable`: the store does not answer, or cannot be used now.
    """

    async def __aenter__(self) -> FragmentStore:
        """Open the store.

        Raises:
            StoreUnavailable: it cannot be opened; the message says why.
        """

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the store."""

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        """Store a fragment of ``size`` bytes, which ``parts`` gives in order, whole or not at all.

        When this returns the fragment survives a power cut. One that is there already is left as
        it is, and ``parts`` need not be read. Nothing is stored if ``parts`` raises, and nobody
        sees a fragment before it is whole. No more is held in memory than a few parts.

        Raises:
            StoreFull: the fragment does not fit; room can be made by `delete`.
            StorageError: ``parts`` did not give ``size`` bytes.
        """

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes of a fragment, from ``offset`` on.

        Raises:
            FragmentMissing: the fragment is not there, or has no such bytes.
        """

    async def size(self, key: FragmentKey) -> int | None:
        """Bytes of a fragment; ``None`` if it is not there."""

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """Keys of all fragments of an object, of whatever manifest, sorted."""

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """At most ``limit`` keys, sorted: the first, or those after a key, which need not be
        there. Only a last page has fewer."""

    async def delete(self, key: FragmentKey) -> bool:
        """Remove a fragment; whether it was there."""

    async def space(self) -> Space:
        """How much is used, and how much may be."""
