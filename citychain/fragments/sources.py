"""Reading fragments from stores that may have lost them, changed them, or lie.

Everything is held to the root of the manifest, which is part of a fragment's key: the manifest
first, then a fragment's leaf hashes, then each chunk. What does not hold counts as lost, chunk by
chunk: any k good chunks restore a stripe, from whatever fragments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from citychain.crypto.erasure import FRAGMENTS_MAX
from citychain.errors import CitychainError, VerificationError
from citychain.fragments.coding import (
    Found,
    decode_run,
    encode_run,
    find_good,
    hash_chunks,
    lacking,
)
from citychain.fragments.layout import HASH_BYTES, Run
from citychain.fragments.manifest import TAIL_BYTES_MAX, Manifest, merkle_root, take_tail
from citychain.ports import Compute, FragmentKey, FragmentStore

__all__ = ["Fault", "Group", "NotEnough", "Source", "find_groups", "told"]

READ_BYTES_MAX: Final = 4 << 20
"""Of leaf hashes, at a time."""

T = TypeVar("T")


class NotEnough(Exception):
    """Raised when a group has too few good chunks; says of which bytes."""


class Fault(NamedTuple):
    """Something that a store did not have as it should."""

    store: str
    key: FragmentKey | None
    """Of the fragment; ``None`` for the store as a whole."""
    detail: str


class _Lost(Exception):
    """A source gives nothing more."""


class Source:
    """One fragment in one store."""

    def __init__(self, name: str, store: FragmentStore, key: FragmentKey, compute: Compute) -> None:
        self.name = name
        self.key = key
        self.lost = False
        """Whether it is not asked any more."""
        self.wrong = 0
        """Chunks that it gave and that were not what they should be."""
        self.hashes: bytes | None = None
        """Leaf hashes of its chunks, once they are known."""
        self._details: list[str] = []
        self._store = store
        self._compute = compute

    @property
    def faults(self) -> list[Fault]:
        """What was wrong with it so far."""
        wrong = [f"{self.wrong} wrong chunks"] if self.wrong else []
        return [Fault(self.name, self.key, detail) for detail in (*self._details, *wrong)]

    async def manifest(self) -> Manifest | None:
        """The manifest that it ends with, if it is the one that the key names."""
        try:
            size = await self._asked(self._store.size(self.key))
            if size is None:
                raise _Lost("it is not there any more")
            length = min(size, TAIL_BYTES_MAX)
            manifest, index = take_tail(await self._read(size - length, length))
        except _Lost as lost:
            self._lose(lost)
            return None
        except VerificationError as error:
            self._details.append(str(error))
            return None
        if (manifest.object_id, manifest.root, index) != self.key:
            self._details.append("its manifest is not that of its key")
            return None
        return manifest

    async def open(self, manifest: Manifest) -> bool:
        """Get its leaf hashes; whether it can be read from."""
        if self.hashes is None and not self.lost:
            try:
                self.hashes = await self._hashes(manifest)
            except _Lost as lost:
                self._lose(lost)
        return not self.lost

    async def chunks(self, manifest: Manifest, run: Run) -> Found | None:
        """Its chunks of a run, checked; ``None`` if it cannot be read from."""
        if not await self.open(manifest):
            return None
        assert self.hashes is not None
        try:
            chunks = await self._read(run.at, run.stripes * run.chunk)
        except _Lost as lost:
            self._lose(lost)
            return None
        expected = run_hashes(self.hashes, run)
        found = await self._compute(
            find_good, self.key.index, chunks, manifest.layout, run, expected
        )
        self.wrong += found.good.count(False)
        return found

    async def _hashes(self, manifest: Manifest) -> bytes:
        layout, root = manifest.layout, manifest.roots[self.key.index]
        hashes = bytearray()
        for at in range(layout.hashes_at, layout.tail_at, READ_BYTES_MAX):
            hashes += await self._read(at, min(READ_BYTES_MAX, layout.tail_at - at))
        if await self._compute(_has_root, hashes, root):
            return bytes(hashes)
        # The hashes may be damaged where the chunks are not.
        self._details.append("its leaf hashes are wrong")
        hashes.clear()
        for run in layout.runs():
            chunks = await self._read(run.at, run.stripes * run.chunk)
            hashes += await self._compute(hash_chunks, chunks, layout)
        if not await self._compute(_has_root, hashes, root):
            raise _Lost("so are its chunks")
        return bytes(hashes)

    async def _read(self, offset: int, length: int) -> bytes:
        data = await self._asked(self._store.read(self.key, offset, length))
        if len(data) != length:
            raise _Lost(f"it gives {len(data)} bytes for {length}")
        return data

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except Exception as error:
            raise _Lost(told(error)) from error

    def _lose(self, why: _Lost) -> None:
        self.lost = True
        self._details.append(str(why))


class Group:
    """The fragments of one manifest, wherever they are."""

    def __init__(self, manifest: Manifest, sources: Sequence[Source], compute: Compute) -> None:
        self.manifest = manifest
        self._sources = [source for source in sources if source.key.index < len(manifest.roots)]
        self._compute = compute

    @property
    def indexes(self) -> int:
        """How many different fragments there are."""
        return len({source.key.index for source in self._sources})

    async def read(self, run: Run) -> bytes:
        """The data of a run.

        Raises:
            NotEnough: one of its stripes has too few good chunks.
        """
        layout = self.manifest.layout
        found: list[Found] = []
        asked: set[Source] = set()
        while True:
            lacks, stripe = lacking(found, layout, run)
            if lacks <= 0:
                return await self._compute(decode_run, found, layout, run)
            asking = self._next(asked, {piece.fragment for piece in found}, lacks)
            if not asking:
                self._not_enough(lacks, run.begin + stripe * layout.shape.stripe)
            asked.update(asking)
            given = await _all(it.chunks(self.manifest, run) for it in asking)
            found += (piece for piece in given if piece is not None)

    async def holds(self, run: Run, data: bytes) -> bool:
        """Whether this is the data of a run: k chunks made of it are what they should be.

        Raises:
            NotEnough: too few fragments can be read from.
        """
        needed = self.manifest.layout.shape.data
        known: dict[int, bytes] = {}
        asked: set[Source] = set()
        while len(known) < needed:
            asking = self._next(asked, set(known), needed - len(known))
            if not asking:
                self._not_enough(needed - len(known), run.begin)
            asked.update(asking)
            await _all(source.open(self.manifest) for source in asking)
            known |= {it.key.index: it.hashes for it in asking if it.hashes is not None}
        _, hashes = await self._compute(encode_run, data, self.manifest.layout, run)
        return all(run_hashes(known[index], run) == hashes[index] for index in known)

    def _next(self, asked: set[Source], have: set[int], number: int) -> list[Source]:
        """Whom to ask next: other fragments before copies of those that we have, data before
        parity, and whoever gave a wrong chunk last."""
        able = [source for source in self._sources if not source.lost and source not in asked]
        able.sort(key=lambda it: (it.key.index in have, it.wrong > 0, it.key.index))
        first: dict[int, Source] = {}
        for source in able:
            first.setdefault(source.key.index, source)
        return list(first.values())[:number]

    def _not_enough(self, lacks: int, begin: int) -> None:
        needed = self.manifest.layout.shape.data
        raise NotEnough(
            f"{needed - lacks} good chunks of the {needed} that the stripe at byte {begin} needs"
        )


def run_hashes(hashes: bytes, run: Run) -> bytes:
    """A fragment's leaf hashes of a run."""
    return hashes[run.first * HASH_BYTES : (run.first + run.stripes) * HASH_BYTES]


