"""Proving that a store has a chunk, to whoever knows the fragment's key and nothing else of it.

A proof, integers big-endian; a path is its number of hashes (1), then these, 32 each::

    magic 25 | header of the manifest 68
    | path of the header to the manifest's root
    | root of the fragment 32 | its path to the manifest's root
    | bytes of the chunk 4 | chunk | its path to the root of the fragment

The header says how many chunks there are and how long each is, and has the object id: so it is
proven too. The trees are those of `citychain.fragments.manifest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from citychain.crypto import merkle
from citychain.crypto.erasure import CHUNK_BYTES_MAX
from citychain.errors import FragmentMissing, InvalidProof, InvalidRequest, VerificationError
from citychain.fragments.layout import HASH_BYTES, Layout
from citychain.fragments.manifest import (
    HEADER_BYTES,
    TAIL_BYTES_MAX,
    Manifest,
    fragment_bytes,
    take_header,
    take_tail,
)
from citychain.fragments.patience import Readable
from citychain.layout import Reader
from citychain.ports import Compute, FragmentKey

__all__ = ["ChunkProof", "prove"]

_MAGIC: Final = b"citychain/chunk-proof/v1\0"
READ_BYTES_MAX: Final = 4 << 20
"""Of leaf hashes, at a time."""


@dataclass(frozen=True, slots=True)
class ChunkProof:
    """A chunk, and what leads from it to the root in its fragment's key. Nothing of it is to be
    believed before `verify` was called."""

    header: bytes
    """Of the manifest."""
    header_path: Sequence[bytes]
    fragment_root: bytes
    fragment_path: Sequence[bytes]
    chunk: bytes
    chunk_path: Sequence[bytes]

    @property
    def object_id(self) -> bytes:
        """Of the object that the manifest is of, 32 bytes.

        Raises:
            VerificationError: the header is none.
        """
        return take_header(Reader(self.header, "proof"))[1]

    def verify(self, root: bytes, index: int, chunk: int) -> None:
        """Whether this is chunk ``chunk`` of fragment ``index`` of the manifest with this root.

        The object is `object_id`: whoever was told one compares it.

        Raises:
            VerificationError: it is not; `InvalidProof` where hashes do not lead to the root.
        """
        header = Reader(self.header, "proof")
        layout, _ = take_header(header)
        header.end()
        fragments = layout.shape.fragments
        if not 0 <= index < fragments:
            raise VerificationError(f"proof: the object has no fragment {index}")
        if not 0 <= chunk < layout.stripes:
            raise VerificationError(f"proof: each fragment has {layout.stripes} chunks")
        if len(self.chunk) != (right := _chunk_bytes(layout, chunk)):
            raise VerificationError(f"proof: {len(self.chunk)} bytes, and the chunk has {right}")
        leaf = merkle.hash_leaf
        header_path, fragment_path = list(self.header_path), list(self.fragment_path)
        merkle.verify_inclusion(leaf(self.header), 0, fragments + 1, header_path, root)
        fragment_root, at = self.fragment_root, index + 1
        merkle.verify_inclusion(leaf(fragment_root), at, fragments + 1, fragment_path, root)
        chunk_path = list(self.chunk_path)
        merkle.verify_inclusion(leaf(self.chunk), chunk, layout.stripes, chunk_path, fragment_root)

    def to_bytes(self) -> bytes:
        """In the layout of this module."""
        return b"".join(
            (
                _MAGIC,
                self.header,
                _path(self.header_path),
                self.fragment_root,
                _path(self.fragment_path),
                len(self.chunk).to_bytes(4, "big"),
                self.chunk,
                _path(self.chunk_path),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ChunkProof:
        """Read the layout.

        Raises:
            VerificationError: it is not in it.
        """
        reader = Reader(data, "proof")
        if reader.take(len(_MAGIC)) != _MAGIC:
            raise VerificationError("proof: not one of a chunk, or of an unknown version")
        header, header_path = reader.take(HEADER_BYTES), _take_path(reader)
        fragment_root, fragment_path = reader.take(HASH_BYTES), _take_path(reader)
        if (length := reader.integer(4)) > CHUNK_BYTES_MAX:
            raise VerificationError(f"proof: a chunk of {length} bytes")
        chunk, chunk_path = reader.take(length), _take_path(reader)
        reader.end()
        return cls(header, header_path, fragment_root, fragment_path, chunk, chunk_path)


async def prove(store: Readable, key: FragmentKey, chunk: int, compute: Compute) -> ChunkProof:
    """The proof of a chunk, by what a store has of its fragment.

    Its leaf hashes are read, some at a time, and the chunk; no other chunk is. What is returned
    was verified.

    Raises:
        FragmentMissing: the store has no such fragment.
        InvalidRequest: the fragment has no such chunk.
        StoreUnavailable: the store does not answer.
        VerificationError: what the store has of it is wrong.
    """
    manifest = await _manifest(store, key)
    layout = manifest.layout
    if not 0 <= chunk < layout.stripes:
        raise InvalidRequest("chunk", f"{chunk}: the fragment has {layout.stripes}")
    content = await store.read(key, chunk * layout.shape.chunk, _chunk_bytes(layout, chunk))
    chunk_path = await _chunk_path(store, key, layout, chunk, compute)
    leaves = merkle.leaf_hashes([manifest.header, *manifest.roots])
    header_path, fragment_path = merkle.round_inclusions(b"", 0, leaves, [0, key.index + 1])
    proof = ChunkProof(
        manifest.header,
        header_path,
        manifest.roots[key.index],
        fragment_path,
        content,
        chunk_path,
    )
    try:
        await compute(proof.verify, key.root, key.index, chunk)
    except InvalidProof:
        raise VerificationError(f"chunk {chunk} or its leaf hashes are wrong") from None
    return proof


async def _manifest(store: Readable, key: FragmentKey) -> Manifest:
    size = await store.size(key)
    if size is None:
        raise FragmentMissing(f"there is no fragment {key.index} of {key.object_id.hex()}")
    length = min(size, TAIL_BYTES_MAX)
    manifest, index = take_tail(await store.read(key, size - length, length))
    if (manifest.object_id, manifest.root, index) != key:
        raise VerificationError("fragment: its manifest is not that of its key")
    if size != (right := fragment_bytes(manifest.layout)):
        raise VerificationError(f"fragment: it has {size} bytes, and {right} are right")
    return manifest


async def _chunk_path(
    store: Readable, key: FragmentKey, layout: Layout, chunk: int, compute: Compute
) -> list[bytes]:
    """The hashes that lead from a chunk to the root of its fragment."""
    ranges = merkle.inclusion_ranges(chunk, layout.stripes)
    trees = [merkle.Tree() for _ in ranges]
    for first, last in _windows(layout.stripes):
        at, length = layout.hashes_at + first * HASH_BYTES, (last - first) * HASH_BYTES
        hashes = await store.read(key, at, length)
        if len(hashes) != length:
            raise VerificationError(f"fragment: {len(hashes)} bytes were given for {length}")
        for tree, (begin, end) in zip(trees, ranges, strict=True):
            # A path's ranges are apart from each other, and what is in one comes in its order.
            some = hashes[max(0, begin - first) * HASH_BYTES : max(0, end - first) * HASH_BYTES]
            await compute(tree.append, some)
    return [tree.root() for tree in trees]


def _windows(hashes: int) -> Iterator[tuple[int, int]]:
    step = READ_BYTES_MAX // HASH_BYTES
    for first in range(0, hashes, step):
        yield first, min(first + step, hashes)


def _chunk_bytes(layout: Layout, chunk: int) -> int:
    return layout.shape.chunk if chunk < layout.stripes - 1 else layout.last_chunk


def _path(hashes: Sequence[bytes]) -> bytes:
    return bytes((len(hashes),)) + b"".join(hashes)


def _take_path(reader: Reader) -> list[bytes]:
    return [reader.take(HASH_BYTES) for _ in range(reader.integer(1))]
