"""Restoring an object from the stores that have its fragments, whole and wrong ones.

Fragments that name different manifests are different groups; each is tried, those that most stores
have first. What is restored is written to ``FILE.ROOT.part``, one for each manifest, and gets its
name once its hash is the object's id: wrong data is never shown. A restore that was cut off goes on
where it was: what is there already is coded once more and held to the hashes that the fragments
have.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from citychain.errors import NotFound, NotRestorable, StorageError
from citychain.fragments.layout import Run
from citychain.fragments.part import PartFile
from citychain.fragments.sources import Fault, Group, NotEnough, find_sources, grouped
from citychain.fragments.writing import Told
from citychain.ports import Compute, FragmentStore

__all__ = ["Restored", "restore_object"]

FAULTS_TOLD: Final = 8
"""In the message of an error."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and from what."""

    size: int
    root: bytes
    """Of the manifest that it was restored by."""
    resumed: int
    """Bytes that were there already and were right."""
    faults: Sequence[Fault]
    """What stores lacked or had wrong, as far as it was noticed: not every fragment is read."""


async def restore_object(
    object_id: bytes,
    stores: Mapping[str, FragmentStore],
    target: Path,
    compute: Compute,
    told: Told = lambda done, of: None,
) -> Restored:
    """Restore an object into a file; one of this name is replaced.

    Raises:
        NotFound: all stores answered, and none has a fragment of it.
        NotRestorable: too few good chunks; what was restored stays in ``FILE.ROOT.part``.
        StorageError: the file cannot be written, or another process restores into it.
    """
    sources, faults = await find_sources(object_id, stores, compute)
    if not sources and not faults:
        raise NotFound("object", object_id.hex())
    groups, _ = await grouped(sources, compute)
    parts = [(group, PartFile(target, group.manifest.root)) for group in groups]
    # A claim of more than there is room for need not be tried before others.
    parts = await compute(_those_that_fit_first, parts)
    reasons: list[str] = []
    failures: list[StorageError] = []
    for group, part in parts:
        manifest = group.manifest
        attempt = _Attempt(group, part, compute, told)
        others = [
            other for rival, other in parts if other is not part and rival.stores <= group.stores
        ]
        try:
            await compute(part.open)
            digest = await _run(attempt, others, compute)
            if digest == object_id:
                await compute(part.publish)
                faults += (fault for source in sources for fault in source.faults)
                return Restored(manifest.layout.size, manifest.root, attempt.resumed, faults)
            reasons.append(f"{_named(group)}: it is of other content")
            await compute(part.truncate, 0)
        except NotEnough as lack:
            reasons.append(f"{_named(group)}: {lack}")
        except StorageError as error:
            failures.append(error)
            reasons.append(f"{_named(group)}: {error}")
            if len(parts) > 1:  # What fills the disk may be a lie, and another needs the room.
                with suppress(StorageError):
                    await compute(part.truncate, attempt.resumed)
        finally:
            await asyncio.shield(compute(part.close))
            group.release()
    if failures and len(failures) == len(parts):
        raise failures[0]
    is_lost = not (faults or failures or any(source.unanswered for source in sources))
    faults += (fault for source in sources for fault in source.faults)
    raise NotRestorable(object_id, _explanation(reasons, faults), is_lost=is_lost)


def _those_that_fit_first(parts: list[tuple[Group, PartFile]]) -> list[tuple[Group, PartFile]]:
    def fits(item: tuple[Group, PartFile]) -> bool:
        group, part = item
        return group.manifest.layout.size <= part.room()

    return sorted(parts, key=fits, reverse=True)


async def _run(attempt: _Attempt, others: Sequence[PartFile], compute: Compute) -> bytes:
    """The hash of what a group gives. Where the disk is full, what is left of others makes room."""
    try:
        return await attempt.run()
    except StorageError:
        if not await compute(_discard, others):
            raise
    return await attempt.run()


def _discard(parts: Sequence[PartFile]) -> bool:
    return sum(part.discard() for part in parts) > 0


class _Attempt:
    """A restore by one group."""

    def __init__(self, group: Group, part: PartFile, compute: Compute, told: Told) -> None:
        self.resumed = 0
        self._group = group
        self._part = part
        self._compute = compute
        self._told = told
        self._digest = hashlib.sha256()

    async def run(self) -> bytes:
        """Fill the part file; the hash of its content. May be called again.

        Raises:
            NotEnough: what was found is in the part file.
        """
        self.resumed, self._digest = 0, hashlib.sha256()
        runs = self._group.manifest.layout.runs()
        missing = await self._resume(runs)
        await self._compute(self._part.truncate, self.resumed)
        # The next run is read while one is hashed and written.
        reading = self._read(missing)
        try:
            while reading is not None:
                data = await reading
                run, missing = missing, next(runs, None)
                reading = self._read(missing)
                assert run is not None
                await self._compute(self._take, run, data)
                self._told(run.begin + run.length, self._group.manifest.layout.size)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        return self._digest.digest()

    async def _resume(self, runs: Iterator[Run]) -> Run | None:
        """Go over what is there and is right; the first run that is missing."""
        for run in runs:
            data = await self._compute(self._part.read, run.begin, run.length)
            if len(data) < run.length or not await self._group.holds(run, data):
                return run
            await self._compute(self._digest.update, data)
            self.resumed = run.begin + run.length
            self._told(self.resumed, self._group.manifest.layout.size)
        return None

    def _read(self, run: Run | None) -> asyncio.Task[bytes] | None:
        return None if run is None else asyncio.create_task(self._group.read(run))

    def _take(self, run: Run, data: bytes) -> None:
        self._digest.update(data)
        self._part.write(run.begin, data)


def _named(group: Group) -> str:
    return f"manifest {group.manifest.root.hex()[:16]}"


def _explanation(reasons: Sequence[str], faults: Sequence[Fault]) -> str:
    told = [
        f"store {fault.store}"
        + (f", fragment {fault.key.index}" if fault.key else "")
        + f": {fault.detail}"
        for fault in faults[:FAULTS_TOLD]
    ]
    more = [f"and {len(faults) - FAULTS_TOLD} more faults"] if len(faults) > FAULTS_TOLD else []
    return "; ".join([*reasons, *told, *more]) or "no fragment has a manifest"
