"""Reading fragments from stores that may have lost them, changed them, or lie.

Everything is held to the root of the manifest, which is part of a fragment's key: the manifest
first, then a fragment's leaf hashes, then each chunk. What does not hold counts as lost, chunk by
chunk: any k good chunks restore a stripe, from whatever fragments.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from citychain.crypto.erasure import FRAGMENTS_MAX
from citychain.errors import CitychainError, FragmentMissing, VerificationError
from citychain.fragments.coding import (
    Found,
    decode_run,
    encode_run,
    find_good,
    hash_chunks,
    lacking,
)
from citychain.fragments.layout import HASH_BYTES, Run
from citychain.fragments.manifest import (
    TAIL_BYTES_MAX,
    Manifest,
    fragment_bytes,
    merkle_root,
    take_tail,
)
from citychain.fragments.patience import Patient, Readable
from citychain.ports import Compute, FragmentKey, FragmentStore

__all__ = [
    "Fault",
    "Group",
    "NotEnough",
    "Silence",
    "Source",
    "all_of",
    "find_sources",
    "grouped",
    "is_possible",
    "run_hashes",
    "told",
]

READ_BYTES_MAX: Final = 4 << 20
"""Of leaf hashes, at a time."""
SPANS_TOLD: Final = 8
"""Of wrong chunks, in a fault."""
DETAILS_TOLD: Final = 8
"""Of one fragment."""
FAILURES_MAX: Final = 4
"""Reads in a row that fail, until a fragment is not asked for any more. One that fails may be of a
sector that a disk cannot read."""
ROOTS_MAX: Final = 32
"""Manifests of one object that are asked of a store. A store may name any number of them."""
FOUND_MAX: Final = FRAGMENTS_MAX * (ROOTS_MAX + 1)
"""Keys of one object that a store takes from elsewhere, where there may be no end of them: as many
as are looked at, and some by which it shows that there are more."""

T = TypeVar("T")


class NotEnough(Exception):
    """Raised when a group has too few good chunks; says of which bytes."""


class Fault(NamedTuple):
    """Something that a store did not have as it should."""

    store: str
    key: FragmentKey | None
    """Of the fragment; ``None`` for the store as a whole."""
    detail: str


class Silence(Fault):
    """A store did not answer: what it has is not known."""

    __slots__ = ()


class _Lost(Exception):
    """A source gives nothing more."""


class _Failed(Exception):
    """A source did not give what it was asked for."""


class Source:
    """One fragment in one store."""

    def __init__(self, name: str, store: Readable, key: FragmentKey, compute: Compute) -> None:
        self.name = name
        self.key = key
        self.lost = False
        """Whether it is not asked any more."""
        self.wrong = 0
        """Chunks that it gave and that were not what they should be."""
        self.hashes: bytes | None = None
        """Leaf hashes of its chunks, while they are known."""
        self.unanswered = ""
        """Why a call was not answered, if one was not: what is wrong then may be right later."""
        self.missed = ""
        """What the store said when it did not find it, if it did not."""
        self.failures = 0
        """Reads in a row that failed."""
        self._details: list[str] = []
        self._wrong_spans: list[tuple[int, int]] = []
        """First and last of wrong chunks in a row; runs that are read ahead come in any order."""
        self._store = store
        self._compute = compute

    @property
    def faults(self) -> list[Fault]:
        """What was wrong with it so far."""
        wrong = [self._wrong_told()] if self.wrong else []
        return [Fault(self.name, self.key, detail) for detail in (*self._details, *wrong)]

    async def manifest(self) -> Manifest | None:
        """The manifest that it ends with, if it is the one that the key names."""
        try:
            size = await self._asked(_sized(self._store.size(self.key)))
            if size is None:
                raise _Lost("it is not there any more")
            length = min(size, TAIL_BYTES_MAX)
            manifest, index = take_tail(await self._read(size - length, length))
        except _Lost as lost:
            self._lose(lost)
            return None
        except (_Failed, VerificationError) as error:
            self._tell(str(error))
            return None
        if (manifest.object_id, manifest.root, index) != self.key:
            self._tell("its manifest is not that of its key")
            return None
        if size != (right := fragment_bytes(manifest.layout)):
            self._tell(f"it has {size} bytes, and {right} are right")
        return manifest

    async def open(self, manifest: Manifest) -> bool:
        """Get its leaf hashes; whether it can be read from."""
        if self.hashes is None and not self.lost:
            try:
                self.hashes = await self._hashes(manifest)
            except (_Lost, _Failed) as lost:
                self._lose(lost)
        return not self.lost

    async def chunks(self, manifest: Manifest, run: Run) -> Found | None:
        """Its chunks of a run, checked; ``None`` if these cannot be read."""
        if not await self.open(manifest):
            return None
        assert self.hashes is not None
        try:
            chunks = await self._read(run.at, run.stripes * run.chunk)
        except _Failed as failed:
            self._tell(str(failed))
            if self.failures >= FAILURES_MAX:
                self._lose(_Lost("it is not asked any more"))
            return None
        expected = run_hashes(self.hashes, run)
        found = await self._compute(
            find_good, self.key.index, chunks, manifest.layout, run, expected
        )
        self._note(run.first, found.good)
        return found

    async def _hashes(self, manifest: Manifest) -> bytes:
        layout, root = manifest.layout, manifest.roots[self.key.index]
        hashes = bytearray()
        try:
            for at in range(layout.hashes_at, layout.tail_at, READ_BYTES_MAX):
                hashes += await self._read(at, min(READ_BYTES_MAX, layout.tail_at - at))
            if await self._compute(_has_root, hashes, root):
                return bytes(hashes)
            self._tell("its leaf hashes are wrong")
        except _Failed as failed:
            self._tell(str(failed))
        # The hashes may be damaged where the chunks are not.
        hashes.clear()
        for run in layout.runs():
            chunks = await self._read(run.at, run.stripes * run.chunk)
            hashes += await self._compute(hash_chunks, chunks, layout)
        if not await self._compute(_has_root, hashes, root):
            raise _Lost("so are its chunks")
        return bytes(hashes)

    async def _read(self, offset: int, length: int) -> bytes:
        data = await self._asked(_given(self._store.read(self.key, offset, length)))
        if len(data) != length:
            self.failures += 1
            raise _Failed(f"it gives {len(data)} bytes for {length}")
        self.failures = 0
        return data

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except Exception as error:
            self.failures += 1
            if isinstance(error, FragmentMissing):
                self.missed = told(error)
            else:
                self.unanswered = told(error)
            raise _Failed(told(error)) from error

    def _note(self, first: int, good: Sequence[bool]) -> None:
        self.wrong += good.count(False)
        wrong = ((first + at, first + at) for at, is_good in enumerate(good) if not is_good)
        self._wrong_spans += _joined(wrong)

    def _wrong_told(self) -> str:
        spans = [*_joined(sorted(self._wrong_spans))]
        texts = [
            f"{first}" if first == last else f"{first} to {last}"
            for first, last in spans[:SPANS_TOLD]
        ]
        more = ["and others"] if len(spans) > SPANS_TOLD else []
        counted = "1 wrong chunk" if self.wrong == 1 else f"{self.wrong} wrong chunks"
        return f"{counted}: {', '.join([*texts, *more])}"

    def release(self) -> None:
        """Forget the leaf hashes, which may be 64 MiB; `open` gets them once more."""
        self.hashes = None

    def _lose(self, why: Exception) -> None:
        self.lost = True
        self.release()
        self._tell(str(why))

    def _tell(self, detail: str) -> None:
        if detail not in self._details and len(self._details) < DETAILS_TOLD:
            self._details.append(detail)


class Group:
    """The fragments of one manifest, wherever they are."""

    def __init__(self, manifest: Manifest, sources: Sequence[Source], compute: Compute) -> None:
        self.manifest = manifest
        self.sources: Sequence[Source] = [
            source for source in sources if source.key.index < len(manifest.roots)
        ]
        self._compute = compute

    @property
    def indexes(self) -> int:
        """How many different fragments there are."""
        return len({source.key.index for source in self.sources})

    @property
    def stores(self) -> int:
        """How many stores name one of them."""
        return len({source.name for source in self.sources})

    def share(self) -> None:
        """Hold the leaf hashes of each fragment once, however many stores gave them."""
        known: dict[int, bytes] = {}
        for source in self.sources:
            if source.hashes is not None:
                source.hashes = known.setdefault(source.key.index, source.hashes)

    def release(self) -> None:
        """Forget the leaf hashes of all."""
        for source in self.sources:
            source.release()

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
            given = await all_of(it.chunks(self.manifest, run) for it in asking)
            self.share()
            found += (piece for piece in given if piece is not None and any(piece.good))

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
            await all_of(source.open(self.manifest) for source in asking)
            self.share()
            known |= {it.key.index: it.hashes for it in asking if it.hashes is not None}
        _, hashes = await self._compute(encode_run, data, self.manifest.layout, run)
        return all(run_hashes(known[index], run) == hashes[index] for index in known)

    def _next(self, asked: set[Source], have: set[int], number: int) -> list[Source]:
        """Whom to ask next: other fragments before copies of those that we have, data before
        parity, and whoever gave a wrong chunk, or lately nothing, last."""
        able = [source for source in self.sources if not source.lost and source not in asked]
        able.sort(key=lambda it: (it.key.index in have, it.wrong + it.failures > 0, it.key.index))
        first: dict[int, Source] = {}
        for source in able:
            first.setdefault(source.key.index, source)
        return list(first.values())[:number]

    def _not_enough(self, lacks: int, begin: int) -> None:
        needed = self.manifest.layout.shape.data
        raise NotEnough(
            f"{needed - lacks} good chunks of the {needed} that the stripe at byte {begin} needs"
        )


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted spans, those that touch as one."""
    begin, last = -1, -2
    for first, end in spans:
        if first > last + 1:
            if last >= begin:
                yield begin, last
            begin = first
        last = max(last, end)
    if last >= begin:
        yield begin, last


