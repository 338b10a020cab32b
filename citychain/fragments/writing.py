"""Storing an object: its manifest first, then its fragments, over as many stores.

Which store gets which fragment is said by whoever calls, who needs the object id for it::

    survey = await survey_object(file, shape, compute)
    stores = ...  # index -> store, by `survey.manifest.object_id`
    written = await write_fragments(file, survey, stores, compute)
    # for those in written.failed: other stores, once more

Everything is read, coded and hashed twice, since a fragment is named by the root of the manifest,
which is known at the end. An object in memory is an `io.BytesIO`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from citychain.errors import (
    CitychainError,
    ConfigurationError,
    ObjectChanged,
    StoreUnavailable,
)
from citychain.fragments.checking import look_through
from citychain.fragments.coding import encode_run
from citychain.fragments.feeding import Feed
from citychain.fragments.layout import HASH_BYTES, Layout, Run, Shape
from citychain.fragments.manifest import Manifest, fragment_bytes, merkle_root
from citychain.fragments.patience import Patient
from citychain.fragments.sources import Source, all_of
from citychain.ports import Compute, FragmentStore

__all__ = ["Survey", "Told", "Written", "survey_object", "write_fragments"]

Told = Callable[[int, int], None]
"""Told how many bytes of the object are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What an object's fragments will be."""

    manifest: Manifest
    leaf_hashes: Sequence[bytes]
    """Of each fragment's chunks, 32 bytes each, by index."""


@dataclass(frozen=True, slots=True)
class Written:
    """Where each fragment that was asked for ended."""

    stored: Sequence[int]
    """Indexes of those that were written."""
    present: Sequence[int]
    """Of those that were there already, and are right."""
    replaced: Sequence[int]
    """Of those that were written since what was there was wrong; they are among ``stored``."""
    failed: Mapping[int, CitychainError]
    """Of those that their store did not take, and why: `StoreFull`, `StoreUnavailable`."""


async def survey_object(
    source: BinaryIO, shape: Shape, compute: Compute, told: Told = lambda done, of: None
) -> Survey:
    """Read an object once, from the beginning: its manifest, and the hashes of all chunks.

    Raises:
        ConfigurationError: it is too large for chunks of this size.
        ObjectChanged: it became shorter meanwhile.
    """
    size = await compute(source.seek, 0, io.SEEK_END)
    try:
        layout = Layout(shape, size)
    except ValueError as error:
        raise ConfigurationError(f"fragments.chunk_kib: {error}") from None
    await compute(source.seek, 0)
    digest = hashlib.sha256()
    gathered = [bytearray() for _ in range(shape.fragments)]
    for run in layout.runs():
        _, hashes = await compute(_next, source, layout, run, digest)
        for whole, part in zip(gathered, hashes, strict=True):
            whole += part
        told(run.begin + run.length, layout.size)
    leaf_hashes = [bytes(whole) for whole in gathered]
    roots = await compute(lambda: [merkle_root(hashes) for hashes in leaf_hashes])
    return Survey(Manifest(layout, digest.digest(), roots), leaf_hashes)


async def write_fragments(
    source: BinaryIO,
    survey: Survey,
    stores: Mapping[int, FragmentStore],
    compute: Compute,
    told: Told = lambda done, of: None,
    checking: Told = lambda done, of: None,
) -> Written:
    """Write fragments of an object, those named, each to its store, all at once.

    One that is there already is read, and not written again if it is right: what was cut off is
    taken up by calling again. Its store is asked to put it all the same, since who wrote it may
    have ended before it was durable. One that is wrong is deleted first.
    A store that fails does not stop the others; a slow one slows them.

    Args:
        checking: Told of what is read before anything is written.

    Raises:
        ObjectChanged: it is not what was surveyed; no fragment of it was stored.
    """
    layout, keys = survey.manifest.layout, survey.manifest.fragment_keys()
    size = fragment_bytes(layout)
    feeds = [Feed(keys[index], store, size) for index, store in stores.items()]
    await asyncio.gather(*(feed.look() for feed in feeds))
    await _be_right(feeds, survey.manifest, compute, checking)
    wanted = [feed for feed in feeds if feed.error is None]
    puts = [asyncio.create_task(feed.put()) for feed in wanted]
    try:
        await compute(source.seek, 0)
        for run in layout.runs():
            if all(feed.over for feed in wanted):
                break
            chunks, hashes = await compute(_next, source, layout, run)
            _same(survey, run, hashes)
            for feed in wanted:
                await feed.give(chunks[feed.key.index])
            told(run.begin + run.length, layout.size)
        else:
            if await compute(source.read, 1):
                _changed("is longer now")
            for feed in wanted:
                await feed.end(survey.manifest, survey.leaf_hashes[feed.key.index])
        await asyncio.gather(*puts)
    finally:
        for put in puts:
            put.cancel()
        await asyncio.gather(*puts, return_exceptions=True)
    told(layout.size, layout.size)
    return Written(
        stored=[it.key.index for it in wanted if it.error is None and not it.present],
        present=[it.key.index for it in wanted if it.error is None and it.present],
        replaced=[it.key.index for it in wanted if it.error is None and it.replaced],
        failed={feed.key.index: feed.error for feed in feeds if feed.error is not None},
    )


async def _be_right(
    feeds: Sequence[Feed], manifest: Manifest, compute: Compute, told: Told
) -> None:
    """Read fragments that are there; what is wrong is to be put anew."""
    await all_of(feed.replace() for feed in feeds if feed.odd)
    feeds = [feed for feed in feeds if feed.present and feed.error is None]
    sources = [Source("", Patient(feed.store), feed.key, compute) for feed in feeds]
    await look_through(sources, manifest, told)
    for feed, source in zip(feeds, sources, strict=True):
        if source.unanswered:
            feed.error = StoreUnavailable(source.unanswered)
        elif source.faults:
            await feed.replace()


def _next(
    source: BinaryIO, layout: Layout, run: Run, digest: hashlib._Hash | None = None
) -> tuple[list[bytes], list[bytes]]:
    """Chunks and leaf hashes of the run that comes next, by fragment."""
    data = _read(source, run.length)
    if digest is not None:
        digest.update(data)
    return encode_run(data, layout, run)


def _read(source: BinaryIO, left: int) -> bytes:
    parts = []
    while left:
        # A file without a buffer may give less than it was asked for.
        if not (part := source.read(left)):
            _changed("is shorter now")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _same(survey: Survey, run: Run, hashes: Sequence[bytes]) -> None:
    begin, end = run.first * HASH_BYTES, (run.first + run.stripes) * HASH_BYTES
    for there, here in zip(survey.leaf_hashes, hashes, strict=True):
        if there[begin:end] != here:
            _changed(f"differs within its bytes {run.begin} to {run.begin + run.length}")


def _changed(detail: str) -> NoReturn:
    raise ObjectChanged(
        f"the object {detail}: it was written to while it was stored; "
        "store it again when nobody writes to it"
    )
