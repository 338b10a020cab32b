"""The fragments of an object by their definition, from its bytes alone, in plain Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from crypto.erasure_reference import parity


def tree(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def fragments(content: bytes, k: int, m: int, chunk: int) -> tuple[bytes, list[bytes]]:
    """The root of the manifest, and all fragments as they are stored."""
    rows: list[list[bytes]] = [[] for _ in range(k + m)]
    for begin in range(0, len(content), k * chunk):
        stripe = content[begin : begin + k * chunk]
        width = (len(stripe) + k - 1) // k
        width += width % 2
        stripe += bytes(k * width - len(stripe))
        data = [stripe[at : at + width] for at in range(0, len(stripe), width)]
        for row, piece in zip(rows, [*data, *(parity(data, m) if m else [])], strict=True):
            row.append(piece)
    header = (
        b"citychain/manifest/v1\0"
        + bytes([k, m])
        + chunk.to_bytes(4, "big")
        + len(content).to_bytes(8, "big")
        + hashlib.sha256(content).digest()
    )
    roots = [tree(row) for row in rows]
    manifest = header + b"".join(roots)
    stored = [
        b"".join(row)
        + b"".join(hashlib.sha256(b"\0" + piece).digest() for piece in row)
        + manifest
        + index.to_bytes(2, "big")
        + len(manifest).to_bytes(4, "big")
        + b"citychain/fragment/v1\0"
        for index, row in enumerate(rows)
    ]
    return tree([header, *roots]), stored