def run_hashes(hashes: bytes, run: Run) -> bytes:
    """A fragment's leaf hashes of a run."""
    return hashes[run.first * HASH_BYTES : (run.first + run.stripes) * HASH_BYTES]


async def find_sources(
    object_id: bytes, stores: Mapping[str, FragmentStore], compute: Compute
) -> tuple[list[Source], list[Fault]]:
    """All fragments of an object that stores name; and which stores did not answer (`Silence`), or
    name too many manifests for all of them to be looked at.

    One that does not answer in time, now or later, is not asked any more.
    """
    patient = {name: Patient(store) for name, store in stores.items()}

    async def ask(store: Readable) -> tuple[set[FragmentKey], str | None]:
        try:
            keys = await store.find(object_id)
            return {key for key in keys if is_possible(key, object_id)}, None
        except Exception as error:
            return set(), told(error)

    answers = await all_of(ask(store) for store in patient.values())
    # In the order of the stores, whichever failed first.
    faults: list[Fault] = [
        Silence(name, None, failure)
        for name, (_, failure) in zip(patient, answers, strict=True)
        if failure is not None
    ]
    found = [keys for keys, _ in answers]
    named = Counter(root for keys in found for root in {key.root for key in keys})
    sources: list[Source] = []
    for (name, store), keys in zip(patient.items(), found, strict=True):
        # Those that others name as well come first.
        roots = sorted({key.root for key in keys}, key=lambda root: (-named[root], root))
        if len(roots) > ROOTS_MAX:
            detail = f"it names {len(roots)} manifests of the object; {ROOTS_MAX} are looked at"
            faults.append(Fault(name, None, detail))
        asked = set(roots[:ROOTS_MAX])
        sources += (Source(name, store, key, compute) for key in sorted(keys) if key.root in asked)
    return sources, faults


