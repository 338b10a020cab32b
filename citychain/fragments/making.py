"""Making fragments of an object once more, from those that there are.

A fragment is taken from a copy of it where that is good, and else made from any k good chunks of
each stripe; only the fragments that are asked for are written. Each is held to its root in the
manifest before its store gets the end of it, and what is made from others to the object's id too,
so that no more fragments are made of what only claims to be the object.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence

from citychain.errors import VerificationError
from citychain.fragments.checking import look_through
from citychain.fragments.coding import encode_run
from citychain.fragments.feeding import Feed
from citychain.fragments.layout import Run
from citychain.fragments.manifest import Manifest, fragment_bytes, merkle_root
from citychain.fragments.pacing import Pace
from citychain.fragments.sources import Group, Source, all_of, run_hashes
from citychain.fragments.writing import Written
from citychain.ports import Compute, FragmentStore

__all__ = ["is_of_object", "is_whole", "make_fragments"]


async def make_fragments(
    group: Group,
    stores: Mapping[int, FragmentStore],
    compute: Compute,
    pace: Pace,
    told: Callable[[int], None] = lambda written: None,
) -> Written:
    """Make fragments, by index, each into its store.

    Args:
        pace: At which stores are given bytes; `group` reads at its own.
        told: Of bytes that were given to stores.

    Raises:
        NotEnough: a stripe has too few good chunks; nothing was written.
        VerificationError: what the chunks make is not the object; nothing was written.
    """
    return await _Making(group, stores, compute, pace, told).run()


class _Making:
    def __init__(
        self,
        group: Group,
        stores: Mapping[int, FragmentStore],
        compute: Compute,
        pace: Pace,
        told: Callable[[int], None],
    ) -> None:
        self._group = group
        self._compute = compute
        self._pace = pace
        self._told = told
        keys = group.manifest.fragment_keys()
        size = fragment_bytes(group.manifest.layout)
        self._feeds = {index: Feed(keys[index], store, size) for index, store in stores.items()}
        self._hashes = {index: bytearray() for index in stores}
        self._digest = hashlib.sha256()
        self._digested = 0
        self._refused: set[int] = set()

    async def run(self) -> Written:
        feeds = self._feeds
        await all_of(feed.look() for feed in feeds.values())
        puts = {
            index: asyncio.create_task(feed.put())
            for index, feed in feeds.items()
            if feed.error is None
        }
        try:
            for run in self._group.manifest.layout.runs():
                wanted = [index for index in puts if not feeds[index].over]
                if not wanted:
                    break
                for index, part in (await self._parts(run, wanted)).items():
                    await self._pace.take(len(part))
                    await feeds[index].give(part)
                    self._pace.written += len(part)
                    self._told(len(part))
            else:
                await self._end(puts)
            await asyncio.gather(*(put for i, put in puts.items() if i not in self._refused))
        finally:
            for put in puts.values():
                put.cancel()
            await asyncio.gather(*puts.values(), return_exceptions=True)
        taken = [feed for feed in feeds.values() if feed.error is None]
        return Written(
            stored=[feed.key.index for feed in taken if not feed.present],
            replaced=(),
            present=[feed.key.index for feed in taken if feed.present],
            failed={index: feed.error for index, feed in feeds.items() if feed.error is not None},
        )

    async def _parts(self, run: Run, wanted: Sequence[int]) -> dict[int, bytes]:
        """The chunks of a run, by index."""
        copies = await all_of(self._copied(run, index) for index in wanted)
        parts = {index: chunks for index, chunks in zip(wanted, copies, strict=True) if chunks}
        if lacking := [index for index in wanted if index not in parts]:
            data = await self._group.read(run)
            await self._compute(self._digest.update, data)
            self._digested += len(data)
            chunks, hashes = await self._compute(encode_run, data, self._group.manifest.layout, run)
            for index in lacking:
                parts[index] = chunks[index]
                self._hashes[index] += hashes[index]
        return parts

    async def _copied(self, run: Run, index: int) -> bytes | None:
        """The chunks of a run from a copy that has good ones."""
        for source in self._group.sources:
            if source.key.index != index or source.lost:
                continue
            found = await source.chunks(self._group.manifest, run)
            if found is not None and all(found.good):
                assert source.hashes is not None
                self._hashes[index] += run_hashes(source.hashes, run)
                return found.chunks
        return None

    async def _end(self, puts: Mapping[int, asyncio.Task[None]]) -> None:
        manifest = self._group.manifest
        is_digested = self._digested == manifest.layout.size
        if is_digested and self._digest.digest() != manifest.object_id:
            raise VerificationError("what its chunks make is of another object")
        for index, put in puts.items():
            feed, hashes = self._feeds[index], bytes(self._hashes[index])
            if feed.over:
                continue
            if await self._compute(merkle_root, hashes) == manifest.roots[index]:
                await feed.end(manifest, hashes)
                end = fragment_bytes(manifest.layout) - manifest.layout.hashes_at
                self._pace.written += end
                self._told(end)
            else:
                feed.error = VerificationError(f"the manifest is wrong about fragment {index}")
                self._refused.add(index)
                put.cancel()


async def is_of_object(group: Group, compute: Compute) -> bool:
    """Whether a group's chunks make the object that it says, which is read for it.

    Raises:
        NotEnough: a stripe has too few good chunks.
    """
    digest = hashlib.sha256()
    for run in group.manifest.layout.runs():
        await compute(digest.update, await group.read(run))
    return digest.digest() == group.manifest.object_id


async def is_whole(source: Source, manifest: Manifest) -> bool:
    """Whether a fragment has every byte as it should be; it is read for it."""
    await look_through([source], manifest, lambda done, of: None)
    return not source.faults