async def find_groups(
    object_id: bytes, stores: Mapping[str, FragmentStore], compute: Compute
) -> tuple[list[Group], list[Source], list[Fault]]:
    """The groups of an object's fragments, those with most fragments first; all fragments that
    stores named; and which stores did not answer."""
    faults: list[Fault] = []

    async def ask(name: str, store: FragmentStore) -> list[Source]:
        try:
            keys = [key for key in await store.find(object_id) if _can_be(key, object_id)]
        except Exception as error:
            faults.append(Fault(name, None, told(error)))
            return []
        return [Source(name, store, key, compute) for key in keys]

    found = await _all(ask(name, store) for name, store in stores.items())
    sources = [source for some in found for source in some]
    by_root: dict[bytes, list[Source]] = {}
    for source in sources:
        by_root.setdefault(source.key.root, []).append(source)
    groups = []
    for same in by_root.values():
        for source in same:
            if (manifest := await source.manifest()) is not None:
                groups.append(Group(manifest, same, compute))
                break
    groups.sort(key=lambda group: group.indexes, reverse=True)
    return groups, sources, faults


def told(error: Exception) -> str:
    """What went wrong with a store: it may be anybody's, and raise anything."""
    return str(error) if isinstance(error, CitychainError) else f"{type(error).__name__}: {error}"


def _can_be(key: FragmentKey, object_id: bytes) -> bool:
    return key.object_id == object_id and 0 <= key.index < FRAGMENTS_MAX


async def _all(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What the calls give; none is under way any more when this ends."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _has_root(hashes: bytearray, root: bytes) -> bool:
    return merkle_root(bytes(hashes)) == root