async def grouped(
    sources: Sequence[Source], compute: Compute
) -> tuple[list[Group], list[list[Source]]]:
    """The fragments of one object in groups, and, by the root in their keys, those of which none
    has a manifest. The groups that most stores have come first, since one store may name anything;
    of these, those with most fragments."""
    by_root: dict[bytes, list[Source]] = {}
    for source in sources:
        by_root.setdefault(source.key.root, []).append(source)
    groups, unknown = [], []
    for same in by_root.values():
        for source in same:
            if (manifest := await source.manifest()) is not None:
                groups.append(Group(manifest, same, compute))
                break
        else:
            unknown.append(same)
    groups.sort(key=lambda group: (group.stores, group.indexes), reverse=True)
    return groups, unknown


def told(error: Exception) -> str:
    """What went wrong with a store: it may be anybody's, and raise anything."""
    return str(error) if isinstance(error, CitychainError) else f"{type(error).__name__}: {error}"


def is_possible(key: FragmentKey, object_id: bytes) -> bool:
    """Whether it can be of a fragment of the object."""
    return key.object_id == object_id and 0 <= key.index < FRAGMENTS_MAX


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What the calls give; none is under way any more when this ends."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sized(answer: Awaitable[object]) -> int | None:
    """A size, of a store that may give anything."""
    size = await answer
    if size is not None and not isinstance(size, int):
        raise TypeError(f"its size is no number but {type(size).__name__}")
    return size


async def _given(answer: Awaitable[object]) -> bytes:
    """What was read, of a store that may give anything."""
    data = await answer
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"what it gives is no bytes but {type(data).__name__}")
    return bytes(data)


def _has_root(hashes: bytearray, root: bytes) -> bool:
    return merkle_root(bytes(hashes)) == root
