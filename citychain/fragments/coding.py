"""Runs of stripes as chunks, and back: the work that is done in threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from citychain.crypto import erasure
from citychain.fragments.layout import HASH_BYTES, Layout, Run

__all__ = ["Found", "decode_run", "encode_run", "find_good", "hash_chunks", "lacking"]


class Found(NamedTuple):
    """What a store gave of one fragment for a run."""

    fragment: int
    chunks: bytes
    """Of all stripes of the run, good or not."""
    good: Sequence[bool]
    """Which of them are what the fragment's root says."""


def encode_run(data: bytes, layout: Layout, run: Run) -> tuple[list[bytes], list[bytes]]:
    """For each fragment its chunks of a run, and their leaf hashes."""
    shape = layout.shape
    return erasure.encode(data, shape.data, shape.parity, shape.chunk)


def hash_chunks(chunks: bytes, layout: Layout) -> bytes:
    """The leaf hashes of a fragment's chunks of a run."""
    return erasure.leaf_hashes(chunks, layout.shape.chunk)


def find_good(index: int, chunks: bytes, layout: Layout, run: Run, expected: bytes) -> Found:
    """Hold the chunks of a run to their leaf hashes."""
    hashes = hash_chunks(chunks, layout)
    if hashes == expected:
        return Found(index, chunks, [True] * run.stripes)
    pairs = range(0, run.stripes * HASH_BYTES, HASH_BYTES)
    good = [hashes[at : at + HASH_BYTES] == expected[at : at + HASH_BYTES] for at in pairs]
    return Found(index, chunks, good)


def lacking(found: Sequence[Found], layout: Layout, run: Run) -> tuple[int, int]:
    """How many good chunks the worst stripe lacks, and which stripe of the run that is."""
    chosen = _chosen(found, layout.shape.data, run.stripes)
    fewest = min(map(len, chosen))
    return layout.shape.data - fewest, [*map(len, chosen)].index(fewest)


def decode_run(found: Sequence[Found], layout: Layout, run: Run) -> bytes:
    """The data of a run, from stripes none of which lacks a chunk."""
    stripes: dict[tuple[int, ...], list[int]] = {}
    for stripe, places in enumerate(_chosen(found, layout.shape.data, run.stripes)):
        stripes.setdefault(places, []).append(stripe)
    if len(stripes) == 1:
        [places] = stripes
        chosen = [(found[place].fragment, found[place].chunks) for place in places]
        return _decode(chosen, layout)[: run.length]
    # A call takes a while for any number of stripes: those of the same fragments in one.
    data = [b""] * run.stripes
    for places, some in stripes.items():
        chosen = [
            (found[place].fragment, _picked(found[place].chunks, some, run)) for place in places
        ]
        decoded, size = _decode(chosen, layout), layout.shape.stripe
        for at, stripe in enumerate(some):
            data[stripe] = decoded[at * size : (at + 1) * size]
    return b"".join(data)


def _decode(chunks: list[tuple[int, bytes]], layout: Layout) -> bytes:
    shape = layout.shape
    return erasure.decode(sorted(chunks), shape.data, shape.parity, shape.chunk)


def _picked(chunks: bytes, stripes: Sequence[int], run: Run) -> bytes:
    size = run.chunk
    return b"".join(chunks[stripe * size : (stripe + 1) * size] for stripe in stripes)


def _chosen(found: Sequence[Found], data: int, count: int) -> list[tuple[int, ...]]:
    """For each stripe, places in ``found`` of the first good chunks that are of different
    fragments: as many as restore it, or fewer."""
    chosen = []
    for stripe in range(count):
        places: dict[int, int] = {}
        for place, piece in enumerate(found):
            if piece.good[stripe] and len(places) < data:
                places.setdefault(piece.fragment, place)
        chosen.append(tuple(places.values()))
    return chosen
