"""The manifest of an object: what it is, how it is cut, and what each fragment must be.

Layout, integers big-endian::

    header:   "citychain/manifest/v1\\0" | k 1 | m 1 | C 4 | size 8 | object id 32
    manifest: header | root of fragment 0, 32 | ... | root of fragment k + m - 1, 32

    object id        SHA-256 of the content
    root of fragment Merkle tree over its chunks
    root of manifest Merkle tree over the header and the roots of all fragments, in this order

The trees are those of the log (RFC 6962). A manifest is a function of content, k, m and C: whoever
stores the same object in the same shape gets the same fragments. It says what a fragment must be,
not that the fragments are those of the object: this shows when the object is restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from citychain.crypto import merkle
from citychain.crypto.erasure import FRAGMENTS_MAX
from citychain.errors import VerificationError
from citychain.fragments.layout import HASH_BYTES, Layout, Shape
from citychain.layout import Reader
from citychain.ports import FragmentKey

__all__ = [
    "HEADER_BYTES",
    "TAIL_BYTES_MAX",
    "Manifest",
    "fragment_bytes",
    "tail",
    "take_header",
    "take_tail",
]

_MANIFEST: Final = b"citychain/manifest/v1\0"
_FRAGMENT: Final = b"citychain/fragment/v1\0"
HEADER_BYTES: Final = len(_MANIFEST) + 1 + 1 + 4 + 8 + 32
_FOOTER_BYTES: Final = 2 + 4 + len(_FRAGMENT)
TAIL_BYTES_MAX: Final = HEADER_BYTES + FRAGMENTS_MAX * HASH_BYTES + _FOOTER_BYTES
"""Of manifest and footer: the end of a fragment that has both, whatever its shape."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A decoded manifest."""

    layout: Layout
    object_id: bytes
    roots: Sequence[bytes]
    """Of the fragments, by index."""

    @property
    def header(self) -> bytes:
        """Everything but the roots."""
        shape = self.layout.shape
        return b"".join(
            (
                _MANIFEST,
                bytes((shape.data, shape.parity)),
                shape.chunk.to_bytes(4, "big"),
                self.layout.size.to_bytes(8, "big"),
                self.object_id,
            )
        )

    @property
    def root(self) -> bytes:
        """What names the manifest, 32 bytes."""
        return merkle_root(merkle.leaf_hashes([self.header, *self.roots]))

    def encode(self) -> bytes:
        """The manifest in its layout."""
        return b"".join((self.header, *self.roots))

    def fragment_keys(self) -> list[FragmentKey]:
        """Those of all fragments, by index."""
        root = self.root
        return [FragmentKey(self.object_id, root, index) for index in range(len(self.roots))]


def decode(data: bytes) -> Manifest:
    """Decode a manifest.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(data, "manifest")
    layout, object_id = take_header(reader)
    roots = [reader.take(HASH_BYTES) for _ in range(layout.shape.fragments)]
    reader.end()
    return Manifest(layout, object_id, roots)


def take_header(reader: Reader) -> tuple[Layout, bytes]:
    """Layout and object id, from a header.

    Raises:
        VerificationError: it is none.
    """
    if reader.take(len(_MANIFEST)) != _MANIFEST:
        raise VerificationError("manifest: not one, or of an unknown version")
    try:
        shape = Shape(reader.integer(1), reader.integer(1), reader.integer(4))
        layout = Layout(shape, reader.integer(8))
    except ValueError as error:
        raise VerificationError(f"manifest: {error}") from None
    return layout, reader.take(32)


def fragment_bytes(layout: Layout) -> int:
    """Bytes of each fragment as it is stored."""
    return layout.tail_at + HEADER_BYTES + layout.shape.fragments * HASH_BYTES + _FOOTER_BYTES


def tail(manifest: Manifest, index: int) -> bytes:
    """Manifest and footer: what a fragment ends with."""
    encoded = manifest.encode()
    return b"".join((encoded, index.to_bytes(2, "big"), len(encoded).to_bytes(4, "big"), _FRAGMENT))


def take_tail(end: bytes) -> tuple[Manifest, int]:
    """Manifest and index of a fragment, from its last bytes: `TAIL_BYTES_MAX` of them, or all.

    Raises:
        VerificationError: these are not the last bytes of a fragment.
    """
    footer = Reader(end[-_FOOTER_BYTES:], "fragment")
    index, length = footer.integer(2), footer.integer(4)
    if footer.take(len(_FRAGMENT)) != _FRAGMENT:
        raise VerificationError("fragment: not one, or of an unknown version")
    body = end[:-_FOOTER_BYTES]
    if length > len(body):
        raise VerificationError(f"fragment: no room for a manifest of {length} bytes")
    manifest = decode(body[len(body) - length :])
    if index >= len(manifest.roots):
        raise VerificationError(f"fragment: index {index} of {len(manifest.roots)}")
    return manifest, index


def merkle_root(leaf_hashes: bytes) -> bytes:
    """Root of the tree over leaves of these hashes."""
    tree = merkle.Tree()
    tree.append(leaf_hashes)
    return tree.root()
